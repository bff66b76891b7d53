"""What is an image made from?

A distribution's release, bootstrapped from packages or unpacked from a cloud image, and how such an image is trusted.
"""

import difflib
from typing import Literal, Self

from pydantic import ConfigDict, ValidationInfo, field_validator, model_validator
from pydantic.dataclasses import dataclass

from pipelines.catalog import distributions, signing_keys, types
from pipelines.catalog.distributions import DISTRIBUTIONS, Release

# What checks a class is compiled at its first use: most are only parts of another, and some commands check nothing.
CONFIG = ConfigDict(extra="forbid", strict=True, defer_build=True)


@dataclass(frozen=True, kw_only=True, slots=True, config=CONFIG)
class Base:
    """What the image is made from."""

    distribution: distributions.Name
    """The distribution."""
    release: str
    """The release, as the distribution's users say it: "trixie", "24.04", "9" (numbers in quotes)."""
    architecture: Literal["amd64", "arm64"] = "amd64"
    """The guest's processor."""
    source: Literal["bootstrap", "cloud-image"] = "bootstrap"
    """bootstrap: made from packages (Debian); cloud-image: a ready image or root file system, from `url` or `path`."""
    url: types.FileUrl | None = None
    """Where the image is: qcow2, raw, squashfs or a tarball. A pointer that moves ("current") is fine."""
    path: types.LocalPath | None = None
    """The same as a local file; relative to this file's folder."""
    sha256sums_url: types.FileUrl | None = None
    """Where its maker publishes the checksums; signed, unless `signature: none`."""
    sha256: types.Sha256 | None = None
    """The image's checksum, computed or read from a named source by whoever writes it here."""
    signature: Literal["required", "inline", "none"] = "required"
    """How the checksums are signed. required: in a file of its own; inline: in the checksums' own file; none: a
    checksum alone is trusted, or a local file as it is."""
    signature_url: types.FileUrl | None = None
    """Where the checksums' signature is; without it, beside them, as their distribution names it."""
    signed_by: types.Fingerprint | None = None
    """Fingerprint of the key that signed the checksums; without it, the distribution's known key."""
    keyring: types.LocalPath | None = None
    """A file with that key; without it, the distribution's own, as packaged."""
    guest_mirror: types.Url | None = None
    """Package mirror of the guest, in place of the distribution's own."""

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
            raise ValueError("a cloud image is in one place; write its `url`, or the `path` of a local file")
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
        raise ValueError(f"a {base.distribution} guest begins with a cloud image; write `source: cloud-image`")
    of_an_image = ("url", "path", "sha256sums_url", "sha256", "signature_url", "signed_by", "keyring")
    if said := [name for name in of_an_image if getattr(base, name) is not None]:
        raise ValueError(f"a bootstrapped base has no `{said[0]}`; remove it, or write `source: cloud-image`")


def _signed(base: Base) -> None:
    """A cloud image without a checksum of its own needs checksums that are signed by a known key."""
    if base.sha256sums_url is None and not base.downloaded:
        raise ValueError(
            "a local image must be checked; write its `sha256`, or `sha256sums_url`, "
            "or `signature: none` to trust it as it is"
        )
    if base.sha256sums_url is None:
        raise ValueError("a download must be checked; write `sha256sums_url` or `sha256`")
    usual = signing_keys.default_key(base.distribution, base.codename)
    if base.signed_by is None and usual is None:
        raise ValueError(
            f"no key is known that signs {base.distribution}'s images; write `signed_by` and `keyring`, "
            "a literal `sha256`, or `signature: none`"
        )
    if base.signed_by is not None and base.keyring is None and signing_keys.keyring(base.signed_by) is None:
        raise ValueError("no file is known that has the key `signed_by`; write its `keyring`")


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
