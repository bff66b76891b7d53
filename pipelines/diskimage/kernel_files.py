"""Contents of kernel modules and initramfs files.

Read here, because kmod and initramfs-tools belong to the guest and need not exist on the build host.
"""

import struct

from pipelines.util import compression

_CPIO = (b"070701", b"070702")
_CPIO_HEADER = 110  # bytes of ASCII; "newc" in cpio(5)
_ELF_HEADER = struct.Struct("<40xQ10xHHH")  # ELF64: where the section headers are, their size, count, names' index
_SECTION = struct.Struct("<I20xQQ24x")  # name, offset, size


def module_fields(data: bytes) -> dict[str, str]:
    """The fields of a kernel module (ELF64, perhaps compressed) that modinfo shows: vermagic, version, license, …

    Fields that occur several times (alias, depends) have their first value. ValueError when it is not a module.
    """
    elf = compression.decompressed(data)
    if not elf.startswith(b"\x7fELF\x02\x01"):
        raise ValueError("this is not a 64-bit little-endian ELF file")
    try:
        table, entry_size, count, names_index = _ELF_HEADER.unpack_from(elf)
        sections = [_SECTION.unpack_from(elf, table + index * entry_size) for index in range(count)]
        names_at = sections[names_index][1]
    except (struct.error, IndexError) as error:
        raise ValueError(f"its ELF sections cannot be read: {error}") from error
    for name, offset, size in sections:
        if elf.startswith(b".modinfo\0", names_at + name):
            fields = elf[offset : offset + size].decode(errors="replace").split("\0")
            pairs = [field.split("=", 1) for field in fields if "=" in field]
            return dict(reversed([(key, value) for key, value in pairs]))
    raise ValueError("it has no .modinfo section")


def initramfs_names(data: bytes) -> list[str]:
    """The paths in an initramfs: early cpio archives (microcode) first, then the main one, compressed or not.

    ValueError when some part is neither cpio nor a known compression, so that nothing stays unread.
    """
    names: list[str] = []
    at = 0
    while at < len(data):
        if data[at] == 0:  # archives are padded with zeros
            at += len(data[at : at + 512]) - len(data[at : at + 512].lstrip(b"\0"))
        elif data.startswith(_CPIO, at):
            at = _archive(data, at, names)
        else:
            inside = compression.decompressed(data[at:])
            if not inside.startswith(_CPIO):
                raise ValueError(f"byte {at} of the initramfs is neither cpio nor zstd, gzip or xz")
            return names + initramfs_names(inside)
    return names


def _archive(data: bytes, start: int, names: list[str]) -> int:
    """Append one archive's names; the offset behind it."""
    at = start
    while data.startswith(_CPIO, at):
        size, length = int(data[at + 54 : at + 62], 16), int(data[at + 94 : at + 102], 16)
        name = data[at + _CPIO_HEADER : at + _CPIO_HEADER + length - 1].decode(errors="replace")
        at = start + _padded(at - start + _CPIO_HEADER + length)
        at = start + _padded(at - start + size)
        if name == "TRAILER!!!":
            return at
        names.append(name)
    raise ValueError("the initramfs ends within an archive")


def _padded(size: int) -> int:
    return (size + 3) // 4 * 4
