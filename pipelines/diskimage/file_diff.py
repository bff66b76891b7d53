"""Differences between the files of two images: type, mode, owner, a link's target and content.

The root file systems and the ESPs are compared, read unmounted (but for xfs). Times are not: they only say when an
image was built.
"""

import hashlib
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipelines.diskimage import filesystem, gpt, qemu_img
from pipelines.diskimage.filesystem import FileSystem
from pipelines.diskimage.filesystem_readers import Entry
from pipelines.diskimage.gpt import Partition
from pipelines.util.errors import VerifyError

_AT_ONCE = 64 * 2**20  # bytes of content in memory
_TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}

Facts = Mapping[str, str]  # of one path, by name


@dataclass(frozen=True, kw_only=True, slots=True)
class FileChange:
    """A path in which two images differ; `facts` names what changed of a path that both have."""

    path: str
    how: Literal["added", "removed", "changed"]
    facts: tuple[str, ...] = ()


def between(old: Path, new: Path) -> tuple[FileChange, ...]:
    """What changed from one image (qcow2 or raw) to the other, by path; VerifyError when one cannot be read.

    Reads all of both: about a minute for the images of a GPU guest. xfs needs root (HostError).
    """
    return changes(facts(old), facts(new))


def changes(old: Mapping[str, Facts], new: Mapping[str, Facts]) -> tuple[FileChange, ...]:
    """The same for facts that were read before."""
    found = []
    for path in sorted(old.keys() | new.keys()):
        if path not in old or path not in new:
            found.append(FileChange(path=path, how="added" if path in new else "removed"))
        elif old[path] != new[path]:
            names = sorted(old[path].keys() | new[path].keys())
            differing = tuple(name for name in names if old[path].get(name) != new[path].get(name))
            found.append(FileChange(path=path, how="changed", facts=differing))
    return tuple(found)


def facts(image: Path) -> dict[str, Facts]:
    """Every path in an image, those in the ESP as ESP:/…, with its facts."""
    with qemu_img.raw(image) as raw:
        root, esp = _partitions(raw, image)
        found: dict[str, Facts] = dict(_esp(raw, esp)) if esp else {}
        with filesystem.opened(raw, root, _kind(raw, root, image)) as files:
            return found | _tree(files)


def _partitions(raw: Path, image: Path) -> tuple[Partition, Partition | None]:
    """The root, which is the last, and the ESP."""
    try:
        table = gpt.partition_table(raw)
    except ValueError as error:
        raise VerifyError(f"{image} cannot be read: {error}") from error
    if not table.partitions:
        raise VerifyError(f"{image} cannot be read: it has no partitions")
    return table.partitions[-1], table.esp


def _kind(raw: Path, part: Partition, image: Path) -> Literal["ext4", "xfs"]:
    """The type of the file system, from its superblock (Linux: EXT4_SUPER_MAGIC at 1024 + 56, XFS_SB_MAGIC at 0)."""
    with raw.open("rb") as source:
        source.seek(part.start)
        block = source.read(2048)
    if block[1080:1082] == b"\x53\xef":
        return "ext4"
    if block.startswith(b"XFSB"):
        return "xfs"
    raise VerifyError(f"{image} cannot be read: its root is neither ext4 nor xfs")


def _esp(raw: Path, part: Partition) -> Iterator[tuple[str, Facts]]:
    for path in filesystem.esp_files(raw, part):
        yield f"ESP:{path}", {"content": hashlib.sha256(filesystem.esp_content(raw, part, path)).hexdigest()}


def _tree(files: FileSystem) -> dict[str, Facts]:
    entries = files.walk("/")
    targets = files.targets({path: entry for path, entry in entries.items() if entry.is_link})
    digests = _digests(files, entries)
    found: dict[str, Facts] = {}
    for path, entry in entries.items():
        kind = _TYPES.get(stat.S_IFMT(entry.mode), "special file")
        of_all = {"type": kind, "mode": f"{stat.S_IMODE(entry.mode):04o}", "owner": str(entry.uid)}
        own = {"target": targets.get(path), "content": digests.get(entry.handle) if entry.is_file else None}
        found[path] = of_all | {name: value for name, value in own.items() if value is not None}
    return found


def _digests(files: FileSystem, entries: Mapping[str, Entry]) -> dict[str, str]:
    """The digest of each regular file's content by its handle, so that hard links are read once."""
    unique = {entry.handle: (path, entry.size) for path, entry in entries.items() if entry.is_file}
    handles = {path: handle for handle, (path, _) in unique.items()}
    found = {}
    for paths in _batches(unique.values()):
        for path, content in files.contents(paths).items():
            found[handles[path]] = hashlib.sha256(content).hexdigest()
    return found


def _batches(sizes: Iterable[tuple[str, int]]) -> Iterator[list[str]]:
    """The paths in batches, each read at once."""
    batch: list[str] = []
    total = 0
    for path, size in sizes:
        if batch and total + size > _AT_ONCE:
            yield batch
            batch, total = [], 0
        batch.append(path)
        total += size
    if batch:
        yield batch
