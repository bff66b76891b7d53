"""The cache of layers, kernel modules and downloads, below one folder `root` (`<builds>/.cache`).

It has a size limit: the least recently used entries are evicted first. Any number of builds may use it, and each may be
killed at any moment. Content is used only if every byte is as it was written.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from pipelines.cache import downloads, usage
from pipelines.cache import entry as cache_entry
from pipelines.cache.entry import Entry
from pipelines.util import console, files, locks, units
from pipelines.util.errors import UsageError

LAYERS, MODULES = "layers", "modules"
KINDS = (LAYERS, MODULES)
DEFAULT_LIMIT = "40GiB"
EVICTING_SECONDS = 300.0
MAKING_SECONDS = 4 * 3600.0  # as long as another build may take


@contextlib.contextmanager
def reading(root: Path, kind: str, key: str) -> Iterator[Path | None]:
    """An entry's content, verified and counted as a hit, which is not removed meanwhile; None when there is no entry.

    A damaged entry is dropped, with a warning.
    """
    place = root / kind / key
    with usage.shared(place / cache_entry.USES) as exists:
        content = _sound_content(place) if exists else None
        if content is not None:
            used(root, kind, key)
            yield content
            return
    cache_entry.clean(place)  # no longer in use by us
    yield None


def _sound_content(place: Path) -> Path | None:
    """The content of an entry that is as it was written; a damaged one is no entry any more, with a warning."""
    try:
        return cache_entry.content(place)
    except cache_entry.Damaged as reason:
        console.warn(f"{place} is damaged and will be made again: {reason}")
        cache_entry.invalidate(place)
        return None


def put(root: Path, kind: str, key: str, content: Path, *, about: str, facts: Mapping[str, str], now: datetime) -> None:
    """Move a finished file into the cache. If the key exists already, that entry stays: both are as good.

    OSError when it cannot be cached, with nothing left behind.
    """
    with cache_entry.new(root / kind) as folder:
        moved = content.rename(folder / cache_entry.CONTENT)
        cache_entry.write(folder, cache_entry.describe(moved, about, facts, now))
        usage.start(folder / cache_entry.USES)
        cache_entry.settle(folder, root / kind / key)


def facts(root: Path, kind: str, key: str) -> Mapping[str, str] | None:
    """The facts that an entry was made with; None when there is no entry. The content is not read."""
    record = cache_entry.read(root / kind / key)
    return None if record is None else record.facts


def used(root: Path, kind: str, key: str) -> None:
    """Count a hit."""
    usage.count(root / kind / key / cache_entry.USES)


def drop(root: Path, kind: str, key: str) -> None:
    """Remove an entry as soon as no process reads it; no new one starts to."""
    cache_entry.drop(root / kind / key)


@contextlib.contextmanager
def making(root: Path, kind: str, key: str) -> Iterator[None]:
    """Let at most one process (and thread) make an entry; others wait, with a note. HostError after hours."""
    what = f"{kind}/{key[:12]} in the cache is being made by {{holder}}"
    with locks.hold(root / kind / f"{key}.lock", what, wait=MAKING_SECONDS, waiting=f"{what}; waiting for it"):
        yield


def entries(root: Path) -> list[Entry]:
    """All entries, least recently used first."""
    places = [(place, kind) for kind in KINDS for place in sorted((root / kind).glob("*"))]
    listed = [entry for place, kind in places if (entry := cache_entry.listed(place, kind)) is not None]
    downloaded = downloads.entries(root / downloads.KIND)
    return sorted([*listed, *downloaded], key=lambda entry: entry.used_at)


def shrink(root: Path, limit: int) -> list[Entry]:
    """Shrink the cache to `limit` bytes; returns what was evicted. What is in use, made or downloaded stays."""
    evicted = []
    with _evicting(root):
        found = entries(root)
        size = sum(entry.size for entry in found)
        for entry in found:
            if size <= limit:
                break
            if _evict(root, entry):
                evicted.append(entry)
                size -= entry.size
    return evicted


def clear(root: Path) -> list[Entry]:
    """Evict everything that is not in use, made or downloaded; returns what was evicted."""
    with _evicting(root):
        return [entry for entry in entries(root) if _evict(root, entry)]


def limit(root: Path) -> int:
    """The limit in bytes; the default where none was set."""
    path = _limit_file(root)
    try:
        return units.parse_size(json.loads(path.read_bytes())["limit"])
    except FileNotFoundError:
        pass
    except (ValueError, TypeError, KeyError):
        console.warn(f"{path} is damaged, so the limit is {DEFAULT_LIMIT}; set another with `./inv cache --limit SIZE`")
    return units.parse_size(DEFAULT_LIMIT)


def set_limit(root: Path, text: str) -> None:
    """Set the limit for later builds; UsageError when the text is not a valid size. Nothing is evicted yet."""
    try:
        units.parse_size(text)
    except ValueError as error:
        raise UsageError(f"--limit {text}: {error}", remedy=f"Write it like this: --limit {DEFAULT_LIMIT}.") from None
    root.mkdir(parents=True, exist_ok=True)
    files.write_json(_limit_file(root), {"limit": text})


def _limit_file(root: Path) -> Path:
    return root / "limit.json"


@contextlib.contextmanager
def _evicting(root: Path) -> Iterator[None]:
    """Let one process evict at a time, or two would evict twice as much; first remove what killed ones left."""
    with locks.hold(root / "evicting.lock", "the cache is being cleared by {holder}", wait=EVICTING_SECONDS):
        _sweep(root)
        yield


def _evict(root: Path, entry: Entry) -> bool:
    folder = root / entry.kind
    if entry.kind == downloads.KIND:
        return downloads.evict(folder, entry.key)
    return cache_entry.evict(folder / entry.key)


def _sweep(root: Path) -> None:
    """Remove what killed processes left incomplete, and locks of entries that neither exist nor are being made."""
    downloads.sweep(root / downloads.KIND)
    for place in (place for kind in KINDS for place in sorted((root / kind).glob("*"))):
        if place.suffix != ".lock":
            cache_entry.clean(place)
        elif not place.with_suffix("").exists():
            with locks.held_if_free(place) as ours:
                if ours:
                    place.unlink()
