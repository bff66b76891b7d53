"""Who is at it already?

A lock is a file that its holder has locked with flock and that says who it is. The kernel frees it when the holder
ends, however it ends, so there are no stale locks; the text counts only while the lock is held.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import IO

from pipelines.util import console
from pipelines.util.errors import HostError

_OUR_WORK: ContextVar[str] = ContextVar("our work", default="")


def introduce(work: str) -> None:
    """Locks say from now on, beside the number of this process, what it is at: "the build of debian-cuda"."""
    _OUR_WORK.set(work)


@contextlib.contextmanager
def hold(path: Path, busy: str, *, wait: float = 0.0, waiting: str = "") -> Iterator[None]:
    """Hold a lock; after `wait` seconds, HostError with `busy`. `waiting` is said once when somebody else has it.

    `{holder}` in either is who has it.
    """
    ends = time.monotonic() + wait
    while (handle := _held(path)) is None:
        other = holder(path)
        if time.monotonic() >= ends:
            raise HostError(
                busy.format(holder=other or "another process"),
                remedy="Wait for it to end, or stop that process; then run the command again.",
            )
        if waiting and other:
            console.note(waiting.format(holder=other))
            waiting = ""
        time.sleep(0.1)
    with handle:
        yield


@contextlib.contextmanager
def held_if_free(path: Path) -> Iterator[bool]:
    """Hold a lock if nobody else has it; whether we do. Only who holds a lock may remove its file."""
    handle = _held(path)
    with handle or contextlib.nullcontext():
        yield handle is not None


def _held(path: Path) -> IO[str] | None:
    """The lock's file, open and locked; None when somebody else has it, or removed it just now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = path.open("a+", encoding="utf-8")
    with contextlib.suppress(FileNotFoundError):
        if take(handle, _ourselves()) and os.path.samestat(os.fstat(handle.fileno()), path.stat()):
            return handle
    handle.close()
    return None


def _ourselves() -> str:
    process, work = f"process {os.getpid()}", _OUR_WORK.get()
    return f"{work} ({process})" if work else process


def take(handle: IO[str], text: str) -> bool:
    """Lock an open file (mode a+) and write who holds it; False when somebody else has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    handle.seek(0)
    handle.truncate()
    handle.write(text)
    handle.flush()
    return True


def join(handle: IO[bytes]) -> None:
    """Be one of those who use an open file, until it is closed."""
    fcntl.flock(handle, fcntl.LOCK_SH)


def is_alone(handle: IO[bytes]) -> bool:
    """Whether nobody else uses an open file. Whoever is about to join has to be kept out meanwhile, by a lock."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def holder(path: Path) -> str | None:
    """What the holder of a lock says about itself, None when nobody holds it."""
    with contextlib.suppress(FileNotFoundError), path.open(encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return handle.read().strip() or "another process"
    return None
