"""GUID partition table of a raw disk, read from both of its copies."""

import os
import struct
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path

SECTOR = 512
BIOS_BOOT = uuid.UUID("21686148-6449-6e6f-744e-656564454649")
ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
ROOT_X86_64 = uuid.UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
ROOT_ARM64 = uuid.UUID("b921b045-1df0-41c3-af44-4c6f280d3fae")
_HEADER = struct.Struct("<12xII4xQQ32xQIII")  # UEFI specification 2.10, table 5.5
_ENTRY = struct.Struct("<16s16xQQ8x72s")  # table 5.6


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

    @property
    def esp(self) -> Partition | None:
        """The EFI system partition."""
        return next((partition for partition in self.partitions if partition.type == ESP), None)


def has_gpt(disk: Path) -> bool:
    """Whether a raw disk has a GUID partition table, sound or not."""
    with disk.open("rb") as source:
        return os.pread(source.fileno(), 8, SECTOR) == b"EFI PART"


def partition_table(disk: Path) -> PartitionTable:
    """Read a raw disk's GPT, both copies.

    Read here and not by sfdisk or sgdisk, because both fall back to the good copy of a damaged table and exit with 0;
    a firmware or growpart may not. ValueError when neither copy is usable.
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
