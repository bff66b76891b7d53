"""Who uses what is kept, and when was it used last?

A small file stands for each kept thing. It grows by one byte with each use, so its size is the number of uses and its
time the last one. Who uses the thing has the file locked with flock, which the kernel undoes however they end; who
wants to remove the thing must be alone with it.
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
    """How often something was used, and when last (or made, if never)."""

    hits: int
    last: datetime


@contextlib.contextmanager
def shared(path: Path) -> Iterator[bool]:
    """Use it together with others, who cannot remove it meanwhile; False when it is gone."""
    with _locked(path, fcntl.LOCK_SH) as handle:
        yield handle is not None


@contextlib.contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Have it alone; False when it is gone, or somebody uses it."""
    with _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB) as handle:
        yield handle is not None


def count(path: Path) -> None:
    """It was used once more. What is gone meanwhile has no uses to count."""
    with contextlib.suppress(FileNotFoundError), path.open("ab") as sink:
        sink.write(b".")


def begin(path: Path) -> None:
    """It is new: not used yet, and no older than now."""
    path.touch()


def of(path: Path, made_at: datetime) -> Uses:
    """The uses so far; `made_at` is for what nobody has counted yet."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return Uses(hits=0, last=made_at)
    return Uses(hits=found.st_size, last=datetime.fromtimestamp(found.st_mtime, UTC))


@contextlib.contextmanager
def _locked(path: Path, how: int) -> Iterator[IO[bytes] | None]:
    """The open file, locked; None when its folder is gone, somebody holds it, or it was removed before we had it."""
    with contextlib.ExitStack() as opened:
        try:
            handle = opened.enter_context(path.open("a+b"))
            fcntl.flock(handle, how)
            there = os.path.samestat(os.fstat(handle.fileno()), path.stat())
        except (BlockingIOError, FileNotFoundError, NotADirectoryError):
            there = False
        yield handle if there else None
