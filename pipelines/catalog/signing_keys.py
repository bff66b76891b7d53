"""Keys that sign the checksums of cloud images: signing_keys.yaml, with the public source of each fingerprint."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipelines.util import files

_HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A public key: its fingerprint (40 hex digits), its owner, the source of both, and the file with the key.

    Its signature has the URL of the signed file, followed by `signature_suffix`.
    """

    distribution: str
    releases: tuple[str, ...]
    fingerprint: str
    owner: str
    source: str
    keyring: Path
    signature_suffix: str


def default_key(distribution: str, release: str) -> Key | None:
    """The key that signs the checksums of a distribution's cloud images; None where they are not signed.

    `release` is as in images.yaml: "24.04", "9".
    """
    for key in known():
        if key.distribution == distribution and (not key.releases or release in key.releases):
            return key
    return None


def keyring(fingerprint: str) -> Path | None:
    """The file with a known key; None for any other key."""
    return next((key.keyring for key in known() if key.fingerprint == fingerprint.upper()), None)


@cache
def known() -> tuple[Key, ...]:
    """All of signing_keys.yaml."""
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
