"""Readers of file systems: ext4 unmounted, by debugfs at an offset; xfs mounted.

xfs has no such program: it is mounted read-only, in a mount namespace that ends with this process.
"""

import contextlib
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipelines.diskimage.gpt import Partition
from pipelines.util import process
from pipelines.util.errors import HostError, VerifyError

_READ_SECONDS = 120.0
_MOUNT_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A directory entry; `mode` as in stat, `size` in bytes (0 for directories), `handle` for the reader alone."""

    mode: int
    uid: int
    size: int
    handle: str

    @property
    def is_dir(self) -> bool:
        """A directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        """A regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_link(self) -> bool:
        """A symbolic link."""
        return stat.S_ISLNK(self.mode)


class Reader(Protocol):
    """What FileSystem needs of a reader. All results but that of `owners` are in the order of the arguments."""

    root: str

    def directories(self, handles: Sequence[str]) -> list[dict[str, Entry]]:
        """Each directory's entries by name, without "." and ".."."""

    def contents(self, handles: Sequence[str]) -> list[bytes]:
        """Each regular file's content."""

    def targets(self, handles: Sequence[str]) -> list[str]:
        """Each symbolic link's target, as written in it."""

    def owners(self, offsets: Sequence[int]) -> dict[int, str]:
        """The file that holds each byte of the disk; one that no file holds is left out."""


class Ext4:
    """ext4 by debugfs; a handle is an inode in debugfs's angle brackets, so that no name needs quoting."""

    root = "<2>"

    def __init__(self, disk: Path, partition: Partition) -> None:
        self._start = partition.start
        self._size = partition.size
        self._device = f"{disk}?offset={partition.start}"

    def directories(self, handles: Sequence[str]) -> list[dict[str, Entry]]:
        return [_entries(output) for output in self._debugfs([f"ls -p {handle}" for handle in handles])]

    def contents(self, handles: Sequence[str]) -> list[bytes]:
        with tempfile.TemporaryDirectory() as scratch:
            copies = [Path(scratch) / str(number) for number in range(len(handles))]
            self._debugfs([f"dump {handle} {copy}" for handle, copy in zip(handles, copies, strict=True)])
            return [copy.read_bytes() for copy in copies]

    def targets(self, handles: Sequence[str]) -> list[str]:
        outputs = self._debugfs([f"stat {handle}" for handle in handles])
        short = [re.search(r'^Fast link dest: "(.*)"$', output, re.MULTILINE) for output in outputs]
        long = [handle for handle, found in zip(handles, short, strict=True) if found is None]
        contents = iter(self.contents(long))
        return [found[1] if found else next(contents).decode(errors="replace") for found in short]

    def owners(self, offsets: Sequence[int]) -> dict[int, str]:
        (header,) = self._debugfs(["stats -h"])
        size = int(_searched(r"^Block size:\s+(\d+)", header)[1])
        blocks = {at: (at - self._start) // size for at in offsets if 0 <= at - self._start < self._size}
        if not blocks:
            return {}
        (output,) = self._debugfs(["icheck " + " ".join(map(str, sorted(set(blocks.values()))))])
        inodes = dict(re.findall(r"^(\d+)\t(\d+)$", output, re.MULTILINE))
        if not inodes:
            return {}
        (output,) = self._debugfs(["ncheck " + " ".join(sorted(set(inodes.values())))])
        names = {inode: "/" + name.lstrip("/") for inode, name in re.findall(r"^(\d+)\t(.*)$", output, re.MULTILINE)}
        found = {at: inodes[str(block)] for at, block in blocks.items() if str(block) in inodes}
        return {at: names.get(inode, f"inode {inode} of the file system itself") for at, inode in found.items()}

    def _debugfs(self, commands: Sequence[str]) -> list[str]:
        """The output of each command. One run for all: opening the file system takes longer than reading it."""
        if not commands:
            return []
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as script:
            script.write("\n".join(commands) + "\n")
            script.flush()
            argv = [process.require("debugfs", "e2fsprogs"), "-f", script.name, self._device]
            result = process.run(argv, deadline=_READ_SECONDS)
        errors = [line for line in result.stderr.splitlines() if line and not line.startswith("debugfs ")]
        if errors:
            raise _unreadable(errors[0])
        # debugfs prints each command before its output.
        return re.split(r"^debugfs: .*\n", result.stdout, flags=re.MULTILINE)[1:]


class Mounted:
    """A mounted file system; a handle is a path on this host."""

    def __init__(self, root: Path, disk: Path) -> None:
        self.root = str(root)
        self._disk = disk

    def directories(self, handles: Sequence[str]) -> list[dict[str, Entry]]:
        return [{item.name: _entry(item) for item in os.scandir(handle)} for handle in handles]

    def contents(self, handles: Sequence[str]) -> list[bytes]:
        return [Path(handle).read_bytes() for handle in handles]

    def targets(self, handles: Sequence[str]) -> list[str]:
        return [str(Path(handle).readlink()) for handle in handles]

    def owners(self, offsets: Sequence[int]) -> dict[int, str]:
        with self._disk.open("rb") as source:
            samples = {at: os.pread(source.fileno(), 128, at) for at in offsets}
        found: dict[int, str] = {}
        for path in Path(self.root).rglob("*"):
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            name = "/" + str(path.relative_to(self.root))
            found |= {at: name for at, sample in samples.items() if content and sample in content}
        return found


@contextlib.contextmanager
def mounted(disk: Path, partition: Partition) -> Iterator[Mounted]:
    """Mount read-only in a namespace of its own, which ends with the process in it, and with this one."""
    if os.geteuid() != 0:
        raise HostError("reading an xfs image needs root, for a loop mount", remedy="Run the command with sudo.")
    with tempfile.TemporaryDirectory() as scratch:
        root, ready, log = Path(scratch, "root"), Path(scratch, "ready"), Path(scratch, "log")
        root.mkdir()
        # norecovery: a finished image has a clean log, and replaying it would write.
        how = f"ro,norecovery,loop,offset={partition.start},sizelimit={partition.size}"
        script = 'mount -t xfs -o "$1" "$2" "$3" && : >"$4" && exec tail --pid="$5" -f /dev/null'
        arguments = [how, str(disk), str(root), str(ready), str(os.getpid())]
        holder = process.start(["unshare", "--mount", "sh", "-c", script, "sh", *arguments], log=log)
        try:
            _await(ready, holder, log)
            yield Mounted(Path(f"/proc/{holder.pid}/root{root}"), disk)
        finally:
            process.stop(holder)


def _entries(output: str) -> dict[str, Entry]:
    """The output of debugfs's `ls -p`: lines of /inode/mode/uid/gid/name/size/."""
    rows = re.findall(r"^/(\d+)/(\d+)/(\d+)/\d+/([^/]+)/(\d*)/$", output, re.MULTILINE)
    return {
        name: Entry(mode=int(mode, 8), uid=int(uid), size=int(size or 0), handle=f"<{inode}>")
        for inode, mode, uid, name, size in rows
        if name not in {".", ".."}
    }


def _entry(item: os.DirEntry[str]) -> Entry:
    seen = item.stat(follow_symlinks=False)
    return Entry(mode=seen.st_mode, uid=seen.st_uid, size=seen.st_size, handle=item.path)


def _await(ready: Path, holder: process.Program, log: Path) -> None:
    deadline = time.monotonic() + _MOUNT_SECONDS
    while not ready.exists():
        if holder.poll() is not None or time.monotonic() > deadline:
            raise _unreadable(log.read_text(encoding="utf-8").strip() or f"not mounted after {_MOUNT_SECONDS:.0f} s")
        time.sleep(0.02)


def _searched(pattern: str, text: str) -> re.Match[str]:
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise _unreadable(f"debugfs printed nothing that matches {pattern}")
    return found


def _unreadable(why: str) -> VerifyError:
    return VerifyError(f"the root file system cannot be read: {why}")
