"""Locks between processes.

A lock is a file that its holder has locked with flock and that names the holder. The kernel frees it when the holder
ends, however it ends, so there are no stale locks; the name counts only while the lock is held. (filelock from PyPI has
no such names on Unix, and shared locks only by way of a database or a lease instead of flock.)
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
    """Name in locks, beside the number of this process, what it is doing: "the build of debian-cuda"."""
    _OUR_WORK.set(work)


@contextlib.contextmanager
def hold(path: Path, busy: str, *, wait: float = 0.0, waiting: str = "") -> Iterator[None]:
    """Hold a lock; HostError with `busy` after `wait` seconds. `waiting` is noted once if another process holds it.

    `{holder}` in both texts is replaced by the holder.
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
    """Hold a lock if it is free; yields whether it was. Only its holder may remove a lock's file."""
    handle = _held(path)
    with handle or contextlib.nullcontext():
        yield handle is not None


def _held(path: Path) -> IO[str] | None:
    """The lock's file, open and locked; None when another process holds it, or has just removed it."""
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
    """Lock an open file (mode a+) and write the holder's name into it; False when another process holds it."""
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
    """Become one of the users of an open file, until it is closed."""
    fcntl.flock(handle, fcntl.LOCK_SH)


def is_alone(handle: IO[bytes]) -> bool:
    """Whether there is no other user of an open file. A lock has to keep others from joining meanwhile."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def holder(path: Path) -> str | None:
    """The name of a lock's holder, None when it is free."""
    with contextlib.suppress(FileNotFoundError), path.open(encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return handle.read().strip() or "another process"
    return None
