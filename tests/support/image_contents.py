"""What is in an image?

All of a finished disk as things with facts: partitions, boot code, the ESP's files, the root file system and every path
in it, what is inside an initramfs, packages. The root is ext4 and is mounted read-only, in a namespace of its own.
"""

import contextlib
import datetime
import functools
import itertools
import os
import re
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.diskimage import filesystem, gpt, installed_packages, qemu_img
from pipelines.diskimage.gpt import Partition
from pipelines.util import compression

_BOOT_CODE = 440  # bytes of the MBR; the disk's signature and the protective partition follow
_INITRAMFS = re.compile(r"/boot/initr(d\.img|amfs)-.*")
_CPIO_MAGIC = b"070701"
_CPIO_HEADER = 110  # bytes; "newc" in cpio(5)
_CPIO_END = "TRAILER!!!"
# The file system goes when cat ends, and that ends with our end of its standard input.
_MOUNT = 'mount -t ext4 -o "$1" "$2" "$3" && echo && exec cat'
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    """One thing in an image: its facts by their names, and where it has a content, how that is read."""

    facts: Mapping[str, str] = field(default_factory=dict)
    read: Callable[[], bytes] | None = None


Things = Mapping[str, Thing]


@contextlib.contextmanager
def opened(image: Path, since: datetime.datetime) -> Iterator[Things]:
    """Everything in an image (qcow2 or raw) by its name; contents can be read while it is open. Needs root."""
    with qemu_img.raw(image) as raw:
        root = gpt.partition_table(raw).partitions[-1]
        with _mounted(raw, root) as folder:
            yield {**on_disk(raw), **packages(raw), **in_folder(folder, since)}


def on_disk(raw: Path) -> Things:
    """What a raw disk has around the root's files: partitions, boot code, the ESP, the file system's own facts."""
    things = {"disk": Thing(facts={"size": str(raw.stat().st_size)}), "boot code": _piece(raw, 0, _BOOT_CODE)}
    for part in gpt.partition_table(raw).partitions:
        facts = {name: str(getattr(part, name)) for name in ("number", "start", "size", "type")}
        things[f"partition {part.name}"] = Thing(facts=facts)
        if part.type == gpt.BIOS_BOOT:
            things["BIOS boot partition"] = _piece(raw, part.start, part.size)
        elif part.type == gpt.ESP:
            things |= _esp(raw, part)
        else:
            things["file system"] = Thing(facts=_superblock(raw, part))
    return things


def packages(raw: Path) -> Things:
    """The packages of the guest on a raw disk, with their versions."""
    with filesystem.opened(raw, gpt.partition_table(raw).partitions[-1], "ext4") as files:
        installed = installed_packages.installed(files)
    return {
        f"package {name}": Thing(facts={"version": package.version, "held": str(package.held)})
        for name, package in installed.items()
    }


def in_folder(folder: Path, since: datetime.datetime) -> Things:
    """Every path of a tree, its root "/" too, and all that is in an initramfs.

    Times of last modification before `since` are facts: they came with a package. A later one says when the image was
    built, so it is none.
    """
    seen = {"/": folder.lstat()}
    for at, folders, files in os.walk(folder, onerror=_fail):
        within = "/" if at == str(folder) else f"/{Path(at).relative_to(folder)}/"
        seen |= {within + name: Path(at, name).lstat() for name in (*folders, *files)}
    linked: dict[int, list[str]] = {}
    for name in sorted(name for name, entry in seen.items() if stat.S_ISREG(entry.st_mode) and entry.st_nlink > 1):
        linked.setdefault(seen[name].st_ino, []).append(name)
    things: dict[str, Thing] = {}
    for name, entry in seen.items():
        path = folder / name.lstrip("/")
        facts = _facts(entry.st_mode, entry.st_uid, entry.st_gid, entry.st_rdev) | _attributes(path)
        facts |= _time(entry.st_mtime, since) | {"links": " ".join(linked.get(entry.st_ino, []))}
        if stat.S_ISLNK(entry.st_mode):
            facts["target"] = str(path.readlink())
        initramfs = _INITRAMFS.fullmatch(name) is not None and stat.S_ISREG(entry.st_mode)
        readable = stat.S_ISREG(entry.st_mode) and not initramfs
        things[name] = Thing(facts=facts, read=path.read_bytes if readable else None)
        if initramfs:
            inside = in_initramfs(path.read_bytes(), since)
            things |= {f"{name}: {within}": thing for within, thing in inside.items()}
    return things


def in_initramfs(data: bytes, since: datetime.datetime) -> Things:
    """What is in an initramfs, by the number of the archive in it and the path: 1/kernel/x86, 2/usr/bin/mount."""
    things: dict[str, Thing] = {}
    at = 0
    for archive in itertools.count(1):
        data = data[at:].lstrip(b"\0")  # archives are padded
        if not data:
            break
        data = data if data.startswith(_CPIO_MAGIC) else compression.decompressed(data)
        inside, at = _archive(data, since)
        things |= {f"{archive}/{name}": thing for name, thing in inside.items()}
    return things


def _archive(data: bytes, since: datetime.datetime) -> tuple[dict[str, Thing], int]:
    """The entries of the cpio archive that begins here, and where it ends."""
    things: dict[str, Thing] = {}
    at = 0
    while data.startswith(_CPIO_MAGIC, at):
        numbers = [int(data[at + 6 + place : at + 14 + place], 16) for place in range(0, 104, 8)]
        _, mode, uid, gid, links, time, size, _, _, major, minor, length, _ = numbers
        name = data[at + _CPIO_HEADER : at + _CPIO_HEADER + length - 1].decode()
        start = _padded(at + _CPIO_HEADER + length)
        content = data[start : start + size]
        at = _padded(start + size)
        if name == _CPIO_END:
            return things, at
        facts = _facts(mode, uid, gid, os.makedev(major, minor)) | _time(time, since) | {"links": str(links)}
        things[name] = Thing(facts=facts, read=functools.partial(bytes, content))
    raise ValueError(f"byte {at} of an initramfs is in no cpio archive")


def _padded(at: int) -> int:
    return (at + 3) // 4 * 4


def _facts(mode: int, uid: int, gid: int, device: int) -> dict[str, str]:
    facts = {"type": _KINDS[stat.S_IFMT(mode)], "mode": f"{stat.S_IMODE(mode):04o}", "owner": f"{uid}:{gid}"}
    return facts | ({"device": f"{os.major(device)}:{os.minor(device)}"} if device else {})


def _time(seconds: float, since: datetime.datetime) -> dict[str, str]:
    when = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return {"time": when.isoformat() if when < since else "made by the build"}


def _attributes(path: Path) -> dict[str, str]:
    names = os.listxattr(path, follow_symlinks=False)
    return {f"attribute {name}": os.getxattr(path, name, follow_symlinks=False).hex() for name in names}


def _piece(raw: Path, at: int, size: int) -> Thing:
    def read() -> bytes:
        with raw.open("rb") as source:
            return os.pread(source.fileno(), size, at)

    return Thing(read=read)


def _esp(raw: Path, part: Partition) -> dict[str, Thing]:
    label = _said("mlabel", "-s", "-i", f"{raw}@@{part.start}", "::").strip()
    things = {"ESP": Thing(facts={"label": label})}
    for name in filesystem.esp_files(raw, part):
        things[f"ESP{name}"] = Thing(read=functools.partial(filesystem.esp_content, raw, part, name))
    return things


def _superblock(raw: Path, part: Partition) -> dict[str, str]:
    """What dumpe2fs says of a file system as a whole."""
    said = _said("dumpe2fs", "-h", f"{raw}?offset={part.start}")
    return dict(re.findall(r"^([^:\n]+):\s*(.*)$", said, re.MULTILINE))


@contextlib.contextmanager
def _mounted(raw: Path, part: Partition) -> Iterator[Path]:
    # noload: the journal of a finished image is clean, and replaying it would write.
    how = f"ro,noload,loop,offset={part.start},sizelimit={part.size}"
    argv = ["unshare", "--mount", "sh", "-c", _MOUNT, "sh", how, str(raw), "/mnt"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline(), f"the root of {raw} cannot be mounted"
        yield Path(f"/proc/{holder.pid}/root/mnt")


def _said(*argv: str) -> str:
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "MTOOLS_SKIP_CHECK": "1"}
    return subprocess.run(argv, check=True, capture_output=True, text=True, env=environment).stdout


def _fail(error: OSError) -> None:
    raise error
