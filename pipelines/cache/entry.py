"""What is one kept thing?

A folder, `<kind>/<key>/`, with the file itself (`content`), what is known about it (`entry.json`) and who uses it
(`uses`). It appears whole, by a rename; without a good entry.json it is no entry, and a left-over once nobody is at it.
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
    """What entry.json says: of the content its digest and size, and `facts` that its maker wants to know again."""

    about: str
    sha256: str
    size: int
    created_at: str
    facts: Mapping[str, str] = field(default_factory=dict)


def describe(content: Path, about: str, facts: Mapping[str, str], now: datetime) -> Record:
    """The record of a finished file; reads all of it."""
    size, created_at = content.stat().st_size, now.isoformat(timespec="seconds")
    return Record(about=about, sha256=files.sha256(content), size=size, created_at=created_at, facts=dict(facts))


def write(folder: Path, record: Record) -> None:
    """Write entry.json into a folder that nobody sees yet.

    It has its own digest, as the content has. So nothing here waits for the disk: what a power failure tears is found
    when it is read.
    """
    plain = asdict(record)
    text = json.dumps(plain | {"digest": files.canonical_digest(plain)}, indent=2)
    (folder / RECORD).write_text(f"{text}\n", encoding="utf-8")


def read(folder: Path) -> Record | None:
    """What entry.json says; None when the folder is no entry, or entry.json is not what was written."""
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


def damage(folder: Path) -> str:
    """What is wrong with an entry, in a few words; empty when every byte is as it was written, or there is no entry."""
    record = read(folder)
    if record is None:
        return f"its {RECORD} is damaged" if (folder / RECORD).exists() else ""
    try:
        sound = files.sha256(folder / CONTENT) == record.sha256
    except OSError as error:
        return f"its content cannot be read: {error.strerror}"
    return "" if sound else "its content has another digest than when it was made"


@contextlib.contextmanager
def new(kind: Path) -> Iterator[Path]:
    """A new folder that no clean-up takes while we are at it, to be filled and then given its place."""
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
    """Give a filled folder its place. Whoever was there first keeps it, and who reads what was dropped there, too."""
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
    """Remove an entry that nobody uses; False when somebody does, or it is gone already."""
    with usage.alone(place / USES) as free:
        if free:
            forget(place)
    clean(place)
    return free


def drop(place: Path) -> None:
    """End an entry. Who reads it may end that; nobody else begins to."""
    with usage.shared(place / USES) as there:
        if there:
            forget(place)
    clean(place)


def forget(place: Path) -> None:
    """From now on it is no entry. Call it while using the entry: then nobody can have put another in its place."""
    (place / RECORD).unlink(missing_ok=True)


def clean(place: Path) -> bool:
    """Remove a folder that is no entry and that nobody is at; whether it is gone.

    It goes by a rename: half a folder is never seen under an entry's name.
    """
    with usage.alone(place / USES) as free:
        if not free or read(place) is not None:
            return not place.exists()
        gone = place.with_name(f".gone.{uuid.uuid4().hex}")
        try:
            place.rename(gone)
        except FileNotFoundError:  # somebody else's clean-up has just ended
            return True
    shutil.rmtree(gone, ignore_errors=True)
    return True
