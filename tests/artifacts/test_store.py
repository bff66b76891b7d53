"""Builds on disk: their folders, states, IDs and locks."""

import os
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from pipelines.artifacts.store import build_id, builds, built_at, lock, newest_complete, set_state
from pipelines.util import locks, process
from pipelines.util.errors import HostError, UsageError
from tests.support.paths import PROJECT


def make_build(root: Path, name: str, state: str, variant: str = "debian-cuda") -> Path:
    folder = root / variant / name
    folder.mkdir(parents=True)
    set_state(folder, state)
    return folder


def test_build_ids_sort_by_time_wherever_they_are_made() -> None:
    earlier = datetime(2026, 11, 22, 12, 0, tzinfo=timezone(timedelta(hours=9)))
    later = datetime(2026, 11, 22, 4, 0, tzinfo=UTC)
    assert build_id(earlier, "f" * 64) == "20261122T030000Z-ffffffff"
    assert build_id(earlier, "f" * 64) < build_id(later, "0" * 64)


def test_a_build_id_tells_when_the_build_was_started() -> None:
    started = datetime(2026, 11, 22, 12, 0, 7, tzinfo=timezone(timedelta(hours=9)))
    assert built_at(build_id(started, "f" * 64)) == started


@pytest.mark.parametrize("name", ["", "notes", "20261322T030000Z-ffffffff"])
def test_another_name_tells_no_time(name: str) -> None:
    assert built_at(name) is None


def test_builds_are_listed_oldest_first_with_their_state(tmp_path: Path) -> None:
    make_build(tmp_path, "20261123T000000Z-b", "complete")
    make_build(tmp_path, "20261122T000000Z-a", "failed")
    make_build(tmp_path, "20261124T000000Z-c", "complete", variant="other")
    (tmp_path / "debian-cuda" / "notes").mkdir()
    assert [(build.build_id, build.state) for build in builds(tmp_path, "debian-cuda")] == [
        ("20261122T000000Z-a", "failed"),
        ("20261123T000000Z-b", "complete"),
    ]


def test_a_variant_never_built_has_no_builds(tmp_path: Path) -> None:
    assert builds(tmp_path, "debian-cuda") == []


def test_a_running_build_whose_lock_is_free_is_a_leftover(tmp_path: Path) -> None:
    make_build(tmp_path, "20261122T000000Z-a", "running")
    with lock(tmp_path, "debian-cuda"):
        assert builds(tmp_path, "debian-cuda")[0].state == "running"
    assert builds(tmp_path, "debian-cuda")[0].state == "leftover"


def test_a_build_with_a_damaged_state_has_failed_with_the_reason(tmp_path: Path) -> None:
    folder = make_build(tmp_path, "20261122T000000Z-a", "complete")
    (folder / "state.json").write_text("{")
    (build,) = builds(tmp_path, "debian-cuda")
    assert build.state == "failed"
    assert "cannot be used" in build.detail


def test_the_newest_complete_build_is_taken_and_no_other(tmp_path: Path) -> None:
    for name, state in (("1-a", "complete"), ("2-b", "complete"), ("3-c", "failed"), ("4-d", "running")):
        make_build(tmp_path, name, state)
    assert newest_complete(tmp_path, "debian-cuda").build_id == "2-b"
    assert newest_complete(tmp_path, "debian-cuda", "1-a").build_id == "1-a"


def test_a_wanted_build_that_is_not_complete_is_never_replaced_by_another(tmp_path: Path) -> None:
    make_build(tmp_path, "1-a", "complete")
    make_build(tmp_path, "2-b", "failed")
    with pytest.raises(UsageError, match="no complete build 2-b of debian-cuda"):
        newest_complete(tmp_path, "debian-cuda", "2-b")


def test_without_a_complete_build_the_remedy_is_to_build(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        newest_complete(tmp_path, "debian-cuda")
    assert caught.value.remedy == "Run `./inv build debian-cuda` first."


# The lock


def holder_of(root: Path, variant: str) -> str | None:
    return locks.holder(root / variant / ".lock")


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[process.Program]:
    """Another process that holds the lock of debian-cuda below tmp_path."""
    script = (
        "import pathlib, sys, time; from pipelines.artifacts import store\n"
        "with store.lock(pathlib.Path(sys.argv[1]), 'debian-cuda'): print('held', flush=True); time.sleep(60)"
    )
    env = {**process.environment(), "PYTHONPATH": str(PROJECT)}
    child = process.start([sys.executable, "-c", script, str(tmp_path)], log=tmp_path / "log", env=env)
    while "held" not in (tmp_path / "log").read_text():
        assert child.poll() is None, (tmp_path / "log").read_text()
    yield child
    process.stop(child)


def test_a_second_build_of_a_variant_is_refused_and_names_the_first(tmp_path: Path, holder: process.Program) -> None:
    said = f"debian-cuda is already being built by process {holder.pid}"
    with pytest.raises(HostError, match=said), lock(tmp_path, "debian-cuda"):
        raise AssertionError("it was locked twice")
    assert holder_of(tmp_path, "debian-cuda") == f"process {holder.pid}"


def test_another_variant_is_not_locked(tmp_path: Path, holder: process.Program) -> None:
    with lock(tmp_path, "debian-base"):
        assert holder_of(tmp_path, "debian-base") == f"process {os.getpid()}"
    assert holder.poll() is None


def test_a_holder_that_is_killed_holds_nothing(tmp_path: Path, holder: process.Program) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert holder_of(tmp_path, "debian-cuda") is None
    with lock(tmp_path, "debian-cuda"):
        assert holder_of(tmp_path, "debian-cuda") == f"process {os.getpid()}"


def test_asking_who_holds_a_lock_makes_none(tmp_path: Path) -> None:
    assert holder_of(tmp_path, "debian-cuda") is None
    assert list(tmp_path.iterdir()) == []
