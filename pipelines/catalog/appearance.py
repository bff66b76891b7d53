"""How does an image appear in a cloud?"""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipelines.catalog import types
from pipelines.catalog.base import CONFIG


@dataclass(frozen=True, kw_only=True, slots=True, config=CONFIG)
class Glance:
    """How the image appears in the cloud. A change here needs no build."""

    name: types.ImageName = "{variant}"
    """What users find it by; `{variant}` stands for the image's key here. No two images of a cloud have the same."""
    visibility: Literal["private", "shared", "community", "public"] = "private"
    """Who sees it; public needs an administrator."""
    members: tuple[str, ...] = ()
    """IDs of the projects that a shared image is shared with."""
    tags: tuple[str, ...] = ()
    """Glance's tags."""
    protected: bool = False
    """Refuse deletion."""
    min_ram: Annotated[int, Field(ge=1)] = 512
    """Smallest memory of a server, in MiB."""
    properties: Mapping[str, types.PropertyValue | None] = field(default_factory=dict)
    """Image properties beside those that follow from the variant; null takes one of those away."""
