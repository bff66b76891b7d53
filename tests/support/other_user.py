"""Being another user than the one who owns a folder."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

NOBODY = 65534


@contextlib.contextmanager
def closed(folder: Path) -> Iterator[None]:
    """Be a user who may not enter a folder: root becomes another one. Import what is needed before."""
    folder.chmod(0)
    us = os.geteuid()
    os.seteuid(NOBODY if us == 0 else us)
    try:
        yield
    finally:
        os.seteuid(us)
        folder.chmod(0o700)
