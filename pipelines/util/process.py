"""Running programs; the only importer of subprocess.

Programs are argv lists with an explicit environment, no stdin but what they are given, a deadline, and a process group
of their own, so that an interrupt stops all of it: SIGTERM first, SIGKILL after a grace period.
"""

import contextlib
import os
import re
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipelines.util import interrupts
from pipelines.util.errors import HostError, ProgramError

GRACE_SECONDS = 10.0

Program = subprocess.Popen[bytes]  # a started program, for type annotations elsewhere


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """How a program ended. `stdout` and `stderr` are decoded text; `seconds` is wall time."""

    returncode: int
    stdout: str
    stderr: str
    seconds: float


def environment(**extra: str) -> dict[str, str]:
    """The few variables that every program needs, in the C locale, and `extra`; no other variable of ours."""
    keep = {name: os.environ[name] for name in ("HOME", "USER", "TMPDIR") if name in os.environ}
    return {"LC_ALL": "C.UTF-8", "PATH": search_path(), **keep, **extra}


def search_path() -> str:
    """PATH and the folders of root's programs, which are not in an ordinary user's PATH."""
    return os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"


def require(program: str, package: str) -> str:
    """The path of a program, also in the folders of root's programs; HostError with the remedy when it is missing."""
    path = shutil.which(program, path=search_path())
    if path is None:
        raise HostError(f"{program} is not installed on this host", remedy=f"apt-get install {package}")
    return path


def run(
    argv: Sequence[str],
    *,
    deadline: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes = b"",
    check: bool = True,
) -> Result:
    """Run a short program and collect its output. `deadline` is in seconds; `stdin` has 64 KiB at most.

    Raises ProgramError when it ends with an exit code other than 0 (unless `check` is false) or passes the deadline,
    and HostError when it cannot be started.
    """
    started = time.monotonic()
    with _running(argv, env, subprocess.PIPE, cwd=cwd, stdin=stdin) as child:
        try:
            out, err = child.communicate(timeout=deadline)
        except subprocess.TimeoutExpired:
            raise ProgramError(tuple(argv), None, f"not finished after {deadline:g} s") from None
    result = Result(
        returncode=child.returncode,
        stdout=out.decode(errors="replace"),
        stderr=err.decode(errors="replace"),
        seconds=time.monotonic() - started,
    )
    if check and result.returncode != 0:
        raise ProgramError(tuple(argv), result.returncode, result.stderr or result.stdout)
    return result


def stream(
    argv: Sequence[str],
    *,
    deadline: float,
    log: Path,
    on_line: Callable[[str], None],
    on_idle: Callable[[], None] = lambda: None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes = b"",
    umask: int = -1,
) -> Result:
    """Run a long program; every line of stdout and stderr goes to `log` and to `on_line` as it comes.

    `on_idle` is called about once a second while it prints nothing. `stdin` has 64 KiB at most (what a pipe holds).
    `umask` is ours where none is given.

    Returns whatever the exit code is (`stdout` and `stderr` are empty: read the log). Raises ProgramError when the
    deadline, in seconds, passes. An exception, an interrupt included, stops the whole process group first.
    """
    started = time.monotonic()
    with log.open("ab") as sink, _running(argv, env, subprocess.STDOUT, cwd=cwd, stdin=stdin, umask=umask) as child:
        try:
            for line in _lines(child, started + deadline, on_idle):
                sink.write(line)
                sink.flush()
                on_line(line.decode(errors="replace").rstrip("\r\n"))
            child.wait(timeout=max(0.1, started + deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise ProgramError(tuple(argv), None, f"not finished after {deadline:g} s") from None
    return Result(returncode=child.returncode, stdout="", stderr="", seconds=time.monotonic() - started)


def start(
    argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, pass_fds: Sequence[int] = ()
) -> Program:
    """Start a program that keeps running (a server, a virtual machine) with its output in `log`; end it with `stop`."""
    with log.open("ab") as sink:
        return _started(argv, env, subprocess.STDOUT, stdout=sink, pass_fds=pass_fds)


def stop(child: Program, grace: float = GRACE_SECONDS) -> None:
    """End a program and its process group: SIGTERM, up to `grace` seconds, then SIGKILL."""
    _signal_group(child, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=grace)
    _signal_group(child, signal.SIGKILL)
    child.wait()
    _wait_for_group(child)


@contextlib.contextmanager
def _running(
    argv: Sequence[str],
    env: Mapping[str, str] | None,
    stderr: int,
    *,
    cwd: Path | None,
    stdin: bytes,
    umask: int = -1,
) -> Iterator[Program]:
    """A program that is stopped when anything is raised, an interrupt included."""
    with _started(argv, env, stderr, cwd=cwd, stdin=stdin, umask=umask) as child:
        try:
            yield child
        except BaseException:
            stop(child)
            raise


def _started(
    argv: Sequence[str],
    env: Mapping[str, str] | None,
    stderr: int,
    *,
    stdout: int | IO[bytes] = subprocess.PIPE,
    cwd: Path | None = None,
    stdin: bytes = b"",
    pass_fds: Sequence[int] = (),
    umask: int = -1,
) -> Program:
    """A program that was started; stopped again if an interrupt came meanwhile."""
    child: Program | None = None
    source = _readable(stdin) if stdin else None
    try:
        with interrupts.delayed():  # one within Popen would lose the process ID of a running program
            child = subprocess.Popen(
                list(argv),
                env=dict(environment() if env is None else env),
                cwd=cwd,
                stdin=subprocess.DEVNULL if source is None else source,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                pass_fds=tuple(pass_fds),
                umask=umask,
            )
    except OSError as error:
        raise HostError(f"cannot start {argv[0]}: {error.strerror}", remedy="Run `./inv doctor`.") from error
    except BaseException:
        if child is not None:
            stop(child)
        raise
    finally:
        if source is not None:
            os.close(source)
    return child


def _readable(content: bytes) -> int:
    """The end of a pipe from which a program can read some bytes once; they are stored nowhere else."""
    source, sink = os.pipe()
    os.set_blocking(sink, False)
    try:
        if os.write(sink, content) == len(content):
            return source
    except OSError:
        pass
    finally:
        os.close(sink)
    os.close(source)
    raise HostError(f"a pipe on this host cannot hold {len(content)} bytes", remedy="Use shorter secrets.")


def _lines(child: Program, deadline: float, on_idle: Callable[[], None]) -> Iterator[bytes]:
    """A child's lines (progress meters end them with a carriage return); TimeoutExpired at the monotonic deadline."""
    assert child.stdout is not None
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(child.args, deadline)
            if not selector.select(timeout=min(left, 1.0)):
                on_idle()
                continue
            chunk = os.read(child.stdout.fileno(), 65536)
            if not chunk:
                break
            *lines, pending = re.split(rb"(?<=[\r\n])", pending + chunk)
            yield from lines
    if pending:
        yield pending + b"\n"


def _wait_for_group(child: Program) -> None:
    """Wait until killed programs without a parent have ended; not for ever, since some init leaves zombies."""
    ends = time.monotonic() + 2.0
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < ends:
            with contextlib.suppress(PermissionError):  # it exists, and is root's
                os.killpg(child.pid, 0)
            time.sleep(0.01)


def _signal_group(child: Program, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        try:
            os.killpg(child.pid, number)
        except PermissionError:  # a group that sudo started is root's
            argv = ["sudo", "-n", "kill", f"-{int(number)}", "--", f"-{child.pid}"]
            subprocess.run(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, timeout=10)


def proxies() -> dict[str, str]:
    """The variables of our environment that name proxies, for programs that download."""
    return {name: os.environ[name] for name in ("http_proxy", "https_proxy", "no_proxy") if name in os.environ}


def as_root() -> tuple[str, ...]:
    """The words before a command that needs root: none for root, else sudo's."""
    return () if os.geteuid() == 0 else ("sudo", "-n", "--preserve-env")
