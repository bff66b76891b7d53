"""How does a raw disk become the artifact?

By qemu-img, as compressed qcow2, on several cores. Every hypervisor's QEMU reads zlib; zstd is several times quicker to
write, a little smaller, and read by QEMU 5.1 and newer.
"""

import contextlib
import os
from pathlib import Path

from pipelines.preflight import disk_space
from pipelines.util import process
from pipelines.util.errors import BuildError, ProgramError

DEADLINE_SECONDS = 3600.0


def convert(raw: Path, target: Path, *, compression: str, deadline: float = DEADLINE_SECONDS) -> None:
    """Make the qcow2 file `target` of a raw disk. `compression` is zstd or zlib; `deadline` is in seconds.

    The target is whole and on the disk when it has its name, or it is not there: then BuildError says why.
    """
    part = target.with_name(f".{target.name}.part")
    try:
        process.run(command(raw, part, format="raw", compression=compression), deadline=deadline)
        sync(part)
        os.replace(part, target)
    except (ProgramError, OSError) as error:
        raise BuildError(f"{target}: the disk cannot be converted: {error}", remedy=_remedy(str(error))) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()


def sync(path: Path) -> None:
    """Wait until a file is on the disk, as qemu-img does not: no manifest that says complete outlives its image."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def command(source: Path, target: Path, *, format: str, compression: str) -> tuple[str, ...]:
    """The qemu-img run that makes a compressed qcow2 of a disk in any format; it prints how far it is.

    Clusters may be written out of order (-W), since one after the other they would be compressed by one core alone;
    qemu-img advises against that for its scattered writes, but a compressed cluster just goes to the end of the file.
    Holes are skipped, never read.
    """
    qemu_img = process.require("qemu-img", "qemu-utils")
    options = f"compat=1.1,compression_type={compression}"
    return (qemu_img, "convert", "-p", "-c", "-W", "-f", format, "-O", "qcow2", "-o", options, str(source), str(target))


def _remedy(said: str) -> str:
    return (
        disk_space.FULL if "No space left on device" in said else "Report this with the last lines of the build's log."
    )
