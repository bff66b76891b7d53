"""Sections of images.yaml beside the images: the file itself, and what differs per cloud."""

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
    """How a cloud wants the data of images, as far as `clouds` in images.yaml sets it; transfer.py decides the rest.

    `stores` are Glance's stores (none: its default store; None: all that are writable). `web_download_url` is where
    the builds' folder is served to that cloud, empty if nowhere.
    """

    disk_format: DiskFormat = "qcow2"
    import_method: ImportMethod = "auto"
    stores: tuple[str, ...] | None = ()
    web_download_url: str = ""


@dataclass(frozen=True, kw_only=True, slots=True, config=CONFIG)
class Cloud:
    """What differs for one cloud of clouds.yaml."""

    disk_format: DiskFormat = "qcow2"
    """Format that the cloud needs (raw where Ceph stores the disks); images are converted at upload."""
    import_method: ImportMethod = "auto"
    """Import method of the data; auto: what the cloud offers and the other keys need, else a plain upload (put)."""
    stores: types.Stores = ()
    """Glance's stores that get the data, or all; by default Glance's default store."""
    web_download_url: types.WebUrl | None = None
    """URL at which the builds' folder is served to this cloud, which then downloads the images itself."""
    glance: Glance = field(default_factory=Glance)
    """Merged over each image's own `glance`."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.import_method == "web-download" and self.web_download_url is None:
            raise ValueError("the cloud must know where to download from; write `web_download_url: https://…`")
        if self.import_method in ("put", "glance-direct") and self.web_download_url is not None:
            what = f"with `import_method: {self.import_method}` nothing is downloaded"
            raise ValueError(f"{what}; remove `web_download_url`, or write `import_method: auto`")
        if self.import_method == "put" and len(self.stores) > 1:
            raise ValueError("a plain upload goes to one store; write `import_method: auto`, or one store")
        return self

    @property
    def delivery(self) -> Delivery:
        """The part of this that is about the images' data."""
        return Delivery(
            disk_format=self.disk_format,
            import_method=self.import_method,
            stores=None if "all" in self.stores else self.stores,
            web_download_url=self.web_download_url or "",
        )


@dataclass(frozen=True, kw_only=True, slots=True, config=CONFIG)
class CatalogFile:
    """The images that are offered, and the clouds that they are released to."""

    version: Literal[1]
    """Version of this file's format."""
    records: types.Place = "builds"
    """Where build records are stored: builds (the builds' own folder), another folder, relative to this file's, or a
    URL that fsspec supports (s3://bucket/folder)."""
    clouds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What differs per cloud of clouds.yaml, by the cloud's name."""
    images: Mapping[types.VariantName, Mapping[str, Any]]
    """The images, by name."""
