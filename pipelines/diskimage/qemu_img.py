"""What is on the disk?

Image files as qemu-img sees them, and the partition table, both without mounting, loop devices or root.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.util import errors, process
from pipelines.util.errors import BuildError, ProgramError

_INFO_SECONDS = 60.0
_CONVERT_SECONDS = 1800.0


DEADLINE_SECONDS = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskInfo:
    """An image file. Sizes are in bytes; `compression` is zlib or zstd for qcow2, empty for other formats."""

    format: str
    virtual_size: int
    actual_size: int
    backing_file: str | None
    compression: str
    dirty: bool
    corrupt: bool


def version() -> str:
    """What qemu-img says of its version, for manifests."""
    return process.run(["qemu-img", "--version"], deadline=10).stdout.splitlines()[0]


def info(path: Path) -> DiskInfo:
    """What qemu-img says of an image; ProgramError when it cannot read it."""
    qemu_img = process.require("qemu-img", "qemu-utils")
    said = json.loads(process.run([qemu_img, "info", "--output=json", str(path)], deadline=_INFO_SECONDS).stdout)
    own = said.get("format-specific", {}).get("data", {})
    return DiskInfo(
        format=said["format"],
        virtual_size=said["virtual-size"],
        actual_size=said["actual-size"],
        backing_file=said.get("full-backing-filename", said.get("backing-filename")),
        compression=own.get("compression-type", ""),
        dirty=said.get("dirty-flag", False),
        corrupt=own.get("corrupt", False),
    )


def check(path: Path) -> tuple[str, ...]:
    """What `qemu-img check` finds wrong in a qcow2 file, empty when it is sound."""
    qemu_img = process.require("qemu-img", "qemu-utils")
    argv = [qemu_img, "check", "-f", "qcow2", "--output=json", str(path)]
    result = process.run(argv, deadline=_CONVERT_SECONDS, check=False)
    try:
        said = json.loads(result.stdout)
    except ValueError:
        return (result.stderr.strip() or f"qemu-img check ended with exit code {result.returncode}",)
    kinds = {"corruptions": "corrupted clusters", "leaks": "leaked clusters", "check-errors": "errors while checking"}
    return tuple(f"{said[kind]} {words}" for kind, words in kinds.items() if said.get(kind))


@contextlib.contextmanager
def raw(image: Path) -> Iterator[Path]:
    """A path at which the image is readable as a raw disk.

    qcow2 becomes a sparse copy beside it: the search for private keys reads every block anyway, and a copy needs no
    root, FUSE or kernel NBD, so it works in containers. The copy has no name, only an open descriptor, so the kernel
    removes it however we end.
    """
    found = info(image)
    if found.format == "raw":
        yield image
        return
    with tempfile.TemporaryFile(dir=image.parent) as copy:
        copy.truncate(found.virtual_size)
        path = Path(f"/proc/{os.getpid()}/fd/{copy.fileno()}")
        # -W: nobody minds in which order a sparse copy is written.
        argv = ["qemu-img", "convert", "-n", "-W", "--target-is-zero", "-f", found.format, "-O", "raw"]
        process.run([*argv, str(image), str(path)], deadline=_CONVERT_SECONDS)
        yield path


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
        errors.DISK_FULL if "No space left on device" in said else "Report this with the last lines of the build's log."
    )
