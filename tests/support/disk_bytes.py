"""Bytes of files, read and overwritten in place."""

import os
from pathlib import Path


def read_at(path: Path, offset: int, size: int) -> bytes:
    """So many bytes of a file."""
    with path.open("rb") as source:
        return os.pread(source.fileno(), size, offset)


def write_at(path: Path, offset: int, content: bytes) -> None:
    """Overwrite a part of a file."""
    with path.open("r+b") as target:
        target.seek(offset)
        target.write(content)
