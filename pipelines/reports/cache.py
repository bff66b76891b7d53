"""Report of the cache for `inv cache`: its entries, its size and its limit, as a table or as JSON."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pipelines.cache import store
from pipelines.cache.entry import Entry
from pipelines.util import console, units


def show(root: Path, limit: str | None, now: datetime, *, clear: bool, as_json: bool) -> None:
    """Set the limit or clear the cache if that is requested, then show the entries."""
    evicted: list[Entry] = []
    if limit is not None:
        store.set_limit(root, limit)
        evicted += store.shrink(root, store.limit(root))
    if clear:
        evicted += store.clear(root)
    _show(root, evicted, now, as_json=as_json)


def _show(root: Path, evicted: Sequence[Entry], now: datetime, *, as_json: bool) -> None:
    """Show all entries, least recently used first, and those that have just been evicted."""
    entries, limit = store.entries(root), store.limit(root)
    size = sum(entry.size for entry in entries)
    if as_json:
        plain = {"entries": [_plain(entry) for entry in entries], "evicted": [_plain(entry) for entry in evicted]}
        console.emit_json({"size": size, "limit": limit} | plain)
        return
    columns = ("kind", "what", "size", "age", "last used", "hits")
    total = ("total", _number(entries), f"{units.size(size)} of {units.size(limit)}", "", "", "")
    console.table("Cache, least recently used first", columns, [*(_row(entry, now) for entry in entries), total])
    if evicted:
        console.note(f"evicted: {_number(evicted)}, {units.size(sum(entry.size for entry in evicted))}")


def _row(entry: Entry, now: datetime) -> tuple[str, ...]:
    age, rest = (units.age(now - then) for then in (entry.created_at, entry.used_at))
    return entry.kind, entry.about, units.size(entry.size), age, f"{rest} ago" if entry.hits else "-", str(entry.hits)


def _plain(entry: Entry) -> dict[str, object]:
    return {
        "kind": entry.kind,
        "key": entry.key,
        "about": entry.about,
        "size": entry.size,
        "created_at": entry.created_at.isoformat(timespec="seconds"),
        "used_at": entry.used_at.isoformat(timespec="seconds") if entry.hits else None,
        "hits": entry.hits,
    }


def _number(entries: Sequence[Entry]) -> str:
    return "1 entry" if len(entries) == 1 else f"{len(entries)} entries"
