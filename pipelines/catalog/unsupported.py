"""What does images.yaml accept, but the pipeline not do yet?

Such a value is refused by name, never ignored. When the work for a key is done, its line here goes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class NotYet:
    """Of the values at `path`, only those in `supported` work (and nothing: null, an empty list, no mapping)."""

    path: Path
    supported: tuple[object, ...] = ()


_OF_AN_IMAGE = (NotYet(path=("flavors",)),)


def in_image(document: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """The path of each value of a resolved image that is not supported yet, and what to write instead."""
    for entry in _OF_AN_IMAGE:
        value = _value(document, entry)
        if value is None or value in ([], {}) or value in entry.supported:
            continue
        instead = " or ".join(str(word).lower() for word in entry.supported)
        shown = str(value).lower() if isinstance(value, str | int | float) else "this"
        yield entry.path, f"{shown} is not supported yet; {f'write {instead}' if instead else 'leave it out'}"


def _value(document: Mapping[str, Any], entry: NotYet) -> object:
    section: Any = document
    for part in entry.path[:-1]:
        section = section.get(part)
        if not isinstance(section, dict):
            return None
    return section.get(entry.path[-1])
