"""What is kept between builds, and for how long?

Packed layers, compiled kernel modules and downloads, below one folder `root` (`<builds>/.cache`), up to a limit: what
was used least recently goes first. Any number of builds may be at it, and each may be killed at any moment. Nothing is
used that is not, byte for byte, what was put there.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from pipelines.cache import downloads as cache_downloads
from pipelines.cache import entry as cache_entry
from pipelines.cache import usage
from pipelines.cache.entry import Entry
from pipelines.util import console, files, locks, units
from pipelines.util.errors import UsageError

LAYERS, MODULES = "layers", "modules"
KINDS = (LAYERS, MODULES)
DEFAULT_LIMIT = "40GiB"
EVICTING_SECONDS = 300.0
MAKING_SECONDS = 4 * 3600.0  # as long as somebody else's build may take


@contextlib.contextmanager
def reading(root: Path, kind: str, key: str) -> Iterator[Path | None]:
    """An entry's content, verified and counted as a hit, which nobody removes meanwhile; None when there is none.

    A damaged entry is dropped, with a warning.
    """
    place = root / kind / key
    with contextlib.ExitStack() as held:
        there = held.enter_context(usage.shared(place / cache_entry.USES))
        if why := cache_entry.damage(place) if there else "":
            console.warn(f"{place} is damaged and is made anew: {why}")
            cache_entry.forget(place)
        found = there and cache_entry.read(place) is not None
        if found:
            used(root, kind, key)
        else:
            held.close()
            cache_entry.clean(place)
        yield place / cache_entry.CONTENT if found else None


def put(root: Path, kind: str, key: str, content: Path, *, about: str, facts: Mapping[str, str], now: datetime) -> None:
    """Move a finished file in. Whoever was first keeps the place: under one key all are as good.

    OSError when it cannot be kept, with nothing left behind.
    """
    with cache_entry.new(root / kind) as folder:
        moved = content.rename(folder / cache_entry.CONTENT)
        cache_entry.write(folder, cache_entry.describe(moved, about, facts, now))
        usage.begin(folder / cache_entry.USES)
        cache_entry.settle(folder, root / kind / key)


def facts(root: Path, kind: str, key: str) -> Mapping[str, str] | None:
    """What its maker wanted to know of an entry; None when there is none. The content stays unread."""
    record = cache_entry.read(root / kind / key)
    return None if record is None else record.facts


def used(root: Path, kind: str, key: str) -> None:
    """Count a hit."""
    usage.count(root / kind / key / cache_entry.USES)


def drop(root: Path, kind: str, key: str) -> None:
    """End an entry. Who reads it may end that; nobody else begins to."""
    cache_entry.drop(root / kind / key)


@contextlib.contextmanager
def making(root: Path, kind: str, key: str) -> Iterator[None]:
    """At most one process (and thread) makes an entry; others wait, and say so. HostError after hours."""
    what = f"{kind}/{key[:12]} in the cache is being made by {{holder}}"
    with locks.hold(root / kind / f"{key}.lock", what, wait=MAKING_SECONDS, waiting=f"{what}; waiting for it"):
        yield


def entries(root: Path) -> list[Entry]:
    """All that is kept, least recently used first."""
    places = [(place, kind) for kind in KINDS for place in sorted((root / kind).glob("*"))]
    listed = [entry for place, kind in places if (entry := cache_entry.listed(place, kind)) is not None]
    downloads = cache_downloads.entries(root / cache_downloads.KIND)
    return sorted([*listed, *downloads], key=lambda entry: entry.used_at)


def shrink(root: Path, limit: int) -> list[Entry]:
    """Bring the cache down to so many bytes; what was evicted. What is being read, made or downloaded stays."""
    evicted = []
    with _evicting(root):
        kept = entries(root)
        size = sum(entry.size for entry in kept)
        for entry in kept:
            if size <= limit:
                break
            if _evict(root, entry):
                evicted.append(entry)
                size -= entry.size
    return evicted


def clear(root: Path) -> list[Entry]:
    """Evict all but what is being read, made or downloaded; what was evicted."""
    with _evicting(root):
        return [entry for entry in entries(root) if _evict(root, entry)]


def limit(root: Path) -> int:
    """How many bytes the cache may have on this machine."""
    path = _limit_file(root)
    try:
        return units.parse_size(json.loads(path.read_bytes())["limit"])
    except FileNotFoundError:
        pass
    except (ValueError, TypeError, KeyError):
        console.warn(f"{path} says no size, so the limit is {DEFAULT_LIMIT}; `./inv cache --limit SIZE` sets another")
    return units.parse_size(DEFAULT_LIMIT)


def set_limit(root: Path, text: str) -> None:
    """Set the limit for all builds to come; UsageError when the text is no size. Nothing is evicted yet."""
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
    """One evicts at a time, or two would evict twice as much; what killed processes left goes first."""
    with locks.hold(root / "evicting.lock", "the cache is being cleared by {holder}", wait=EVICTING_SECONDS):
        _sweep(root)
        yield


def _evict(root: Path, entry: Entry) -> bool:
    folder = root / entry.kind
    if entry.kind == cache_downloads.KIND:
        return cache_downloads.evict(folder, entry.key)
    return cache_entry.evict(folder / entry.key)


def _sweep(root: Path) -> None:
    """Remove what was half-done when a process was killed, and the locks of what nobody keeps or makes."""
    cache_downloads.sweep(root / cache_downloads.KIND)
    for place in (place for kind in KINDS for place in sorted((root / kind).glob("*"))):
        if place.suffix != ".lock":
            cache_entry.clean(place)
        elif not place.with_suffix("").exists():
            with locks.held_if_free(place) as ours:
                if ours:
                    place.unlink()
