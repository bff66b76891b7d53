"""What is in images.yaml beside the images?"""

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from pipelines import notation
from pipelines.base import CONFIG
from pipelines.variant import Glance


@dataclass(frozen=True, kw_only=True, slots=True, config=CONFIG)
class Cloud:
    """What one cloud of clouds.yaml has otherwise than the images say."""

    disk_format: Literal["qcow2", "raw"] = "qcow2"
    """The format that the cloud wants; converted at upload."""
    glance: Glance = field(default_factory=Glance)
    """Merged over each image's own `glance`."""


@dataclass(frozen=True, kw_only=True, slots=True, config=CONFIG)
class CatalogFile:
    """What we offer: the images, and where they go."""

    version: Literal[1]
    """The version of this file's format."""
    records: notation.Place = "builds"
    """Where the small records of builds are kept: builds (their own folder), another folder, relative to this file's,
    or a URL that fsspec knows (s3://bucket/folder)."""
    clouds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Per cloud of clouds.yaml, what differs there."""
    images: Mapping[notation.VariantName, Mapping[str, Any]]
    """The images, by name."""
