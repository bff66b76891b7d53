"""File systems in an image: the root as the guest will see it, and the ESP, which mtools reads.

Symbolic links are followed inside the guest's root, never into this host's.
"""

import contextlib
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from pipelines.diskimage.filesystem_readers import Entry, Ext4, Reader, mounted
from pipelines.diskimage.gpt import Partition
from pipelines.util import process

_READ_SECONDS = 60.0
_MOST_LINKS = 40  # as Linux


class FileSystem:
    """The guest's root file system. Paths are absolute in the guest; VerifyError when it cannot be read."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._root = Entry(mode=stat.S_IFDIR | 0o755, uid=0, size=0, handle=reader.root)
        self._known: dict[str, dict[str, Entry]] = {}
        self._targets: dict[str, str] = {}

    def stat(self, path: str) -> Entry | None:
        """The entry that a path leads to, links followed; None when there is nothing."""
        return self._find(PurePosixPath(path), follow=True)

    def lstat(self, path: str) -> Entry | None:
        """Like stat, but the last component's own entry."""
        return self._find(PurePosixPath(path), follow=False)

    def target(self, path: str) -> str | None:
        """A symbolic link's target as written in it; None when the path is not a link."""
        entry = self.lstat(path)
        return self._target(entry) if entry and entry.is_link else None

    def listdir(self, path: str) -> tuple[str, ...]:
        """A directory's names, sorted; empty when there is no such directory."""
        entry = self.stat(path)
        return tuple(sorted(self._entries(entry))) if entry and entry.is_dir else ()

    def walk(self, path: str) -> dict[str, Entry]:
        """Everything below a directory by its path, links not followed; empty when there is no such directory."""
        start = self.stat(path)
        level = {path.rstrip("/"): start} if start and start.is_dir else {}
        found: dict[str, Entry] = {}
        while level:
            self._load(entry.handle for entry in level.values())
            below = {f"{folder}/{name}": e for folder, at in level.items() for name, e in self._entries(at).items()}
            found |= below
            level = {name: entry for name, entry in below.items() if entry.is_dir}
        return found

    def targets(self, links: Mapping[str, Entry]) -> dict[str, str]:
        """The targets of symbolic links, by their paths, in one go."""
        return dict(zip(links, self._reader.targets([link.handle for link in links.values()]), strict=True))

    def contents(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The content of those paths that lead to regular files, in one go."""
        entries = {path: entry for path in paths if (entry := self.stat(path)) and entry.is_file}
        return dict(zip(entries, self._reader.contents([entry.handle for entry in entries.values()]), strict=True))

    def read(self, path: str) -> bytes | None:
        """A regular file's content; None when there is none."""
        return self.contents([path]).get(path)

    def text(self, path: str) -> str | None:
        """Like read, as text; bytes that are not UTF-8 are replaced."""
        content = self.read(path)
        return None if content is None else content.decode(errors="replace")

    def owners(self, offsets: Sequence[int]) -> dict[int, str]:
        """The path of the file that holds each byte of the disk; bytes in free space are left out."""
        return self._reader.owners(offsets) if offsets else {}

    def _find(self, path: PurePosixPath, *, follow: bool) -> Entry | None:
        trail, parts, links = [self._root], list(path.parts[1:]), 0
        while parts:
            name = parts.pop(0)
            if name == "..":
                trail = trail[:-1] or trail
                continue
            entry = self._entries(trail[-1]).get(name) if trail[-1].is_dir else None
            if entry is None:
                return None
            if entry.is_link and (parts or follow):
                links += 1
                if links > _MOST_LINKS:
                    return None
                target = PurePosixPath(self._target(entry))
                trail = trail[:1] if target.is_absolute() else trail
                parts = [part for part in target.parts if part != "/"] + parts
                continue
            trail.append(entry)
        return trail[-1]

    def _target(self, link: Entry) -> str:
        if link.handle not in self._targets:
            (self._targets[link.handle],) = self._reader.targets([link.handle])
        return self._targets[link.handle]

    def _entries(self, folder: Entry) -> dict[str, Entry]:
        self._load([folder.handle])
        return self._known[folder.handle]

    def _load(self, handles: Iterable[str]) -> None:
        wanted = [handle for handle in handles if handle not in self._known]
        if wanted:
            self._known.update(zip(wanted, self._reader.directories(wanted), strict=True))


@contextlib.contextmanager
def opened(disk: Path, partition: Partition, kind: Literal["ext4", "xfs"]) -> Iterator[FileSystem]:
    """Read the file system in a partition of a raw disk. xfs needs root: HostError without."""
    if kind == "ext4":
        yield FileSystem(Ext4(disk, partition))
        return
    with mounted(disk, partition) as reader:
        yield FileSystem(reader)


def esp_files(disk: Path, partition: Partition) -> tuple[str, ...]:
    """The paths of all files on a FAT partition, as "/EFI/BOOT/BOOTX64.EFI", sorted."""
    listed = _mtools("mdir", "-/", "-b", "-i", f"{disk}@@{partition.start}", "::").splitlines()
    return tuple(sorted(line.removeprefix("::") for line in listed if line and not line.endswith("/")))


def esp_text(disk: Path, partition: Partition, path: str) -> str:
    """A text file of a FAT partition; ProgramError when there is none."""
    return _mtools("mtype", "-i", f"{disk}@@{partition.start}", f"::{path}")


def esp_content(disk: Path, partition: Partition, path: str) -> bytes:
    """A file of a FAT partition; ProgramError when there is none."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, "copy")
        _mtools("mcopy", "-i", f"{disk}@@{partition.start}", f"::{path}", str(copy))
        return copy.read_bytes()


def _mtools(program: str, *arguments: str) -> str:
    # mtools rejects the geometry of a file system that no BIOS has seen, which says nothing about its soundness.
    environment = process.environment(MTOOLS_SKIP_CHECK="1")
    return process.run([process.require(program, "mtools"), *arguments], deadline=_READ_SECONDS, env=environment).stdout
