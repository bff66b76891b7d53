"""Can a file from elsewhere be taken as an image?

Its first bytes say what it is and whether it is whole by itself. They are read here and not by qemu-img, which opens
whatever other file an image refers to; qemu-img sees only what has passed.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
class Foreign:
    """An image from elsewhere that can be taken: its format as qemu-img calls it, and its size as a disk, in bytes."""

    path: Path
    format: str
    virtual_size: int


def examine(path: Path, declared: str) -> Foreign:
    """What the file is, `declared` being its format or auto. BuildError that says why it cannot be taken."""
    with path.open("rb") as source:
        head = source.read(_HEAD)
        found = _format(path, head, declared)
        problems = _FAULTS[found](head, source.fileno()) if found in _FAULTS else []
    if problems:
        raise _refusal(path, f"this {found} image {'; '.join(problems)}")
    said = _said(path, found)
    if said["virtual-size"] < _SMALLEST:
        raise _refusal(path, f"a disk of {said['virtual-size']} bytes is too small to be one")
    return Foreign(path=path, format=found, virtual_size=said["virtual-size"])


def _format(path: Path, head: bytes, declared: str) -> str:
    packed = next((name for magic, name in _PACKED.items() if head.startswith(magic)), None)
    if packed is not None:
        raise _refusal(path, f"it is packed with {packed}", "Unpack it, and give the checksum of what was inside.")
    other = next((name for magic, name in _OTHERS.items() if head.startswith(magic)), None)
    if other is not None:
        raise _refusal(path, f"it is {other}")
    found = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "raw")
    if declared == "auto" and found == "raw":
        remedy = "If it is a raw disk, write `format: raw`; any file could be one."
        raise _refusal(path, "it is neither qcow2 nor vhdx nor vmdk", remedy)
    if declared not in {"auto", found}:
        raise _refusal(path, f"it is {found}, and not {declared} as declared", "Correct `source.format`.")
    return found


def _qcow2_faults(head: bytes, _: int) -> list[str]:
    """What makes a qcow2 file less than a disk of its own."""
    if len(head) < _QCOW2.size:
        return ["is cut off"]
    _, version, backing, encryption, features = _QCOW2.unpack_from(head)
    features = features if version >= 3 else 0
    faults = {
        "needs a backing file": backing,
        "is encrypted": encryption,
        "was not closed properly (its dirty flag is set)": features & _DIRTY,
        "is marked as corrupt": features & _CORRUPT,
        "keeps its data in another file": features & _DATA_FILE,
    }
    return [what for what, there in faults.items() if there]


def _vmdk_faults(head: bytes, fd: int) -> list[str]:
    """What makes a VMDK file less than a disk of its own; its descriptor, a text, says so."""
    if not head.startswith(b"KDMV"):
        return ["is a description of several files; convert it to a single one (ovftool, qemu-img)"]
    _, start, length = _VMDK.unpack_from(head)
    descriptor = _read(fd, start * 512, min(length * 512, 2**20)).decode(errors="replace").splitlines()
    extents = [line.split() for line in descriptor if line.startswith(("RW ", "RDONLY ", "NOACCESS "))]
    faults = []
    if len(extents) != 1 or extents[0][2] != "SPARSE":
        faults.append("consists of several files, or of one of another kind; convert it to a single one")
    if any(line.startswith("parentCID=") and line != "parentCID=ffffffff" for line in descriptor):
        faults.append("needs a parent: it is a snapshot")
    return faults


_FAULTS = {"qcow2": _qcow2_faults, "vmdk": _vmdk_faults}


def _read(fd: int, start: int, length: int) -> bytes:
    with open(fd, "rb", closefd=False) as source:
        source.seek(start)
        return source.read(length)


def _said(path: Path, found: str) -> Mapping[str, Any]:
    """What qemu-img says of the image, after it found no damage in its structure."""
    qemu_img = process.require("qemu-img", "qemu-utils")
    try:
        said = process.run([qemu_img, "info", "-f", found, "--output=json", str(path)], deadline=_SECONDS).stdout
        if found != "raw":
            process.run([qemu_img, "check", "-f", found, str(path)], deadline=_SECONDS)
    except ProgramError as error:
        raise _refusal(path, f"qemu-img cannot read it as {found}: {error.output.strip() or error}") from error
    info: Mapping[str, Any] = json.loads(said)
    return info


def _refusal(path: Path, why: str, remedy: str = "") -> BuildError:
    return BuildError(f"{path} cannot be imported: {why}", remedy=remedy or "Ask whoever made it for one whole image.")
