"""Several builds at the same time are as each alone. diskimage-builder is a fake on PATH."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.artifacts import store
from tests.support.command_line import inv
from tests.support.leftovers import left_behind
from tests.support.paths import FAKES, PROJECT

# Counts its calls; where DIB_MEET says so, it goes on only when so many of them have come, and where DIB_BEGUN says so,
# a second after so many builds have begun. A layer that it leaves is made from an archive that does not change.
STAND_IN = f"""#!/bin/bash
set -eu
here=$(dirname "$0")
printf "%s\\n" "$*" > "$(mktemp "$here/calls/XXXXXX")"
for ((tenths = 0; $(ls "$here/calls" | wc -l) < ${{DIB_MEET:-0}}; tenths++)); do
    [ "$tenths" -lt 200 ]
    sleep 0.1
done
begun() {{ ls "$TMP_DIR"/../../../*/*/state.json | wc -l; }}
for ((tenths = 0; $(begun) < ${{DIB_BEGUN:-0}}; tenths++)); do
    [ "$tenths" -lt 200 ]
    sleep 0.1
done
[ -z "${{DIB_BEGUN:-}}" ] || sleep 1
{FAKES}/disk-image-create "$@"
[ ! -e "$DIB_TREE.archives" ] || echo "file://$0 - $(sha256sum < "$0" | cut -d' ' -f1)" > "$DIB_TREE.archives"
"""
BASE = "    base: {distribution: debian, release: trixie}\n    disk: {size: 1GiB}\n"


@pytest.fixture(autouse=True)
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file for each run of diskimage-builder, with its arguments."""
    (tmp_path / "bin" / "calls").mkdir(parents=True)
    program = tmp_path / "bin" / "disk-image-create"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program.parent / "calls"


def catalog(tmp_path: Path, **environments: str) -> tuple[str | Path, ...]:
    """What says which images there are, each with variables of its own, and where they are built."""
    path = tmp_path / "images.yaml"
    images = (f"  {name}:\n{BASE}    environment: {{{values}}}\n" for name, values in environments.items())
    path.write_text(f"version: 1\nimages:\n{''.join(images)}")
    return ("--catalog", path, "--builds", tmp_path / "builds")


def states(tmp_path: Path) -> dict[str, list[str]]:
    root = tmp_path / "builds"
    folders = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    return {name: [build.state for build in store.builds(root, name)] for name in folders}


@pytest.mark.slow
def test_two_builds_go_on_at_the_same_time_and_the_summary_is_as_ever(tmp_path: Path) -> None:
    # An environment that only one has: no layer that they share, for which one would wait.
    both = catalog(tmp_path, a="DIB_MEET: '2', DIB_OWN: a", b="DIB_MEET: '2', DIB_OWN: b")
    ended = inv("build", "a,b", "--jobs", "2", *both)
    assert states(tmp_path) == {"a": ["complete"], "b": ["complete"]}
    assert ended.returncode == 4  # the fake's image is an empty disk
    assert "error: a 2" in ended.stderr
    assert "error: b 2" in ended.stderr
    assert "2 of 2 failed: a, b" in ended.stderr
    assert left_behind(tmp_path / "builds") == []


@pytest.mark.slow
def test_one_fails_and_the_other_is_finished(tmp_path: Path) -> None:
    both = catalog(tmp_path, a="DIB_FAKE: fail", b="DIB_OWN: b")
    ended = inv("build", "a,b", "--jobs", "2", *both)
    assert states(tmp_path) == {"a": ["failed"], "b": ["complete"]}
    assert ended.returncode == 3
    assert "does not compile for kernel 6.12" in ended.stderr
    assert "2 of 2 failed: a, b" in ended.stderr


def test_a_layer_that_two_share_is_made_once_and_the_other_notes_that_it_waits(tmp_path: Path, calls: Path) -> None:
    same = "DIB_BEGUN: '2'"
    ended = inv("build", "a,b", "--jobs", "2", *catalog(tmp_path, a=same, b=same))
    runs = sorted("with a layer" if "end-with-tree" in call.read_text() else "the rest" for call in calls.iterdir())
    assert runs == ["the rest", "the rest", "with a layer"]
    assert states(tmp_path) == {"a": ["complete"], "b": ["complete"]}
    assert "is being made by the build of" in ended.stderr


@contextmanager
def hanging(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """`inv build` of three, two at once, while diskimage-builder hangs in both; their folder is `builds`."""
    names = {name: f"DIB_FAKE: hang-install.d, DIB_OWN: {name}" for name in ("a", "b", "c")}
    # In a shell's background these tests ignore SIGINT, and what they start would, too.
    argv = ["env", "--default-signal", sys.executable, "-m", "invoke", "--search-root", str(PROJECT)]
    argv += ["build", "a,b,c", "--jobs", "2", *map(str, catalog(tmp_path, **names))]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as child:
        try:
            deadline = time.monotonic() + 30
            while [hangs(tmp_path / "builds" / name) for name in names] != [True, True, False]:
                assert time.monotonic() < deadline, states(tmp_path)
                time.sleep(0.05)
            yield child
        finally:
            child.kill()


def hangs(folder: Path) -> bool:
    return any("hanging in install.d" in log.read_text() for log in folder.glob("*/build.log"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupt_ends_both_builds_begins_no_third_and_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    with hanging(tmp_path) as command:
        command.send_signal(number)
        _, said = command.communicate(timeout=60)
    assert command.returncode == 128 + number
    assert said.count("error:") == said.count("error: interrupted") == 1
    assert states(tmp_path) == {"a": ["failed"], "b": ["failed"]}
    assert left_behind(tmp_path / "builds") == []


def test_sigkill_of_ourselves_ends_both_builds_gently(tmp_path: Path) -> None:
    with hanging(tmp_path) as command:
        command.kill()
    deadline = time.monotonic() + 60
    while states(tmp_path) != {"a": ["failed"], "b": ["failed"]}:  # they end after us
        assert time.monotonic() < deadline, states(tmp_path)
        time.sleep(0.05)
    assert left_behind(tmp_path / "builds") == []


@pytest.mark.parametrize("number", ["0", "two"])
def test_a_bad_number_of_jobs_is_a_usage_error(tmp_path: Path, number: str) -> None:
    ended = inv("build", "a", "--jobs", number, *catalog(tmp_path, a="DIB_OWN: a"))
    assert ended.returncode == 1
    assert f"--jobs {number} is not a valid number of builds" in ended.stderr
    assert not (tmp_path / "builds").exists()
