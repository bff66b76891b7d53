"""What is in images.yaml beside the images?"""

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal, Self

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from pipelines.catalog import types
from pipelines.catalog.base import CONFIG
from pipelines.catalog.variant import Glance

ImportMethod = Literal["auto", "put", "glance-direct", "web-download"]
DiskFormat = Literal["qcow2", "raw"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """What `clouds` in images.yaml says about the data of every image; what it leaves open, transfer.py decides.

    `stores` are Glance's stores (none: its default one; None: all that can be written). `web_download_url` is where
    the builds' folder is served to that cloud, empty if nowhere.
    """

    disk_format: DiskFormat = "qcow2"
    import_method: ImportMethod = "auto"
    stores: tuple[str, ...] | None = ()
    web_download_url: str = ""


@dataclass(frozen=True, kw_only=True, slots=True, config=CONFIG)
class Cloud:
    """What one cloud of clouds.yaml has otherwise than the images say."""

    disk_format: DiskFormat = "qcow2"
    """The format that the cloud wants (raw, where Ceph holds the disks); converted at upload."""
    import_method: ImportMethod = "auto"
    """How the data gets there; auto: as the cloud offers and the other keys need, a plain upload (put) otherwise."""
    stores: types.Stores = ()
    """Glance's stores that get the data, or all; without it, Glance's default store."""
    web_download_url: types.WebUrl | None = None
    """Where the builds' folder is served to this cloud, which then fetches the images itself."""
    glance: Glance = field(default_factory=Glance)
    """Merged over each image's own `glance`."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.import_method == "web-download" and self.web_download_url is None:
            raise ValueError("the cloud has to know where it downloads from; write `web_download_url: https://…`")
        if self.import_method in ("put", "glance-direct") and self.web_download_url is not None:
            what = f"with `import_method: {self.import_method}` nothing is downloaded"
            raise ValueError(f"{what}; remove `web_download_url`, or write `import_method: auto`")
        if self.import_method == "put" and len(self.stores) > 1:
            raise ValueError("a plain upload goes to one store; write `import_method: auto`, or one store")
        return self

    @property
    def delivery(self) -> Delivery:
        """What of this is about the images' data."""
        return Delivery(
            disk_format=self.disk_format,
            import_method=self.import_method,
            stores=None if "all" in self.stores else self.stores,
            web_download_url=self.web_download_url or "",
        )


@dataclass(frozen=True, kw_only=True, slots=True, config=CONFIG)
class CatalogFile:
    """What we offer: the images, and where they go."""

    version: Literal[1]
    """The version of this file's format."""
    records: types.Place = "builds"
    """Where the small records of builds are kept: builds (their own folder), another folder, relative to this file's,
    or a URL that fsspec knows (s3://bucket/folder)."""
    clouds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Per cloud of clouds.yaml, what differs there."""
    images: Mapping[types.VariantName, Mapping[str, Any]]
    """The images, by name."""
