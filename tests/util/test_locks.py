"""Locks name their holder while they are held, and only then."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.devcloud import manager
from pipelines.util import locks
from pipelines.util.errors import HostError


def test_a_lock_that_is_held_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        locks.hold(path, "busy"),
        pytest.raises(HostError, match=r"taken by process \d+"),
        locks.hold(path, "taken by {holder}"),
    ):
        pass
    assert locks.holder(path) is None


def test_a_lock_of_a_process_that_was_killed_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import os, pathlib, sys; from pipelines.util import locks\n"
        "with locks.hold(pathlib.Path(sys.argv[1]), ''): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, path], env={"PYTHONPATH": str(manager.ROOT)}, check=False)
    assert path.read_text().startswith("process ")
    assert locks.holder(path) is None
    with locks.hold(path, "busy"):
        assert locks.holder(path) is not None


def test_waiting_for_a_lock_ends_when_it_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import pathlib, sys, time; from pipelines.util import locks\n"
        "with locks.hold(pathlib.Path(sys.argv[1]), ''): print('held', flush=True); time.sleep(0.5)"
    )
    argv = [sys.executable, "-c", code, path]
    with subprocess.Popen(argv, env={"PYTHONPATH": str(manager.ROOT)}, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with locks.hold(path, "busy", wait=20):
            assert locks.holder(path) is not None


def test_a_lock_that_its_holders_remove_is_still_held_by_one_at_a_time(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys, time; from pipelines.util import locks\n"
        "path, ends = pathlib.Path(sys.argv[1]), time.monotonic() + 1\n"
        "while time.monotonic() < ends:\n"
        "    with locks.held_if_free(path) as ours:\n"
        "        if ours:\n"
        "            path.with_suffix('.alone').mkdir()\n"
        "            path.with_suffix('.alone').rmdir()\n"
        "            path.unlink()\n"
    )
    argv = [sys.executable, "-c", code, tmp_path / "lock"]
    others = [subprocess.Popen(argv, env={"PYTHONPATH": str(manager.ROOT)}) for _ in range(3)]
    assert [other.wait() for other in others] == [0, 0, 0]
