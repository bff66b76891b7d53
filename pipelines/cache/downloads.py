"""Which downloads are kept?

`<digest>/<name>` is a file from outside, `<digest>.part` one that is still coming, or whose download was cut off;
`<digest>.lock` says who brings it, `<digest>.uses` who uses it. Who changes any of these holds the lock.
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
    """Who holds it may bring the file here, or remove it."""
    return folder / f"{digest}.lock"


def partial(folder: Path, digest: str) -> Path:
    """Where the file is while it comes."""
    return folder / f"{digest}{PARTIAL}"


def used(folder: Path, digest: str) -> Path:
    """Who uses the file, and when it was used last."""
    return folder / f"{digest}.uses"


def entries(folder: Path) -> Iterator[Entry]:
    """All downloads; one that is not whole has a key that ends in .part."""
    for path in sorted(folder.glob("[!.]*")):
        with contextlib.suppress(FileNotFoundError):  # it has gone meanwhile
            if path.suffix == PARTIAL:
                yield _entry(path.name, "a download that goes on, or was cut off", [path], None)
            elif path.is_dir() and (files := sorted(path.iterdir())):
                names = ", ".join(file.name for file in files)
                yield _entry(path.name, names, files, used(folder, path.name))


def evict(folder: Path, key: str) -> bool:
    """Remove a download; False when somebody downloads it, checks it or uses it."""
    digest = key.removesuffix(PARTIAL)
    with locks.held_if_free(lock(folder, digest)) as ours:
        if not ours:
            return False
        if key.endswith(PARTIAL):
            discard(partial(folder, digest))
            return True
        return _remove(folder, digest)


def sweep(folder: Path) -> None:
    """Remove what is of no use to anybody: what an eviction left half-done, counts and locks of what is gone."""
    for digest in {path.stem for path in folder.glob("[!.]*")}:
        with locks.held_if_free(lock(folder, digest)) as ours:
            if not ours or partial(folder, digest).exists() or any(folder.glob(f"{digest}/*")):
                continue
            if _remove(folder, digest):
                discard(partial(folder, digest))
                lock(folder, digest).unlink()


def _remove(folder: Path, digest: str) -> bool:
    """Remove a whole download and its count, unless somebody uses it. Call it with the lock held."""
    with usage.alone(used(folder, digest)) as free:
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
    """Forget a partial download."""
    part.unlink(missing_ok=True)
    _validator(part).unlink(missing_ok=True)


def _validator(part: Path) -> Path:
    """Beside a partial download: what the server said by which it knows that its file is still the same."""
    return part.with_suffix(".validator")
