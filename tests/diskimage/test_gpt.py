"""GUID partition tables, read from real disks."""

import os
import struct
import zlib
from pathlib import Path

import pytest

from pipelines.diskimage import gpt
from pipelines.diskimage.gpt import Partition, PartitionTable
from tests.support.disk_bytes import read_at, write_at
from tests.support.small_image import (
    ESP_START,
    MIB,
    ROOT_SIZE,
    ROOT_START,
    SIZE,
)


def test_partitions_have_types_names_and_places_in_bytes(table: PartitionTable) -> None:
    assert table.problems == ()
    assert table.partitions == (
        Partition(number=1, start=MIB, size=MIB, type=gpt.BIOS_BOOT, name="bios-boot"),
        Partition(number=2, start=ESP_START, size=ROOT_START - ESP_START, type=gpt.ESP, name="esp"),
        Partition(number=3, start=ROOT_START, size=ROOT_SIZE, type=gpt.ROOT_X86_64, name="root"),
    )


def test_a_disk_that_grew_without_its_backup_table_is_not_sound(copy: Path) -> None:
    os.truncate(copy, SIZE + MIB)
    assert gpt.partition_table(copy).problems == (
        f"the primary GPT header says it is in sector 1 and the other in {SIZE // 512 - 1}",
        f"there is no backup GPT header in sector {(SIZE + MIB) // 512 - 1}",
    )


def test_a_header_with_a_changed_byte_is_not_believed(copy: Path, table: PartitionTable) -> None:
    write_at(copy, 512 + 72, b"\x09")
    damaged = gpt.partition_table(copy)
    assert damaged.problems == ("the primary GPT header has a wrong checksum",)
    assert damaged.partitions == table.partitions


def test_two_sound_copies_that_differ_are_found(copy: Path) -> None:
    entries = bytearray(read_at(copy, 1024, 128 * 128))
    entries[56:58] = "B".encode("utf-16-le")
    write_at(copy, 1024, bytes(entries))
    header = bytearray(read_at(copy, 512, 92))
    header[88:92] = struct.pack("<I", zlib.crc32(entries))
    header[16:20] = bytes(4)
    header[16:20] = struct.pack("<I", zlib.crc32(header))
    write_at(copy, 512, bytes(header))
    assert gpt.partition_table(copy).problems == ("the primary and the backup table differ",)


def test_a_disk_without_a_table_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(bytes(MIB))
    with pytest.raises(ValueError, match="there is no GUID partition table"):
        gpt.partition_table(tmp_path / "empty")
