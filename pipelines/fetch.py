"""Is the file the one its maker published?

A file is known by its digest, which is pinned, or comes from a list of checksums with a good signature. Whatever has
another digest is deleted; what is right is kept in a cache under its digest, and hashed again each time it is used.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A file from elsewhere, and how it is known to be right.

    Either `url` (http, https or file) or `path`. `sha256` is the digest itself; without it the file `name` is looked
    up in the list at `sums_url`, whose signature (`signature_url`, or inline when that is None) must be by the key
    `signed_by` (40 hex digits), which `keyring` has. Without `signed_by` the list is believed as it is.
    `name` is the file's name in the list and in the cache.
    """

    name: str
    url: str | None = None
    path: Path | None = None
    sha256: str | None = None
    sums_url: str | None = None
    signature_url: str | None = None
    signed_by: str | None = None
    keyring: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """A file that is right: where it lies, its digest, and the key that signed for it (None: the digest was pinned)."""

    path: Path
    sha256: str
    signed_by: str | None


def fetch(wanted: Wanted, cache: Path) -> Fetched:
    """The file, from the cache or downloaded into it; a local one stays where it is.

    Raises BuildError when the file, its checksums or their signature are not right, or no server gives them; HostError
    when there is no room for it, or no GnuPG.
    """
    raise NotImplementedError


def digest(wanted: Wanted, cache: Path) -> str:
    """The sha256 that the file must have, without downloading the file itself."""
    raise NotImplementedError
