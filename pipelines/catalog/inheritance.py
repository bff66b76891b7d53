"""Inheritance between images: mappings merge, lists append without repeats, scalars replace, null removes.

An image is its chain merged, from the oldest ancestor down; `abstract`, `description` and `parent` are not inherited.
"""

from collections.abc import Mapping, Sequence
from typing import Any

OWN = frozenset({"parent", "abstract", "description"})  # never inherited
_TAKEN_AWAY = ("glance", "properties")  # here null also takes away what is derived, so it stays until then


def chain(name: str, parents: Mapping[str, str | None]) -> tuple[str, ...]:
    """An image's ancestors and itself, oldest first. It ends early where a parent is unknown, or comes again."""
    found = [name]
    while (parent := parents[found[-1]]) in parents and parent not in found:
        found.append(str(parent))
    return tuple(reversed(found))


def inherit(documents: Sequence[Mapping[str, Any]], own: Mapping[str, Any]) -> dict[str, Any]:
    """A chain of images merged, oldest first: without nulls, and with the description of `own` alone."""
    merged: dict[str, Any] = {key: value for key, value in own.items() if key == "description"}
    for document in documents:
        merged = merge(merged, {key: value for key, value in document.items() if key not in OWN})
    return without_nulls(merged)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`. A null stays where it is, since it removes from what lies further below too."""
    merged = dict(below)
    for key, value in above.items():
        merged[key] = _merged(below.get(key), value)
    return merged


def without_nulls(document: Mapping[str, Any], where: tuple[str, ...] = ()) -> dict[str, Any]:
    """A merged document without the keys that null removed."""
    return {
        key: without_nulls(value, (*where, key)) if isinstance(value, dict) else value
        for key, value in document.items()
        if value is not None or where == _TAKEN_AWAY
    }


def _merged(below: Any, above: Any) -> Any:
    if isinstance(above, dict):
        return merge(below if isinstance(below, dict) else {}, above)
    if isinstance(above, list):
        return _appended(below if isinstance(below, list) else [], above)
    return above


def _appended(below: list[Any], above: list[Any]) -> list[Any]:
    together: list[Any] = []
    for item in [*below, *above]:
        if not any(item == other and type(item) is type(other) for other in together):
            together.append(item)
    return together
