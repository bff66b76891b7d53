"""Small images to import: a Windows disk as far as a firmware looks at it, in every format, and broken ones.

Every file is made with qemu-img, sfdisk and mtools, as its maker would; only the NTFS is a boot sector and no more.
"""

import hashlib
import os
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.catalog.variant import Disk, Glance, Guest, Source, Variant
from tests.support.disk_bytes import write_at

MIB = 2**20
SIZE = 64 * MIB
ESP_AT, NTFS_AT = 1 * MIB, 40 * MIB
NTFS, BITLOCKER = b"\xeb\x52\x90NTFS    ", b"\xeb\x58\x90-FVE-FS-"
WINDOWS_FILES = ("EFI/BOOT/BOOTX64.EFI", "EFI/Microsoft/Boot/bootmgfw.efi")
# The least of a boot code: an endless loop.
BOOT_CODE = b"\xeb\xfe"


def gpt_disk(
    path: Path, *, files: tuple[str, ...] = WINDOWS_FILES, volume: bytes = NTFS, esp: str = "uefi", size: int = SIZE
) -> Path:
    """A raw GPT disk: an ESP with `files` (`esp: none` gives it another type), and one that begins with `volume`."""
    kind = {"uefi": "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "none": "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"}[esp]
    data = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"
    with path.open("wb") as disk:
        disk.truncate(size)
    layout = f"label: gpt\nstart=1MiB, size=36MiB, type={kind}\nstart=40MiB, size=20MiB, type={data}\n"
    run("sfdisk", "-q", str(path), given=layout)
    at = f"{path}@@{ESP_AT}"
    run("mformat", "-i", at, "-T", str(36 * MIB // 512), "-F", "::")
    made = {"::"}
    for name in files:
        for folder in reversed(Path(name).parents):
            if f"::{folder}" not in made and str(folder) != ".":
                run("mmd", "-i", at, f"::{folder}")
                made.add(f"::{folder}")
        run("mcopy", "-i", at, os.devnull, f"::{name}")
    write_at(path, NTFS_AT, volume)
    return path


def mbr_disk(path: Path, *, code: bytes = BOOT_CODE, active: bool = True, volume: bytes = NTFS) -> Path:
    """A raw disk with a master boot record and one volume."""
    with path.open("wb") as disk:
        disk.truncate(SIZE)
    write_at(path, 0, code)
    write_at(path, 446, struct.pack("<B3xB3xII", 0x80 if active else 0, 7, NTFS_AT // 512, 20 * MIB // 512))
    write_at(path, 510, b"\x55\xaa")
    write_at(path, NTFS_AT, volume)
    return path


def converted(raw: Path, kind: str, options: str = "") -> Path:
    """A raw disk in another format, in a file of its own."""
    path = raw.with_suffix(f".{kind}")
    run("qemu-img", "convert", "-O", kind, *(["-o", options] if options else []), str(raw), str(path))
    return path


def variant(image: Path, **changes: Any) -> Variant:
    """A variant that imports `image` as Windows 11; `changes` replaces parts of it or of its source and guest."""
    given: dict[str, Any] = {
        "name": "windows-vdi",
        "size": "512MiB",
        "format": "auto",
        "sha256": hashlib.sha256(image.read_bytes()).hexdigest() if image.exists() else "0" * 64,
        "path": image,
        "url": None,
        "guest": Guest(type="windows", distribution="windows", version="11"),
        "compression": "zstd",
        "properties": {},
        **changes,
    }
    return Variant(
        name=given["name"],
        kind="import",
        source=Source(path=given["path"], url=given["url"], sha256=given["sha256"], format=given["format"]),
        guest=given["guest"],
        disk=Disk(size=given["size"], compression=given["compression"]),
        glance=Glance(properties=given["properties"]),
    )


def run(*argv: str, given: str = "") -> str:
    environment: Mapping[str, str] = os.environ | {
        "MTOOLS_SKIP_CHECK": "1",
        "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
    }
    result = subprocess.run(argv, env=environment, input=given, capture_output=True, text=True, check=True, timeout=60)
    return result.stdout
