"""Cached downloads.

`<digest>/<name>` is a complete file, `<digest>.part` one whose download is in progress or was interrupted,
`<digest>.validator` what its server identifies that version by. `<digest>.lock` is held by the process that downloads
or removes the file, and by a process that changes any of these; `<digest>.uses` counts its uses.
"""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pipelines.cache import usage
from pipelines.cache.entry import Entry
from pipelines.util import locks

KIND = "downloads"
PARTIAL = ".part"


def lock(folder: Path, digest: str) -> Path:
    """The lock of the process that downloads or removes the file."""
    return folder / f"{digest}.lock"


def partial(folder: Path, digest: str) -> Path:
    """The file while it is being downloaded."""
    return folder / f"{digest}{PARTIAL}"


def used(folder: Path, digest: str) -> Path:
    """The use of the file."""
    return folder / f"{digest}.uses"


def entries(folder: Path) -> Iterator[Entry]:
    """All downloads; an incomplete one has a key that ends in .part."""
    for path in sorted(folder.glob("[!.]*")):
        with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
            if path.suffix == PARTIAL:
                yield _entry(path.name, "a download in progress, or interrupted", [path], None)
            elif path.is_dir() and (files := sorted(path.iterdir())):
                names = ", ".join(file.name for file in files)
                yield _entry(path.name, names, files, used(folder, path.name))


def evict(folder: Path, key: str) -> bool:
    """Remove a download; False when it is being downloaded, checked or used."""
    digest = key.removesuffix(PARTIAL)
    with locks.held_if_free(lock(folder, digest)) as ours:
        if not ours:
            return False
        if key.endswith(PARTIAL):
            discard(partial(folder, digest))
            return True
        return _remove(folder, digest)


def sweep(folder: Path) -> None:
    """Remove what is left of interrupted evictions, and the counts and locks of removed downloads."""
    for digest in {path.stem for path in folder.glob("[!.]*")}:
        with locks.held_if_free(lock(folder, digest)) as ours:
            if not ours or partial(folder, digest).exists() or any(folder.glob(f"{digest}/*")):
                continue
            if _remove(folder, digest):
                discard(partial(folder, digest))
                lock(folder, digest).unlink()


def _remove(folder: Path, digest: str) -> bool:
    """Remove a complete download and its count, unless it is in use. Call it with the lock held."""
    with usage.exclusive(used(folder, digest)) as free:
        if free:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(folder / digest)
            used(folder, digest).unlink()
    return free


def _entry(key: str, about: str, files: Sequence[Path], used_by: Path | None) -> Entry:
    found = [file.stat() for file in files]
    made_at = datetime.fromtimestamp(max(each.st_mtime for each in found), UTC)
    use = usage.Uses(hits=0, last=made_at) if used_by is None else usage.of(used_by, made_at)
    return Entry(
        kind=KIND,
        key=key,
        about=about,
        size=sum(each.st_size for each in found),
        created_at=made_at,
        used_at=use.last,
        hits=use.hits,
    )


def discard(part: Path) -> None:
    """Remove a partial download."""
    part.unlink(missing_ok=True)
    validator(part).unlink(missing_ok=True)


def validator(part: Path) -> Path:
    """The file with the ETag or date of a partial download, by which its server knows whether it can be continued."""
    return part.with_suffix(".validator")
