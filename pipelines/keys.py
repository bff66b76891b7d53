"""Whose key signs a distribution's images?

The answers are in keys.yaml, each with the public source that its fingerprint was read from.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A public key: its fingerprint (40 hex digits), whose it is, where that was read, and a file that has it."""

    fingerprint: str
    owner: str
    source: str
    keyring: Path | None


def default_key(distribution: str, release: str) -> Key | None:
    """The key that signs the checksums of a distribution's cloud images; None where its maker signs none."""
    raise NotImplementedError
