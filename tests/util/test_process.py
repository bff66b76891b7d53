"""Programs are run, watched and stopped. With real programs."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from pipelines.util import process
from pipelines.util.errors import HostError, ProgramError
from tests.support.paths import PROJECT


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pid: int) -> bool:
    """Whether a process that was sent a signal ends; the kernel may take a moment to deliver it."""
    deadline = time.monotonic() + 30
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(pid)


def wait_for(path: Path) -> str:
    """What a program writes into a file, once it has."""
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline, f"nothing in {path}"
        time.sleep(0.01)
    return path.read_text()


# What a program can read


def test_a_program_reads_what_it_is_given_and_then_the_end(tmp_path: Path) -> None:
    assert process.run(["cat"], deadline=10, stdin=b"secret").stdout == "secret"
    lines: list[str] = []
    process.stream(["cat"], deadline=10, log=tmp_path / "log", on_line=lines.append, stdin=b"x" * 60000)
    assert lines == ["x" * 60000]


def test_without_anything_to_read_it_reads_the_end_at_once() -> None:
    assert process.run(["cat"], deadline=10).stdout == ""


def test_what_a_pipe_does_not_hold_is_refused_and_never_waited_for() -> None:
    with pytest.raises(HostError, match="cannot hold 1000000 bytes"):
        process.run(["cat"], deadline=10, stdin=bytes(1000000))


# run


def test_run_returns_the_output_of_a_program() -> None:
    result = process.run(["sh", "-c", "echo out; echo err >&2"], deadline=10)
    assert (result.returncode, result.stdout, result.stderr) == (0, "out\n", "err\n")


def test_run_raises_with_the_exit_code_and_the_last_line() -> None:
    with pytest.raises(ProgramError, match=r"^sh ended with exit code 3: broken$") as caught:
        process.run(["sh", "-c", "echo first >&2; echo broken >&2; exit 3"], deadline=10)
    assert caught.value.returncode == 3


def test_run_returns_a_failure_without_check() -> None:
    assert process.run(["sh", "-c", "exit 3"], deadline=10, check=False).returncode == 3


def test_run_stops_the_whole_group_at_the_deadline(tmp_path: Path) -> None:
    script = f"sleep 60 & echo $! > {tmp_path}/pid; wait"
    with pytest.raises(ProgramError, match=r"passed its deadline: not finished after 0\.5 s") as caught:
        process.run(["sh", "-c", script], deadline=0.5)
    assert caught.value.returncode is None
    assert gone(int(wait_for(tmp_path / "pid")))


def test_a_program_that_does_not_exist_is_the_hosts_fault() -> None:
    with pytest.raises(HostError, match="cannot start no-such-program: No such file"):
        process.run(["no-such-program"], deadline=10)


def test_a_program_reads_nothing_from_our_stdin() -> None:
    assert process.run(["cat"], deadline=10).stdout == ""


def test_a_program_sees_only_the_environment_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_PASSWORD", "secret")
    said = process.run(["env"], deadline=10, env=process.environment(DIB_RELEASE="trixie")).stdout.splitlines()
    assert "DIB_RELEASE=trixie" in said
    assert "LC_ALL=C.UTF-8" in said
    assert not any("secret" in line for line in said)
    assert not any("secret" in line for line in process.run(["env"], deadline=10).stdout.splitlines())


def test_output_that_is_not_text_stays_readable() -> None:
    assert process.run(["printf", r"a\377b"], deadline=10).stdout == "a\N{REPLACEMENT CHARACTER}b"


# require


def test_require_finds_a_program_where_roots_programs_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert process.require("losetup", "mount").endswith("sbin/losetup")


def test_require_names_the_package_of_a_missing_program() -> None:
    with pytest.raises(HostError, match="no-such-program is not installed") as caught:
        process.require("no-such-program", "its-package")
    assert caught.value.remedy == "apt-get install its-package"


# stream


def test_stream_hands_on_every_line_and_keeps_it_in_the_log(tmp_path: Path) -> None:
    lines: list[str] = []
    script = r"printf 'one\n10%%\r20%%\r\n'; echo err >&2; printf 'no end'"
    process.stream(["sh", "-c", script], deadline=10, log=tmp_path / "log", on_line=lines.append)
    assert [line for line in lines if line] == ["one", "10%", "20%", "err", "no end"]
    assert (tmp_path / "log").read_bytes() == b"one\n10%\r20%\r\nerr\nno end\n"


def test_stream_appends_to_a_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("before\n")
    process.stream(["echo", "after"], deadline=10, log=tmp_path / "log", on_line=lambda _line: None)
    assert (tmp_path / "log").read_text() == "before\nafter\n"


def test_stream_returns_a_failure_as_it_is(tmp_path: Path) -> None:
    argv = ["sh", "-c", "exit 4"]
    assert process.stream(argv, deadline=10, log=tmp_path / "log", on_line=lambda _line: None).returncode == 4


def test_stream_stops_a_silent_program_at_the_deadline(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ProgramError, match="passed its deadline"):
        process.stream(["sleep", "60"], deadline=0.3, log=tmp_path / "log", on_line=lambda _line: None)
    assert time.monotonic() - started < 5


def test_stream_stops_one_that_closed_its_output_at_the_deadline(tmp_path: Path) -> None:
    argv = ["sh", "-c", "exec >&- 2>&-; exec sleep 60"]
    with pytest.raises(ProgramError, match="passed its deadline"):
        process.stream(argv, deadline=0.3, log=tmp_path / "log", on_line=lambda _line: None)


def test_an_interrupt_while_streaming_stops_the_whole_group(tmp_path: Path) -> None:
    pids: list[int] = []

    def interrupted(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process.stream(["sh", "-c", "sleep 60 & echo $!; wait"], deadline=60, log=tmp_path / "log", on_line=interrupted)
    assert gone(pids[0])


# start and stop


def test_stop_lets_a_program_end_by_itself(tmp_path: Path) -> None:
    script = (
        f"trap 'echo gently > {tmp_path}/how; exit 0' TERM; echo ready > {tmp_path}/ready; while :; do sleep 0.05; done"
    )
    child = process.start(["sh", "-c", script], log=tmp_path / "log")
    wait_for(tmp_path / "ready")
    process.stop(child)
    assert (tmp_path / "how").read_text() == "gently\n"
    assert child.returncode == 0


def test_stop_kills_one_that_ignores_sigterm_after_the_grace_period(tmp_path: Path) -> None:
    script = f"trap '' TERM; echo ready > {tmp_path}/ready; while :; do sleep 0.05; done"
    child = process.start(["sh", "-c", script], log=tmp_path / "log")
    wait_for(tmp_path / "ready")
    started = time.monotonic()
    process.stop(child, grace=0.3)
    assert child.returncode == -signal.SIGKILL
    assert 0.3 <= time.monotonic() - started < 5


def test_stop_kills_grandchildren_that_outlive_their_parent(tmp_path: Path) -> None:
    script = f"(trap '' TERM; echo $$ > {tmp_path}/ready; exec sleep 60) & echo $! > {tmp_path}/pid; wait"
    child = process.start(["sh", "-c", script], log=tmp_path / "log")
    wait_for(tmp_path / "ready")
    grandchild = int(wait_for(tmp_path / "pid"))  # the parent writes it, and ends with the stop
    process.stop(child, grace=0.3)
    assert gone(grandchild)


def test_stop_of_a_program_that_has_ended_is_no_error(tmp_path: Path) -> None:
    child = process.start(["true"], log=tmp_path / "log")
    child.wait()
    process.stop(child)
    assert child.returncode == 0


def test_start_logs_and_passes_descriptors_on(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    child = process.start(
        ["sh", "-c", f"echo said; echo through > /dev/fd/{writing}"], log=tmp_path / "log", pass_fds=[writing]
    )
    os.close(writing)
    child.wait()
    with os.fdopen(reading) as pipe:
        assert pipe.read() == "through\n"
    assert (tmp_path / "log").read_text() == "said\n"


def test_a_program_has_a_process_group_of_its_own(tmp_path: Path) -> None:
    child = process.start(["sleep", "60"], log=tmp_path / "log")
    try:
        assert os.getpgid(child.pid) == child.pid != os.getpgid(0)
    finally:
        process.stop(child)


def test_an_interrupt_while_a_program_starts_leaves_none_running(tmp_path: Path) -> None:
    """On one processor the program runs, and interrupts us, before we have its process ID."""
    script = (
        "import os, signal; from pipelines.util import process\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])\n"
        "for _ in range(10):\n"
        "    try: process.run(['sh', '-c', 'echo $$ >> started; kill -INT $PPID; exec sleep 60'], deadline=20)\n"
        "    except KeyboardInterrupt: continue\n"
        "    raise SystemExit('there was no interrupt')\n"
    )
    env = {**process.environment(), "PYTHONPATH": str(PROJECT)}
    process.run([sys.executable, "-c", script], deadline=60, env=env, cwd=tmp_path)
    started = [int(line) for line in (tmp_path / "started").read_text().split()]
    assert len(started) == 10
    assert [pid for pid in started if Path(f"/proc/{pid}").exists()] == []
