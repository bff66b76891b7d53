"""Whose key signs a distribution's images?

The answers are in keys.yaml, each with the public source that its fingerprint was read from.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipelines.util import files

_HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A public key: its fingerprint (40 hex digits), whose it is, where that was read, and the file that has it.

    A signature by it is at the URL of what it signs, with `signature_suffix` behind.
    """

    distribution: str
    releases: tuple[str, ...]
    fingerprint: str
    owner: str
    source: str
    keyring: Path
    signature_suffix: str


def default_key(distribution: str, release: str) -> Key | None:
    """The key that signs the checksums of a distribution's cloud images; None where its maker signs none.

    `release` is as in images.yaml: "24.04", "9".
    """
    for key in known():
        if key.distribution == distribution and (not key.releases or release in key.releases):
            return key
    return None


def keyring(fingerprint: str) -> Path | None:
    """The file that has a key we know; None for any other key."""
    return next((key.keyring for key in known() if key.fingerprint == fingerprint.upper()), None)


@cache
def known() -> tuple[Key, ...]:
    """All of keys.yaml."""
    return tuple(
        Key(
            distribution=entry["distribution"],
            releases=tuple(entry.get("releases", ())),
            fingerprint=entry["fingerprint"],
            owner=entry["owner"],
            source=entry["source"],
            keyring=_HERE / "keyrings" / entry["file"],
            signature_suffix=entry["signature_suffix"],
        )
        for entry in files.read_yaml(_HERE / "signing_keys.yaml")
    )
