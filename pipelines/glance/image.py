"""An image as Glance describes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What an image has besides its properties; an image's other keys are properties.
_OWN_KEYS = frozenset(
    (
        *("checksum", "container_format", "created_at", "direct_url", "disk_format", "file", "id", "locations"),
        *("min_disk", "min_ram", "name", "os_hash_algo", "os_hash_value", "os_hidden", "owner", "protected", "schema"),
        *("self", "size", "status", "stores", "tags", "updated_at", "virtual_size", "visibility"),
    )
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """An image in Glance. `size` is in bytes, None before there is data, and so are `hash_*`.

    `stores` are those that have the data, where the cloud has several.
    """

    id: str
    name: str
    status: str
    visibility: str
    hidden: bool
    protected: bool
    owner: str
    disk_format: str
    stores: tuple[str, ...]
    size: int | None
    hash_algorithm: str | None
    hash_value: str | None
    min_disk: int
    min_ram: int
    created_at: str
    tags: tuple[str, ...]
    properties: Mapping[str, str]


def read(raw: Mapping[str, Any]) -> Image:
    """An image from Glance's answer."""
    raw = dict(raw)  # of glanceclient's model each access to its items is a deep copy
    return Image(
        id=raw["id"],
        name=raw.get("name") or "",
        status=raw["status"],
        visibility=raw["visibility"],
        hidden=bool(raw.get("os_hidden", False)),
        protected=bool(raw.get("protected", False)),
        owner=raw.get("owner") or "",
        disk_format=raw.get("disk_format") or "",
        stores=tuple(filter(None, (raw.get("stores") or "").split(","))),
        size=raw.get("size"),
        hash_algorithm=raw.get("os_hash_algo"),
        hash_value=raw.get("os_hash_value"),
        min_disk=raw.get("min_disk", 0),
        min_ram=raw.get("min_ram", 0),
        created_at=raw["created_at"],
        tags=tuple(sorted(raw.get("tags", ()))),
        properties={name: str(value) for name, value in raw.items() if name not in _OWN_KEYS and value is not None},
    )
