"""What is on the disk?

Image files as qemu-img sees them, and the partition table, both without mounting, loop devices or root.
"""

import contextlib
import hashlib
import json
import os
import struct
import tempfile
import uuid
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pipelines.util import process

SECTOR = 512
BIOS_BOOT = uuid.UUID("21686148-6449-6e6f-744e-656564454649")
ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
ROOT_X86_64 = uuid.UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
ROOT_ARM64 = uuid.UUID("b921b045-1df0-41c3-af44-4c6f280d3fae")

_INFO_SECONDS = 60.0
_BLOCK = 2**20  # bytes
_CONVERT_SECONDS = 1800.0
_HEADER = struct.Struct("<12xII4xQQ32xQIII")  # UEFI specification 2.10, table 5.5
_ENTRY = struct.Struct("<16s16xQQ8x72s")  # table 5.6


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Partition:
    """A partition; `start` and `size` are in bytes."""

    number: int
    start: int
    size: int
    type: uuid.UUID
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PartitionTable:
    """A GPT: its partitions by their place on the disk, and what is wrong with its two copies (empty: it is sound)."""

    partitions: tuple[Partition, ...]
    problems: tuple[str, ...]


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


def digests(path: Path) -> tuple[str, str]:
    """A file's sha256 and sha512, hexadecimal, in one pass: side by side, while the next block is read."""
    sha256, sha512 = hashlib.sha256(), hashlib.sha512()
    with path.open("rb", buffering=0) as source, ThreadPoolExecutor(2) as cores:
        block = source.read(_BLOCK)
        while block:
            under_way = [cores.submit(each.update, block) for each in (sha256, sha512)]
            block = source.read(_BLOCK)
            for each in under_way:
                each.result()
    return sha256.hexdigest(), sha512.hexdigest()


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


def has_gpt(disk: Path) -> bool:
    """Whether a raw disk has a GUID partition table, sound or not."""
    with disk.open("rb") as source:
        return os.pread(source.fileno(), 8, SECTOR) == b"EFI PART"


def partition_table(disk: Path) -> PartitionTable:
    """Read a raw disk's GPT, both copies.

    Read here and not by sfdisk or sgdisk, because both fall back to the good copy of a damaged table and end with
    exit code 0; a firmware or growpart may not. ValueError when neither copy is usable.
    """
    last = disk.stat().st_size // SECTOR - 1
    with disk.open("rb") as source:
        primary, primary_problems = _copy(source.fileno(), 1, last, "primary")
        backup, backup_problems = _copy(source.fileno(), last, 1, "backup")
    if primary is None and backup is None:
        raise ValueError("there is no GUID partition table")
    problems = [*primary_problems, *backup_problems]
    if primary is not None and backup is not None and primary != backup:
        problems.append("the primary and the backup table differ")
    return PartitionTable(partitions=primary or backup or (), problems=tuple(problems))


def _copy(fd: int, sector: int, other: int, which: str) -> tuple[tuple[Partition, ...] | None, list[str]]:
    """One copy of the table, whose header is in `sector`; its partitions (None: unusable) and its problems."""
    block = os.pread(fd, SECTOR, sector * SECTOR)
    if len(block) < SECTOR or not block.startswith(b"EFI PART"):
        return None, [f"there is no {which} GPT header in sector {sector}"]
    size, crc, here, alternate, entries_at, count, entry_size, entries_crc = _HEADER.unpack_from(block)
    if zlib.crc32(block[:16] + bytes(4) + block[20:size]) != crc:
        return None, [f"the {which} GPT header has a wrong checksum"]
    problems = []
    if (here, alternate) != (sector, other):
        problems.append(f"the {which} GPT header says it is in sector {here} and the other in {alternate}")
    entries = os.pread(fd, count * entry_size, entries_at * SECTOR)
    if zlib.crc32(entries) != entries_crc:
        return None, [*problems, f"the {which} GPT's partition entries have a wrong checksum"]
    parts = (_partition(number, entries, entry_size) for number in range(count))
    return tuple(sorted((part for part in parts if part), key=lambda part: part.start)), problems


def _partition(index: int, entries: bytes, entry_size: int) -> Partition | None:
    kind, first, last, name = _ENTRY.unpack_from(entries, index * entry_size)
    if not any(kind):
        return None
    return Partition(
        number=index + 1,
        start=first * SECTOR,
        size=(last - first + 1) * SECTOR,
        type=uuid.UUID(bytes_le=kind),
        name=name.decode("utf-16-le").rstrip("\0"),
    )
