"""Image files by qemu-img: described, checked, read as a raw disk, and converted to compressed qcow2.

All without mounting, loop devices or root. Every hypervisor's QEMU reads qcow2 with zlib; zstd is several times quicker
to write, a little smaller, and read by QEMU 5.1 and newer.
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

CONVERT_SECONDS = 3600.0
_INFO_SECONDS = 60.0
_READ_SECONDS = 1800.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskInfo:
    """An image file. `virtual_size` is in bytes; `compression` is zlib or zstd for qcow2, empty for other formats."""

    format: str
    virtual_size: int
    backing_file: str | None
    compression: str
    dirty: bool
    corrupt: bool


def version() -> str:
    """qemu-img's version, as it prints it, for manifests."""
    return process.run(["qemu-img", "--version"], deadline=10).stdout.splitlines()[0]


def info(path: Path) -> DiskInfo:
    """qemu-img's description of an image; ProgramError when it cannot read it."""
    argv = [_program(), "info", "--output=json", str(path)]
    found = json.loads(process.run(argv, deadline=_INFO_SECONDS).stdout)
    of_format = found.get("format-specific", {}).get("data", {})
    return DiskInfo(
        format=found["format"],
        virtual_size=found["virtual-size"],
        backing_file=found.get("full-backing-filename", found.get("backing-filename")),
        compression=of_format.get("compression-type", ""),
        dirty=found.get("dirty-flag", False),
        corrupt=of_format.get("corrupt", False),
    )


def check(path: Path) -> tuple[str, ...]:
    """What `qemu-img check` finds wrong in a qcow2 file, empty when it is sound."""
    argv = [_program(), "check", "-f", "qcow2", "--output=json", str(path)]
    result = process.run(argv, deadline=_READ_SECONDS, check=False)
    try:
        found = json.loads(result.stdout)
    except ValueError:
        return (result.stderr.strip() or f"qemu-img check ended with exit code {result.returncode}",)
    kinds = {"corruptions": "corrupted clusters", "leaks": "leaked clusters", "check-errors": "errors while checking"}
    return tuple(f"{found[kind]} {words}" for kind, words in kinds.items() if found.get(kind))


@contextlib.contextmanager
def raw(image: Path) -> Iterator[Path]:
    """A path at which the image can be read as a raw disk.

    qcow2 becomes a sparse copy beside it: the search for private keys reads every block anyway, and a copy needs no
    root, FUSE or kernel NBD, so it works in containers. The copy has no name, only an open descriptor, so the kernel
    removes it however this process ends.
    """
    found = info(image)
    if found.format == "raw":
        yield image
        return
    with tempfile.TemporaryFile(dir=image.parent) as copy:
        copy.truncate(found.virtual_size)
        path = Path(f"/proc/{os.getpid()}/fd/{copy.fileno()}")
        # -W: the order in which a sparse copy is written does not matter.
        argv = ["qemu-img", "convert", "-n", "-W", "--target-is-zero", "-f", found.format, "-O", "raw"]
        process.run([*argv, str(image), str(path)], deadline=_READ_SECONDS)
        yield path


def convert(raw: Path, target: Path, *, compression: str, deadline: float = CONVERT_SECONDS) -> None:
    """Convert a raw disk to the qcow2 file `target`. `compression` is zstd or zlib; `deadline` is in seconds.

    The target exists only when it is complete and on the disk; else BuildError.
    """
    part = target.with_name(f".{target.name}.part")
    try:
        process.run(command(raw, part, format="raw", compression=compression), deadline=deadline)
        sync(part)
        os.replace(part, target)
    except (ProgramError, OSError) as error:
        full = "No space left on device" in str(error)
        remedy = errors.DISK_FULL if full else "Report this with the last lines of the build's log."
        raise BuildError(f"{target}: the disk cannot be converted: {error}", remedy=remedy) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()


def command(source: Path, target: Path, *, format: str, compression: str) -> tuple[str, ...]:
    """The qemu-img run that converts a disk in any format to compressed qcow2; it prints its progress.

    Clusters may be written out of order (-W), since in order they would be compressed by one core alone; qemu-img
    advises against that for its scattered writes, but a compressed cluster just goes to the end of the file. Holes are
    skipped, never read.
    """
    options = f"compat=1.1,compression_type={compression}"
    argv = (_program(), "convert", "-p", "-c", "-W", "-f", format, "-O", "qcow2", "-o", options)
    return (*argv, str(source), str(target))


def sync(path: Path) -> None:
    """Wait until a file is on the disk, as qemu-img does not: a complete build must not lose its image in a crash."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _program() -> str:
    return process.require("qemu-img", "qemu-utils")
