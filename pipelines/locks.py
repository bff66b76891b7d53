"""Who is at it already?

A lock is a file that its holder has locked with flock and that says who it is. The kernel frees it when the holder
ends, however it ends, so there are no stale locks; the text counts only while the lock is held.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pipelines.errors import HostError


@contextlib.contextmanager
def hold(path: Path, busy: str, *, wait: float = 0.0) -> Iterator[None]:
    """Hold a lock; after `wait` seconds, HostError with `busy`, in which `{holder}` is who has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as handle:
        ends = time.monotonic() + wait
        while not take(handle, f"process {os.getpid()}"):
            if time.monotonic() >= ends:
                raise HostError(
                    busy.format(holder=holder(path) or "another process"),
                    remedy="Wait for it to end, or stop that process; then run the command again.",
                )
            time.sleep(0.1)
        yield


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


def holder(path: Path) -> str | None:
    """What the holder of a lock says about itself, None when nobody holds it."""
    if not path.exists():
        return None
    with path.open(encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return handle.read().strip() or "another process"
    return None
