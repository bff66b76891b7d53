"""Origins of images: a distribution's release, how its cloud image is trusted, and images that are imported."""

import difflib
from typing import Literal, Self

from pydantic import ConfigDict, ValidationInfo, field_validator, model_validator
from pydantic.dataclasses import dataclass

from pipelines.catalog import distributions, signing_keys, types
from pipelines.catalog.distributions import DISTRIBUTIONS, Release

# Validators are compiled at their first use: most classes are only parts of another, and some tasks validate nothing.
CONFIG = ConfigDict(extra="forbid", strict=True, defer_build=True)


@dataclass(frozen=True, kw_only=True, slots=True, config=CONFIG)
class Base:
    """What the image is made from."""

    distribution: distributions.Name
    """The distribution."""
    release: str
    """The release, as its users call it: "trixie", "24.04", "9" (numbers in quotes)."""
    architecture: Literal["amd64", "arm64"] = "amd64"
    """The guest's processor."""
    source: Literal["bootstrap", "cloud-image"] = "bootstrap"
    """bootstrap: built from packages (Debian only); cloud-image: the distribution's own image or root file system, from
    `url` or `path`."""
    url: types.FileUrl | None = None
    """URL of the image: qcow2, raw, squashfs or a tarball. The file there may change (".../current/...")."""
    path: types.LocalPath | None = None
    """Path of the image on this host, relative to this file's folder."""
    sha256sums_url: types.FileUrl | None = None
    """URL of the checksums that the distribution publishes; signed, unless `signature: none`."""
    sha256: types.Sha256 | None = None
    """SHA-256 of the image, which you computed or read from a source that you trust."""
    signature: Literal["required", "inline", "none"] = "required"
    """How the checksums are signed. required: in a separate file; inline: in the same file; none: not signed, so that
    checksums are trusted without a signature, and a local file without a checksum."""
    signature_url: types.FileUrl | None = None
    """URL of the checksums' signature; by default beside them, under the name that the distribution uses."""
    signed_by: types.Fingerprint | None = None
    """Fingerprint of the key that signed the checksums; by default the distribution's known key."""
    keyring: types.LocalPath | None = None
    """A file with that key; not needed for a known key."""
    guest_mirror: types.Url | None = None
    """Package mirror of the guest, instead of the distribution's own."""

    @field_validator("release")
    @classmethod
    def _known_release(cls, release: str, info: ValidationInfo) -> str:
        distribution = DISTRIBUTIONS.get(info.data.get("distribution", ""))
        known = list(distribution.releases) if distribution is not None else [release]
        if release not in known:
            close = difflib.get_close_matches(release, known, n=1) or known
            instead = " or ".join(f'"{each}"' for each in close)
            raise ValueError(f'{info.data["distribution"]} "{release}" is not known; write {instead}')
        return release

    @model_validator(mode="after")
    def _trusted_origin(self) -> Self:
        if self.source == "bootstrap":
            _bootstrap(self)
        elif (self.url is None) == (self.path is None):
            raise ValueError("a cloud image has one source; write either its `url`, or the `path` of a local file")
        elif self.sha256 is None and self.signature != "none":
            _signed(self)
        elif self.sha256 is None and self.downloaded and self.sha256sums_url is None:
            raise ValueError("a download must be checked; write `sha256sums_url` or `sha256`")
        return self

    @property
    def downloaded(self) -> bool:
        """Whether the image comes from a server; a local one may be given by a file: URL too."""
        return self.url is not None and not self.url.startswith("file:")

    @property
    def codename(self) -> str:
        """The release's code name, as package sources and DIB_RELEASE have it: "trixie", "noble", "9"."""
        return self.details.codename

    @property
    def version(self) -> str:
        """The release's number, as /etc/os-release has it: "13", "24.04", "9"."""
        return self.details.version

    @property
    def details(self) -> Release:
        """What the table of distributions has of the release."""
        return DISTRIBUTIONS[self.distribution].releases[self.release]


def _bootstrap(base: Base) -> None:
    if not DISTRIBUTIONS[base.distribution].bootstrap:
        raise ValueError(f"a {base.distribution} guest starts from a cloud image; write `source: cloud-image`")
    of_an_image = ("url", "path", "sha256sums_url", "sha256", "signature_url", "signed_by", "keyring")
    if given := [name for name in of_an_image if getattr(base, name) is not None]:
        raise ValueError(f"a bootstrapped base has no `{given[0]}`; remove it, or write `source: cloud-image`")


def _signed(base: Base) -> None:
    """A cloud image without a checksum of its own needs checksums that are signed by a known key."""
    if base.sha256sums_url is None and not base.downloaded:
        raise ValueError(
            "a local image must be checked; write its `sha256`, or `sha256sums_url`, "
            "or `signature: none` to trust it as it is"
        )
    if base.sha256sums_url is None:
        raise ValueError("a download must be checked; write `sha256sums_url` or `sha256`")
    default = signing_keys.default_key(base.distribution, base.codename)
    if base.signed_by is None and default is None:
        raise ValueError(
            f"no key is known that signs {base.distribution}'s images; write `signed_by` and `keyring`, "
            "a literal `sha256`, or `signature: none`"
        )
    if base.signed_by is not None and base.keyring is None and signing_keys.keyring(base.signed_by) is None:
        raise ValueError("the key `signed_by` is not one of the known keys; write its `keyring`")


@dataclass(frozen=True, kw_only=True, slots=True, config=CONFIG)
class Source:
    """The image of `kind: import`."""

    path: types.LocalPath | None = None
    """A file on this host, relative to this file's folder."""
    url: types.FileUrl | None = None
    """URL to download it from."""
    sha256: types.Sha256
    """Its SHA-256."""
    format: Literal["auto", "qcow2", "raw", "vhdx", "vmdk"] = "auto"
    """Its format; raw is never detected, since any file could be raw."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.url is None):
            raise ValueError("an image has one source; write either its `url`, or the `path` of a local file")
        return self


@dataclass(frozen=True, kw_only=True, slots=True, config=CONFIG)
class Guest:
    """Contents of the image of `kind: import`, as its maker declares them."""

    type: Literal["windows", "linux"]
    """Nova's os_type; windows adds the Hyper-V enlightenments."""
    distribution: str
    """Nova's os_distro: "windows", "rocky"."""
    version: str
    """Nova's os_version, in quotes: "11", "2025"."""
    architecture: Literal["amd64", "arm64"] = "amd64"
    """The guest's processor."""
