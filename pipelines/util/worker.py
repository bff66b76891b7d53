"""A piece of work in a process of its own.

The process is forked off this one, which receives its output and how it ended. An interrupt, or the end of this
process, ends it as it ends a command: at any point, and with its clean-up done.
"""

import contextlib
import io
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TextIO, cast

from pipelines.util import console, interrupts, locks
from pipelines.util.errors import Interrupted, PipelineError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

_PR_SET_PDEATHSIG = 1  # prctl(2)
_LIVE_SECONDS = 0.2
_LAST_SECONDS = 10.0  # for a process that has sent its last message


@dataclass(frozen=True, slots=True)
class Message:
    """A line of result, a line of progress, or the new text of a live line."""

    kind: Literal["result", "note", "live"]
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """How the work ended: exit code 0, or what failed, what to do about it, and the exit code."""

    what: str = ""
    remedy: str = ""
    exit_code: int = 0

    def error(self) -> PipelineError:
        """The failure, as an error that can be raised in this process."""
        error = PipelineError(self.what, remedy=self.remedy)
        error.exit_code = self.exit_code
        return error


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """A process and its work; `messages` can be waited for."""

    name: str
    process: "BaseProcess"
    messages: "Connection"

    def receive(self) -> Message | End:
        """Wait for the next message; the End is the last one."""
        try:
            message: Message | End = self.messages.recv()
        except (EOFError, OSError):
            message = self._killed()
        if isinstance(message, End):
            self.messages.close()
            self._wait()
        return message

    def interrupt(self) -> None:
        """Ask it to end. It cleans up first, which takes a moment; receive its messages until the End."""
        self.process.terminate()

    def kill(self) -> None:
        """End it and its programs at once. What it was making is left incomplete."""
        self.process.kill()
        self.process.join()

    def _killed(self) -> End:
        self._wait()
        code = self.process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        remedy = "The host may have run out of memory (see `dmesg`): run it again, with a smaller --jobs."
        return End(what=f"{self.name}: its process {how}", remedy=remedy, exit_code=6)

    def _wait(self) -> None:
        self.process.join(_LAST_SECONDS)
        if self.process.is_alive():
            self.kill()


def start(name: str, work: Callable[[], None], *, live: bool) -> Worker:
    """Start some work. Call it with interrupts `blocked`, so that no worker is ever forgotten."""
    from multiprocessing import get_context  # noqa: PLC0415  # slow to import, and most commands do one thing

    fork = get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    process = fork.Process(target=_do, args=(name, work, theirs, os.getpid()), kwargs={"live": live})
    process.start()
    theirs.close()
    return Worker(name=name, process=process, messages=ours)


def _do(name: str, work: Callable[[], None], sink: "Connection", parent: int, *, live: bool) -> None:
    end = End()
    show = _Live(sink) if live else None
    try:
        with _interruptible(), console.relayed(_lines(sink, "result"), _lines(sink, "note"), show):
            _end_with(parent)
            locks.introduce(f"the build of {name}")
            work()
    except PipelineError as error:
        end = End(what=error.what, remedy=error.remedy, exit_code=error.exit_code)
    except Exception:  # a bug of ours: show all of it
        end = End(what=traceback.format_exc(), exit_code=1)
    with contextlib.suppress(OSError):  # the parent may have ended
        _tell(sink, end)


def _tell(sink: "Connection", message: Message | End) -> None:
    with interrupts.blocked():  # one that is cut off would garble all that follow
        sink.send(message)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let signals through, including those that came since the fork; afterwards they are blocked again."""
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def _end_with(parent: int) -> None:
    """Be interrupted when the parent process ends, however it ends."""
    import ctypes  # noqa: PLC0415  # as above

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        raise Interrupted(signal.SIGTERM)


def _lines(sink: "Connection", kind: Literal["result", "note"]) -> TextIO:
    return cast(TextIO, _Lines(sink, kind))  # as much of one as print() needs


class _Lines(io.TextIOBase):
    """A stream whose lines are sent to another process."""

    def __init__(self, sink: "Connection", kind: Literal["result", "note"]) -> None:
        super().__init__()
        self._sink = sink
        self._kind: Literal["result", "note"] = kind
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            _tell(self._sink, Message(self._kind, line))
        return len(text)


class _Live:
    """Sends the text of a live line to another process, a few times a second."""

    def __init__(self, sink: "Connection") -> None:
        self._sink = sink
        self._shown = 0.0

    def __call__(self, text: str) -> None:
        if time.monotonic() - self._shown >= _LIVE_SECONDS:
            _tell(self._sink, Message("live", text))
            self._shown = time.monotonic()
