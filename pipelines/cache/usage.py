"""Use of cached things: shared by readers, exclusive for removal, and counted.

Each cached thing has a small file. It grows by one byte with each use, so its size is the number of uses and its time
that of the last one. Readers hold a shared flock on it, which the kernel releases however they end; only a process with
the exclusive lock may remove the thing.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO


@dataclass(frozen=True, kw_only=True, slots=True)
class Uses:
    """How often something was used, and when last (when it was made, if never)."""

    hits: int
    last: datetime


@contextlib.contextmanager
def shared(path: Path) -> Iterator[bool]:
    """Use it, so that no other process can remove it meanwhile; yields False when it is gone."""
    with _locked(path, fcntl.LOCK_SH) as handle:
        yield handle is not None


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[bool]:
    """Keep others from using it; yields False when it is gone or in use."""
    with _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB) as handle:
        yield handle is not None


def count(path: Path) -> None:
    """Count a use, unless it is gone."""
    with contextlib.suppress(FileNotFoundError), path.open("ab") as sink:
        sink.write(b".")


def start(path: Path) -> None:
    """Start counting for something new."""
    path.touch()


def of(path: Path, made_at: datetime) -> Uses:
    """The uses so far; `made_at` where none was counted."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return Uses(hits=0, last=made_at)
    return Uses(hits=found.st_size, last=datetime.fromtimestamp(found.st_mtime, UTC))


@contextlib.contextmanager
def _locked(path: Path, how: int) -> Iterator[IO[bytes] | None]:
    """The open file, locked; None when its folder is gone, or it is in use, or it was removed before it was locked."""
    with contextlib.ExitStack() as opened:
        try:
            handle = opened.enter_context(path.open("a+b"))
            fcntl.flock(handle, how)
            current = os.path.samestat(os.fstat(handle.fileno()), path.stat())
        except (BlockingIOError, FileNotFoundError, NotADirectoryError):
            current = False
        yield handle if current else None
