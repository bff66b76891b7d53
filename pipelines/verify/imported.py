"""Check that a server can start from an imported disk.

Its content is its publisher's, and nothing of it runs here. But whether the firmware that the image asks for finds a
boot loader can be read from the partition table, the EFI system partition and the file systems' first sectors.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from pipelines.catalog.variant import Variant
from pipelines.diskimage import filesystem, gpt
from pipelines.util.errors import ProgramError
from pipelines.verify.check import Outcome, outcome

# The removable-media path, which firmware without any settings, as in a new server, takes (UEFI specification 2.10,
# 3.5.1.1).
_FALLBACK = {"amd64": "/EFI/BOOT/BOOTX64.EFI", "arm64": "/EFI/BOOT/BOOTAA64.EFI"}
_WINDOWS_LOADER = "/EFI/Microsoft/Boot/bootmgfw.efi"
_MBR_ENTRY = struct.Struct("<B3xB3xII")
_MBR_CODE = 440  # bytes of boot code before the disk's signature
_ACTIVE, _PROTECTIVE = 0x80, 0xEE
_NTFS, _BITLOCKER = b"NTFS    ", b"-FVE-FS-"  # at byte 3 of a volume


@dataclass(frozen=True, kw_only=True, slots=True)
class _MbrPartition:
    """An entry of a master boot record; `start` is in bytes."""

    active: bool
    type: int
    start: int


def boot_loader(raw: Path, variant: Variant) -> Outcome:
    """The firmware that the image asks for finds a boot loader on the raw disk, and Windows its file system."""
    assert variant.guest is not None  # only imports come here
    windows = variant.guest.type == "windows"
    default = "uefi" if variant.guest.architecture == "arm64" else "bios"  # Nova's
    uefi = variant.properties.get("hw_firmware_type", default) == "uefi"
    problems = _uefi_problems(raw, variant.guest.architecture, windows) if uefi else _bios_problems(raw, windows)
    if windows and not problems:
        problems = _windows_problems(raw)
    system = "Windows on NTFS" if windows else "its boot loader"
    return outcome(problems, f"{'UEFI: GPT, ESP' if uefi else 'BIOS: boot code in the first sector'}, {system}")


def _uefi_problems(raw: Path, architecture: str, windows: bool) -> list[str]:
    if not gpt.has_gpt(raw):
        return ["hw_firmware_type is uefi, but the disk has no GPT: it boots by BIOS (write hw_firmware_type: bios)"]
    table = gpt.partition_table(raw)
    if (esp := table.esp) is None:
        return [*table.problems, "there is no EFI system partition for hw_firmware_type uefi"]
    try:
        found = {path.upper() for path in filesystem.esp_files(raw, esp)}
    except ProgramError as error:
        return [*table.problems, f"the EFI system partition cannot be read: {error}"]
    wanted = [_FALLBACK[architecture], *([_WINDOWS_LOADER] if windows else [])]
    return [*table.problems, *(f"{path} is missing" for path in wanted if path.upper() not in found)]


def _bios_problems(raw: Path, windows: bool) -> list[str]:
    with raw.open("rb") as source:
        sector = source.read(gpt.SECTOR)
    if sector[-2:] != b"\x55\xaa" or not any(sector[:_MBR_CODE]):
        return ["hw_firmware_type is bios, but the first sector has no boot code (write hw_firmware_type: uefi?)"]
    entries = _mbr(sector)
    if windows and any(entry.type == _PROTECTIVE for entry in entries):
        return ["Windows on a GPT disk boots by UEFI only; write hw_firmware_type: uefi"]
    if windows and not any(entry.active for entry in entries):
        return ["no partition is marked active, so Windows' boot code finds nothing to start"]
    return []


def _windows_problems(raw: Path) -> list[str]:
    if gpt.has_gpt(raw):
        starts = [part.start for part in gpt.partition_table(raw).partitions]
    else:
        with raw.open("rb") as source:
            starts = [entry.start for entry in _mbr(source.read(gpt.SECTOR))]
    with raw.open("rb") as source:
        names = [os.pread(source.fileno(), 11, start)[3:] for start in starts]
    if _BITLOCKER in names:
        return [
            "a volume is encrypted by BitLocker, and a new server does not have its key; decrypt it before the import"
        ]
    return [] if _NTFS in names else ["no partition is NTFS, so this is not a Windows disk"]


def _mbr(sector: bytes) -> list[_MbrPartition]:
    entries = (_MBR_ENTRY.unpack_from(sector, 446 + 16 * number) for number in range(4))
    return [
        _MbrPartition(active=status == _ACTIVE, type=kind, start=start * gpt.SECTOR)
        for status, kind, start, _ in entries
        if kind
    ]
