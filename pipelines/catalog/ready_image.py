"""What does images.yaml say of a ready image?

Where the image of `kind: import` is, and what its maker says is in it.
"""

from typing import Literal, Self

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from pipelines.catalog import types
from pipelines.catalog.base import CONFIG


@dataclass(frozen=True, kw_only=True, slots=True, config=CONFIG)
class Source:
    """The ready image of `kind: import`."""

    path: types.LocalPath | None = None
    """A file on this host; relative to this file's folder."""
    url: types.FileUrl | None = None
    """Where to download it."""
    sha256: types.Sha256
    """Its checksum."""
    format: Literal["auto", "qcow2", "raw", "vhdx", "vmdk"] = "auto"
    """Its format; raw must be said, since any file could be that."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.url is None):
            raise ValueError("an image is in one place; write its `url`, or the `path` of a local file")
        return self


@dataclass(frozen=True, kw_only=True, slots=True, config=CONFIG)
class Guest:
    """What is in the ready image of `kind: import`; nobody but its maker can tell."""

    type: Literal["windows", "linux"]
    """Nova's os_type: windows brings the Hyper-V enlightenments."""
    distribution: str
    """Nova's os_distro: "windows", "rocky"."""
    version: str
    """Nova's os_version, in quotes: "11", "2025"."""
    architecture: Literal["amd64", "arm64"] = "amd64"
    """The guest's processor."""
