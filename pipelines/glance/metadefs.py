"""Comparison of image properties with the cloud's own metadata definitions.

A cloud defines, for Horizon and for tools, which properties images may have and with which values. Glance enforces none
of it. A property that the cloud does not define is no fault, and of several definitions of one name any is enough: the
hypervisors have some names in common.

https://docs.openstack.org/api-ref/image/v2/metadefs-index.html
"""

import functools
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.glance.client import Cloud
from pipelines.glance.properties import Fault, Properties, is_novas
from pipelines.keystone.errors import ServiceError
from pipelines.util import console

_OF_IMAGES = urllib.parse.urlencode({"resource_type": "OS::Glance::Image"})
_LISTED = f"/v2/metadefs/namespaces?{urllib.parse.urlencode({'resource_types': 'OS::Glance::Image'})}"
_STOCK = "OS::"  # the namespaces that come with Glance
_TRUTH = {"true": True, "yes": True, "false": False, "no": False}  # Nova takes either pair for either
_SHOWN_WORDS = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Definition:
    """A namespace's definition of a property: its type, and the bounds where there are any."""

    name: str
    namespace: str
    type: str
    enum: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    min_length: int = 0
    max_length: int | None = None
    pattern: str = ""


def check(cloud: Cloud, properties: Properties) -> tuple[Fault, ...]:
    """Properties that the cloud's definitions forbid. A cloud that shows no definitions gets a note, not an error.

    Glance's own definitions lag behind Nova (Glance 33 lacks hw_cpu_policy: mixed, which Nova has): for the names that
    Nova reads, Nova's types decide, and a contradiction in Glance's namespaces is a warning.
    """
    try:
        known = definitions(cloud)
    except ServiceError as error:
        if error.status is None:
            raise
        console.note(
            f"{cloud.name} does not show its metadata definitions (HTTP {error.status}): properties are not compared"
        )
        return ()
    found = []
    for fault, stock in faults(known, properties):
        if stock and is_novas(fault.name):
            console.warn(f"{cloud.name}: {fault}; Nova accepts it, and Nova decides")
        else:
            found.append(fault)
    return tuple(found)


@functools.lru_cache(maxsize=16)
def definitions(cloud: Cloud) -> tuple[Definition, ...]:
    """All definitions of the cloud for images, names with their prefix there; asked once (20 requests)."""
    doing = "read its metadata definitions"
    found: list[Definition] = []
    where = _LISTED
    while where:
        page = cloud.answer(where, doing)
        for listed in page["namespaces"]:
            path = f"/v2/metadefs/namespaces/{urllib.parse.quote(listed['namespace'], safe='')}?{_OF_IMAGES}"
            found += _read(cloud.answer(path, doing))
        where = page.get("next", "")
    return tuple(found)


def faults(known: Iterable[Definition], properties: Properties) -> Iterator[tuple[Fault, bool]]:
    """Properties that no definition of their name allows; and whether all of these definitions are Glance's own."""
    by_name: dict[str, list[Definition]] = {}
    for definition in known:
        by_name.setdefault(definition.name, []).append(definition)
    for name, value in properties.items():
        wrong = [(each.namespace, _wrong(each, value)) for each in by_name.get(name, ())]
        if wrong and all(why for _, why in wrong):
            listed = "; ".join(f'"{value}" {why} ({namespace})' for namespace, why in wrong)
            yield Fault(name=name, what=listed), all(namespace.startswith(_STOCK) for namespace, _ in wrong)


def _read(namespace: Mapping[str, Any]) -> Iterator[Definition]:
    """A namespace's properties, and those of its objects."""
    for holder in (namespace, *namespace.get("objects", ())):
        for name, raw in (holder.get("properties") or {}).items():
            yield Definition(
                name=name,
                namespace=namespace["namespace"],
                type=raw.get("type", ""),
                enum=tuple(map(str, raw.get("enum") or ())),
                minimum=raw.get("minimum"),
                maximum=raw.get("maximum"),
                min_length=raw.get("minLength") or 0,
                max_length=raw.get("maxLength"),
                pattern=raw.get("pattern") or "",
            )


def _wrong(definition: Definition, value: str) -> str:
    """Why a value does not fit, "" where it does; lists (type array) and types to come fit as they are."""
    if definition.enum and definition.type != "array":
        return "" if any(_same(value, word) for word in definition.enum) else f"is not one of: {_few(definition.enum)}"
    if definition.type in ("integer", "number"):
        return _wrong_number(definition, value)
    if definition.type == "boolean":
        return "" if value.lower() in _TRUTH else "is neither true nor false"
    return _wrong_text(definition, value) if definition.type == "string" else ""


def _wrong_number(definition: Definition, value: str) -> str:
    if not re.fullmatch(r"-?[0-9]+" if definition.type == "integer" else r"-?[0-9]+(\.[0-9]+)?", value):
        return "is not a number" if definition.type == "number" else "is not a whole number"
    if definition.minimum is not None and float(value) < definition.minimum:
        return f"is less than {definition.minimum}"
    if definition.maximum is not None and float(value) > definition.maximum:
        return f"is more than {definition.maximum}"
    return ""


def _wrong_text(definition: Definition, value: str) -> str:
    if len(value) < definition.min_length:
        return f"is shorter than {definition.min_length} characters"
    if definition.max_length is not None and len(value) > definition.max_length:
        return f"is longer than {definition.max_length} characters"
    try:
        fits = re.search(definition.pattern, value)
    except re.error:  # a pattern of another regular expression language: left to the cloud's own tools
        return ""
    return "" if fits else f"does not match {definition.pattern}"


def _same(value: str, word: str) -> bool:
    return value == word or (value in _TRUTH and _TRUTH[value] == _TRUTH.get(word.lower()))


def _few(words: Sequence[str]) -> str:
    return ", ".join(words[:_SHOWN_WORDS]) + (", …" if len(words) > _SHOWN_WORDS else "")
