"""On-disk format of a cache entry.

An entry is a folder, `<kind>/<key>/`, with the cached file (`content`), its description (`entry.json`) and its use
(`uses`). It appears complete, by a rename. A folder without a valid entry.json is no entry, and is removed when no
process uses it.
"""

import contextlib
import errno
import json
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

from pipelines.cache import usage
from pipelines.util import files

CONTENT, RECORD, USES = "content", "entry.json", "uses"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """Something in the cache. `size` is in bytes; without a hit `used_at` is when it was made."""

    kind: str
    key: str
    about: str
    size: int
    created_at: datetime
    used_at: datetime
    hits: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """entry.json: the content's digest and size, and `facts` for the code that made the entry."""

    about: str
    sha256: str
    size: int
    created_at: str
    facts: Mapping[str, str] = field(default_factory=dict)


class Damaged(Exception):
    """An entry is not as it was written; the text is the reason."""


def describe(content: Path, about: str, facts: Mapping[str, str], now: datetime) -> Record:
    """The record of a finished file; reads all of it."""
    size, created_at = content.stat().st_size, now.isoformat(timespec="seconds")
    return Record(about=about, sha256=files.sha256(content), size=size, created_at=created_at, facts=dict(facts))


def write(folder: Path, record: Record) -> None:
    """Write entry.json into a folder that is not an entry yet.

    It has a digest of its own, as the content has, so nothing here waits for the disk: what is lost in a power failure
    is noticed when it is read.
    """
    plain = asdict(record)
    text = json.dumps(plain | {"digest": files.canonical_digest(plain)}, indent=2)
    (folder / RECORD).write_text(f"{text}\n", encoding="utf-8")


def read(folder: Path) -> Record | None:
    """entry.json; None when the folder is no entry, or entry.json is damaged."""
    if folder.name.startswith("."):
        return None
    try:
        plain = json.loads((folder / RECORD).read_bytes())
        digest = plain.pop("digest")
        return Record(**plain) if digest == files.canonical_digest(plain) else None
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError, AttributeError):
        return None


def listed(folder: Path, kind: str) -> Entry | None:
    """The entry in a folder, its content unread; None when there is none."""
    record = read(folder)
    if record is None:
        return None
    created_at = datetime.fromisoformat(record.created_at)
    used = usage.of(folder / USES, created_at)
    return Entry(
        kind=kind,
        key=folder.name,
        about=record.about,
        size=record.size,
        created_at=created_at,
        used_at=used.last,
        hits=used.hits,
    )


def content(folder: Path) -> Path | None:
    """The path of an entry's content, every byte of which is as it was written; None when there is no entry.

    Raises Damaged, with the reason, otherwise.
    """
    record = read(folder)
    if record is None and (folder / RECORD).exists():
        raise Damaged(f"its {RECORD} is damaged")
    if record is None:
        return None
    try:
        found = files.sha256(folder / CONTENT)
    except OSError as error:
        raise Damaged(f"its content cannot be read: {error.strerror}") from error
    if found != record.sha256:
        raise Damaged("its content has another digest than when it was made")
    return folder / CONTENT


@contextlib.contextmanager
def new(kind: Path) -> Iterator[Path]:
    """A new folder, to be filled and then moved to its place; no clean-up removes it meanwhile."""
    kind.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        ours = False
        while not ours:  # a clean-up may find the folder before it is locked
            folder = Path(tempfile.mkdtemp(dir=kind, prefix=".new."))
            ours = held.enter_context(usage.shared(folder / USES))
        try:
            folder.chmod(0o755)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def settle(folder: Path, place: Path) -> None:
    """Move a filled folder to its place, unless there is an entry, or a dropped one that is still being read."""
    while True:
        try:
            folder.rename(place)
            return
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
        if read(place) is not None or not clean(place):
            return


def evict(place: Path) -> bool:
    """Remove an entry; False when it is in use, or gone already."""
    with usage.exclusive(place / USES) as free:
        if free:
            invalidate(place)
    clean(place)
    return free


def drop(place: Path) -> None:
    """Remove an entry as soon as no process reads it; no new one starts to."""
    with usage.shared(place / USES) as exists:
        if exists:
            invalidate(place)
    clean(place)


def invalidate(place: Path) -> None:
    """Make it no entry any more. Call it while using the entry, so that no other can have taken its place."""
    (place / RECORD).unlink(missing_ok=True)


def clean(place: Path) -> bool:
    """Remove a folder that is no entry and not in use; whether it is gone.

    It is renamed first: an incomplete folder never has the name of an entry.
    """
    with usage.exclusive(place / USES) as free:
        if not free or read(place) is not None:
            return not place.exists()
        gone = place.with_name(f".gone.{uuid.uuid4().hex}")
        try:
            place.rename(gone)
        except FileNotFoundError:  # another process has just removed it
            return True
    shutil.rmtree(gone, ignore_errors=True)
    return True
