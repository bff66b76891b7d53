"""Cache, beside the builds, of test doubles that take long to make."""

import fcntl
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.support.paths import PROJECT

FOLDER = PROJECT / "builds" / ".standins"


def made(name: str, inputs: str, make: Callable[[Path], None]) -> Path:
    """The folder `name`-<digest of inputs>, filled by `make` when it is not there; older ones of the name go."""
    digest = hashlib.sha256(inputs.encode()).hexdigest()[:16]
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = FOLDER / f"{name}-{digest}"
    with (FOLDER / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not wanted.exists():
            for old in FOLDER.glob(f"{name}-*"):
                shutil.rmtree(old)
            half = FOLDER / f"{name}-half"
            half.mkdir()
            make(half)
            half.rename(wanted)
    return wanted
