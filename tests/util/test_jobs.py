"""Pieces of work at the same time, in real processes; builds are in test_jobs_in_processes.py."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.util import console, jobs
from pipelines.util.errors import BuildError, PipelineError, UsageError
from tests.support.paths import PROJECT

Work = Callable[[], None]


def done(work: dict[str, Work], at_once: int) -> dict[str, PipelineError | None]:
    """What became of each piece of work, in the order in which they ended."""
    became: dict[str, PipelineError | None] = {}
    with jobs.started(work, at_once) as ended:
        for name, finish in ended:
            try:
                finish()
                became[name] = None
            except PipelineError as error:
                became[name] = error
    return became


def wait_for(*paths: Path) -> None:
    deadline = time.monotonic() + 60
    while not all(path.exists() for path in paths):
        if time.monotonic() > deadline:
            raise BuildError(f"there is no {', '.join(map(str, paths))}")
        time.sleep(0.01)


def meeting(folder: Path, own: str, other: str) -> Work:
    """Work that ends only when another is at it too."""

    def work() -> None:
        (folder / own).touch()
        wait_for(folder / other)

    return work


# Side by side


def test_two_at_once_run_at_the_same_time(tmp_path: Path) -> None:
    became = done({"a": meeting(tmp_path, "a", "b"), "b": meeting(tmp_path, "b", "a")}, 2)
    assert became == {"a": None, "b": None}


def test_no_more_run_at_once_than_requested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        own = tmp_path / str(os.getpid())
        own.touch()
        time.sleep(0.1)
        console.say(str(len(list(tmp_path.iterdir()))))
        own.unlink()

    done(dict.fromkeys("abcde", work), 2)
    assert max(map(int, capsys.readouterr().out.split())) == 2


def test_one_at_a_time_is_done_in_this_process() -> None:
    processes: list[int] = []
    done(dict.fromkeys("ab", lambda: processes.append(os.getpid())), 1)
    assert processes == [os.getpid()] * 2


def test_one_alone_is_done_in_this_process() -> None:
    processes: list[int] = []
    done({"a": lambda: processes.append(os.getpid())}, 2)
    assert processes == [os.getpid()]


# Failures


def failing() -> None:
    raise BuildError("it broke", remedy="Mend it.")


def test_a_failure_is_known_at_once_and_the_others_are_done(tmp_path: Path) -> None:
    became = done({"a": lambda: wait_for(tmp_path / "end"), "b": failing, "c": (tmp_path / "end").touch}, 2)
    failure = became["b"]
    assert next(iter(became)) == "b"
    assert failure is not None
    assert (failure.what, failure.remedy, failure.exit_code) == ("it broke", "Mend it.", 3)
    assert (became["a"], became["c"]) == (None, None)


def test_a_bug_is_shown_whole_and_the_others_are_done() -> None:
    became = done({"a": lambda: print(1 / 0), "b": lambda: None}, 2)
    assert became["a"] is not None
    assert became["a"].what.startswith("Traceback")
    assert (became["a"].exit_code, became["b"]) == (1, None)


def test_who_is_killed_has_failed() -> None:
    became = done({"a": lambda: os.kill(os.getpid(), signal.SIGKILL), "b": lambda: None}, 2)
    assert became["a"] is not None
    assert became["a"].what == "a: its process was killed by signal 9"
    assert (became["a"].exit_code, became["b"]) == (6, None)


# What is seen


def test_results_come_in_the_order_in_which_they_were_requested(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def late() -> None:
        console.say("one of a")
        wait_for(tmp_path / "b")
        console.say("two of a")

    def early() -> None:
        console.say("one of b")
        (tmp_path / "b").touch()

    done({"a": late, "b": early}, 2)
    assert capsys.readouterr().out == "one of a\ntwo of a\none of b\n"


def test_results_of_who_ended_are_shown_even_if_the_others_are_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with jobs.started({"a": lambda: wait_for(tmp_path / "never"), "b": lambda: console.say("all of b")}, 2) as ended:
        next(ended)
    assert "all of b\n" in capsys.readouterr().out


def test_a_note_names_its_work_once(capsys: pytest.CaptureFixture[str]) -> None:
    def speaking() -> None:
        console.note("a: building")
        console.note("waiting\nfor a while")
        console.warn("it is old")

    done({"a": speaking, "b": lambda: None}, 2)
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if not line.startswith("b: ")] == [
        "a: building",
        "a: waiting",
        "a: for a while",
        "warning: a: it is old",
        "a: finished after 0:00",
    ]


def test_progress_is_shown_in_plain_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        with console.ticker("a") as shown:
            shown.stage("install.d/01-package-installs")

    done({"a": work, "b": lambda: None}, 2)
    assert "a  0:00  install.d/01-package-installs\n" in capsys.readouterr().err


def test_on_a_terminal_each_has_a_live_line_and_nothing_of_it_stays() -> None:
    code = """
import time
from pipelines.util import console, jobs
def work(name):
    with console.ticker(name) as shown:
        shown.stage(f"stage of {name}")
        time.sleep(0.5)
    console.say(f"result of {name}")
with jobs.started({name: lambda name=name: work(name) for name in ("one", "three")}, 2) as ended:
    list(ended)
"""
    said = on_terminal(code)
    assert re.search(r"one    \d:\d\d  stage of one\r\n", said)
    assert re.search(r"three  \d:\d\d  stage of three\r\n", said)
    assert sorted(re.sub(r"\d:\d\d", "0:00", line) for line in screen(said)) == [  # a busy host is slow
        "one: finished after 0:00",
        "result of one",
        "result of three",
        "three: finished after 0:00",
    ]


def on_terminal(code: str) -> str:
    """All that a program writes on a terminal."""
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-c", code]
    env = {"PATH": os.environ["PATH"], "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "80", "LINES": "24"}
    with subprocess.Popen(argv, stdout=theirs, stderr=theirs, stdin=theirs, env=env, cwd=PROJECT) as child:
        os.close(theirs)
        said = b""
        try:
            while piece := os.read(ours, 65536):
                said += piece
        except OSError:  # the program has ended
            pass
    os.close(ours)
    assert child.returncode == 0, said
    return said.decode()


def screen(said: str) -> list[str]:
    """The lines that stay on a terminal."""
    lines: list[str] = []
    for line in said.replace("\r", "").split("\n"):
        text = line
        while text.startswith("\x1b["):
            code, _, text = text.partition("F\x1b[J")
            del lines[-int(code.removeprefix("\x1b[")) :]
        lines.append(text)
    return [line for line in lines if line]


# How many


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", ""])
def test_a_bad_number_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="is not a valid number of builds"):
        jobs.parse_jobs(text)


def test_more_than_the_cores_are_cut_down_to_them(capsys: pytest.CaptureFixture[str]) -> None:
    cores = len(os.sched_getaffinity(0))
    assert jobs.parse_jobs("1000") == cores
    assert capsys.readouterr().err.startswith(f"--jobs 1000: this host has {cores} cores")
    assert jobs.parse_jobs(str(cores)) == cores
    assert capsys.readouterr().err == ""


# Ends


INTERRUPTIBLE = """
import sys, time
from pathlib import Path
from pipelines.cli import task
from pipelines.util import jobs, process
folder = Path(sys.argv[1])
def work(name):
    try:
        process.stream(["sh", "-c", "echo $$; exec sleep 98"], deadline=60, log=folder / name, on_line=str)
    finally:
        process.run(["rm", folder / name], deadline=10)
        time.sleep(0.1)
        (folder / f"{name}.clean").touch()
def run():
    with jobs.started({name: lambda name=name: work(name) for name in "abc"}, 2) as ended:
        for name, finish in ended:
            finish()
raise SystemExit(task.finish(run))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_interrupt_ends_all_gently_and_begins_no_more(tmp_path: Path, number: signal.Signals) -> None:
    argv = ["env", "--default-signal", sys.executable, "-c", INTERRUPTIBLE, tmp_path]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, cwd=PROJECT) as child:
        wait_for(tmp_path / "a", tmp_path / "b")
        programs = [program(tmp_path / name) for name in "ab"]
        child.send_signal(number)
        _, said = child.communicate(timeout=30)
    wait_for(tmp_path / "a.clean", tmp_path / "b.clean")  # after SIGKILL they end after us
    assert child.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    assert said == (
        ""
        if number == signal.SIGKILL
        else "error: interrupted\nremedy: Run the same command again; nothing was left behind.\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.clean", "b.clean"]
    assert not any(Path(f"/proc/{pid}").exists() for pid in programs)


def program(log: Path) -> int:
    """The number of the program that writes a log."""
    deadline = time.monotonic() + 60
    while not log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return int(log.read_text())


def test_one_who_is_interrupted_alone_interrupts_the_others(tmp_path: Path) -> None:
    argv = ["env", "--default-signal", sys.executable, "-c", INTERRUPTIBLE, tmp_path]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL, cwd=PROJECT) as child:
        wait_for(tmp_path / "a", tmp_path / "b")
        worker = int(Path(f"/proc/{program(tmp_path / 'b')}/stat").read_text().rsplit(")", 1)[1].split()[1])
        os.kill(worker, signal.SIGTERM)
        child.wait(timeout=30)
    assert child.returncode == 143
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.clean", "b.clean"]
