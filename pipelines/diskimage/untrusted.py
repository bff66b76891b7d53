"""Examination of an image file from outside, before any program opens it.

Its first bytes tell what it is and whether it is complete. They are read here and not by qemu-img, which opens any
other file that an image refers to; qemu-img sees only what has passed.
"""

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from pipelines.util import process
from pipelines.util.errors import BuildError, ProgramError

_SECONDS = 1800.0
_SMALLEST = 2**20  # bytes: a partition table and its first partition
_HEAD = 1024
_MAGIC = {
    b"QFI\xfb": "qcow2",
    b"vhdxfile": "vhdx",
    b"KDMV": "vmdk",
    b"# Disk DescriptorFile": "vmdk",
    b"COWD": "vmdk",
}
_PACKED = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\3\4": "zip", b"7z\xbc\xaf": "7z"}
_OTHERS = {
    b"LUKS\xba\xbe": "a LUKS-encrypted disk",
    b"conectix": "a VHD; convert it to VHDX",
    b"<<< Oracle": "a VirtualBox image; convert it to VMDK or qcow2",
}
# qcow2's header (QEMU's docs/interop/qcow2.txt): backing_file_offset, crypt_method and, from version 3 on,
# incompatible_features with these bits.
_QCOW2 = struct.Struct(">4sIQ16xI36xQ")
_DIRTY, _CORRUPT, _DATA_FILE = 1, 2, 4
# A sparse VMDK's header (VMware's Virtual Disk Format 5.0): where its descriptor is, and how long, in sectors.
_VMDK = struct.Struct("<4s24xQQ")


@dataclass(frozen=True, kw_only=True, slots=True)
class UntrustedImage:
    """An image from outside that can be imported: its format by qemu-img's name, and its size as a disk in bytes."""

    path: Path
    format: str
    virtual_size: int


def examine(path: Path, declared: str) -> UntrustedImage:
    """What the file is; `declared` is its format or auto. BuildError with the reason when it cannot be imported."""
    with path.open("rb") as source:
        head = source.read(_HEAD)
        found = _format(path, head, declared)
        problems = _FAULTS[found](head, source.fileno()) if found in _FAULTS else []
    if problems:
        raise _refusal(path, f"this {found} image {'; '.join(problems)}")
    size = _virtual_size(path, found)
    if size < _SMALLEST:
        raise _refusal(path, f"a disk of {size} bytes is too small for an image")
    return UntrustedImage(path=path, format=found, virtual_size=size)


def _format(path: Path, head: bytes, declared: str) -> str:
    packed = next((name for magic, name in _PACKED.items() if head.startswith(magic)), None)
    if packed is not None:
        remedy = "Decompress it, and write the checksum of the decompressed file."
        raise _refusal(path, f"it is compressed with {packed}", remedy)
    other = next((name for magic, name in _OTHERS.items() if head.startswith(magic)), None)
    if other is not None:
        raise _refusal(path, f"it is {other}")
    found = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "raw")
    if declared == "auto" and found == "raw":
        remedy = "If it is a raw disk, write `format: raw`; any file could be one."
        raise _refusal(path, "it is neither qcow2 nor vhdx nor vmdk", remedy)
    if declared not in {"auto", found}:
        raise _refusal(path, f"it is {found}, not {declared} as declared", "Correct `source.format`.")
    return found


def _qcow2_faults(head: bytes, _: int) -> list[str]:
    """Why a qcow2 file is not a complete disk by itself."""
    if len(head) < _QCOW2.size:
        return ["is truncated"]
    _, version, backing, encryption, features = _QCOW2.unpack_from(head)
    features = features if version >= 3 else 0
    faults = {
        "needs a backing file": backing,
        "is encrypted": encryption,
        "was not closed properly (its dirty flag is set)": features & _DIRTY,
        "is marked as corrupt": features & _CORRUPT,
        "keeps its data in another file": features & _DATA_FILE,
    }
    return [what for what, found in faults.items() if found]


def _vmdk_faults(head: bytes, fd: int) -> list[str]:
    """Why a VMDK file is not a complete disk by itself, from its descriptor, which is text."""
    if not head.startswith(b"KDMV"):
        return ["is a description of several files; convert it to a single one (ovftool, qemu-img)"]
    _, start, length = _VMDK.unpack_from(head)
    descriptor = _read(fd, start * 512, min(length * 512, 2**20)).decode(errors="replace").splitlines()
    extents = [line.split() for line in descriptor if line.startswith(("RW ", "RDONLY ", "NOACCESS "))]
    faults = []
    if len(extents) != 1 or extents[0][2] != "SPARSE":
        faults.append("consists of several files, or is not a sparse one; convert it to a single sparse file")
    if any(line.startswith("parentCID=") and line != "parentCID=ffffffff" for line in descriptor):
        faults.append("needs a parent: it is a snapshot")
    return faults


_FAULTS = {"qcow2": _qcow2_faults, "vmdk": _vmdk_faults}


def _read(fd: int, start: int, length: int) -> bytes:
    with open(fd, "rb", closefd=False) as source:
        source.seek(start)
        return source.read(length)


def _virtual_size(path: Path, found: str) -> int:
    """The size of the image as a disk, after qemu-img found no damage in its structure."""
    qemu_img = process.require("qemu-img", "qemu-utils")
    try:
        output = process.run([qemu_img, "info", "-f", found, "--output=json", str(path)], deadline=_SECONDS).stdout
        if found != "raw":
            process.run([qemu_img, "check", "-f", found, str(path)], deadline=_SECONDS)
    except ProgramError as error:
        raise _refusal(path, f"qemu-img cannot read it as {found}: {error.output.strip() or error}") from error
    return int(json.loads(output)["virtual-size"])


def _refusal(path: Path, why: str, remedy: str = "") -> BuildError:
    return BuildError(
        f"{path} cannot be imported: {why}", remedy=remedy or "Ask its publisher for a complete image in one file."
    )
