"""File that is sent to a cloud.

The build's file as it is or, where the cloud wants raw, a raw copy of it: sparse, beside the build while uploads need
it, and made once for all uploads at the same time. A cloud that downloads must find the copy, so it has a name, and the
last upload that needs it removes it.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from pipelines.artifacts.manifest import Artifact, Manifest
from pipelines.artifacts.store import Build
from pipelines.catalog.clouds import DiskFormat
from pipelines.glance.client import CHUNK
from pipelines.util import console, errors, files, locks, process
from pipelines.util.errors import CloudError, HostError, ProgramError, VerifyError

CONVERT_SECONDS = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Payload:
    """A file to send, its description, and the artifact of a build that it was made of (often itself)."""

    path: Path
    artifact: Artifact
    original: Artifact

    @property
    def place(self) -> str:
        """Its path below the builds' folder."""
        return "/".join(self.path.parts[-3:])

    def chunks(self, progress: Callable[[int], None]) -> Iterator[bytes]:
        """The file, read once: its last piece is given only when all of it is what `artifact` describes.

        A file that has changed therefore never becomes a whole image. A piece is hashed while it is on its way, which
        is a tenth quicker than one after the other.
        """
        digest = hashlib.sha256()
        try:
            with self.path.open("rb") as source, ThreadPoolExecutor(max_workers=1) as beside:
                piece = source.read(CHUNK)
                while piece:
                    hashed = beside.submit(digest.update, piece)
                    following = source.read(CHUNK)
                    if not following:
                        hashed.result()
                        self.require(digest.hexdigest())
                    yield piece
                    hashed.result()
                    progress(len(piece))
                    piece = following
        except OSError as error:
            raise HostError(f"cannot read {self.path}: {error.strerror}", remedy="Check the disk.") from error

    def digest(self, algorithm: str | None) -> str:
        """The file's digest in the algorithm that a cloud has chosen."""
        known = {"sha256": self.artifact.sha256, "sha512": self.artifact.sha512}
        name = algorithm or "nothing"
        if name in known:
            return known[name]
        if name not in hashlib.algorithms_available:
            what = f"Glance computes digests with {name}, which this host does not support"
            raise CloudError(what, remedy="Set Glance's hashing_algorithm to sha512, its default.")
        with self.path.open("rb") as source:
            return hashlib.file_digest(source, name).hexdigest()

    def require(self, sha256: str) -> None:
        """VerifyError unless this is the file's digest."""
        if sha256 != self.artifact.sha256:
            what = f"{self.path} is not the file that was built (its sha256 differs)"
            raise VerifyError(what, remedy="Build the variant again.")


def canonical(build: Build, made: Manifest) -> Payload:
    """The build's own artifact."""
    return Payload(path=build.image(), artifact=made.artifact, original=made.artifact)


@contextlib.contextmanager
def prepared(build: Build, made: Manifest, disk_format: DiskFormat) -> Iterator[Payload]:
    """The file to send of a build to a cloud that wants this format; a copy is removed afterwards.

    Raises VerifyError for a file that is not what was built, and HostError when the disk has no space for the copy.
    """
    whole = canonical(build, made)
    if not whole.path.is_file() or whole.path.stat().st_size != made.artifact.size:
        what = f"{whole.path} is not the file that was built (its size differs)"
        raise VerifyError(what, remedy=f"Build {made.variant} again.")
    with raw(whole) if disk_format != made.artifact.format else contextlib.nullcontext(whole) as payload:
        yield payload


@contextlib.contextmanager
def raw(whole: Payload) -> Iterator[Payload]:
    """A raw copy of a build's file, shared with all uploads that need it now."""
    copy = _copy(whole.path)
    busy = f"{whole.path} is being converted by {{holder}}"
    user: IO[bytes] | None = None
    try:
        with locks.hold(_lock(copy), busy, wait=CONVERT_SECONDS, waiting=busy):
            artifact = _converted(copy) or _convert(whole, copy)
            user = copy.open("rb")
            locks.join(user)
        yield replace(whole, path=copy, artifact=artifact)
    finally:
        if user is not None:
            with user, locks.hold(_lock(copy), busy, wait=CONVERT_SECONDS):
                _remove_unused(copy, user)


def sweep(build: Build) -> None:
    """Remove the raw copies that killed processes left, of all builds of this one's variant.

    A lock's file stays where a copy was ever made, so it tells where to look.
    """
    for lock in build.folder.parent.glob(f"*/{_lock(Path('*.raw')).name}"):
        with locks.held_if_free(lock) as free:
            if free:
                _sweep(lock.with_name(lock.name.removeprefix(".").removesuffix(".lock")))


def _sweep(copy: Path) -> None:
    """With the lock held, an unfinished copy belongs to no process."""
    _part(copy).unlink(missing_ok=True)
    if copy.exists():
        with copy.open("rb") as user:
            _remove_unused(copy, user)
    else:
        _record(copy).unlink(missing_ok=True)


def _remove_unused(copy: Path, user: IO[bytes]) -> None:
    if locks.is_alone(user):
        for path in (copy, _record(copy)):
            path.unlink(missing_ok=True)


def _converted(copy: Path) -> Artifact | None:
    """The copy that another process has made already."""
    if not copy.exists():
        return None
    return Artifact(**json.loads(_record(copy).read_text(encoding="utf-8")))  # written before the copy got its name


def _convert(whole: Payload, copy: Path) -> Artifact:
    _require_space(whole, copy.parent)
    console.note(f"converting {whole.path} to raw")
    whole.require(files.digests(whole.path)[0])
    part = _part(copy)
    # -W: the order in which a sparse copy is written does not matter.
    options = ("-W", "-f", whole.artifact.format, "-O", "raw", str(whole.path), str(part))
    try:
        process.run((process.require("qemu-img", "qemu-utils"), "convert", *options), deadline=CONVERT_SECONDS)
        sha256, sha512 = files.digests(part)
        size = part.stat().st_size
        made = Artifact(path=copy.name, format="raw", size=size, virtual_size=size, sha256=sha256, sha512=sha512)
        files.write_json(_record(copy), made)
        os.replace(part, copy)
    except (ProgramError, OSError) as error:
        remedy = errors.DISK_FULL if "No space left on device" in str(error) else "Run `./inv verify` on the build."
        raise HostError(f"{whole.path} cannot be converted to raw: {error}", remedy=remedy) from error
    finally:
        part.unlink(missing_ok=True)
    return made


def _require_space(whole: Payload, folder: Path) -> None:
    needed, free = _data(whole), shutil.disk_usage(folder).free
    if free < needed:
        gib = 2**30
        what = f"{folder} has {free / gib:.1f} GiB free; a raw copy of {whole.path.name} needs {needed / gib:.1f} GiB"
        raise HostError(what, remedy="Free some space, or put the builds elsewhere with --builds DIR.")


def _data(whole: Payload) -> int:
    """How many bytes of the disk image are data, not holes."""
    argv = (process.require("qemu-img", "qemu-utils"), "map", "--output=json", "-f", whole.artifact.format)
    try:
        extents = json.loads(process.run((*argv, str(whole.path)), deadline=CONVERT_SECONDS).stdout)
    except ProgramError as error:
        raise VerifyError(f"{whole.path} cannot be read: {error}", remedy="Build the variant again.") from error
    return sum(extent["length"] for extent in extents if extent["data"] and not extent["zero"])


def _copy(image: Path) -> Path:
    return image.with_suffix(".raw")


def _lock(copy: Path) -> Path:
    return copy.with_name(f".{copy.name}.lock")


def _part(copy: Path) -> Path:
    return copy.with_name(f".{copy.name}.part")


def _record(copy: Path) -> Path:
    return copy.with_name(f".{copy.name}.json")
