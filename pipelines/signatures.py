"""Who signed this file?

One question to GnuPG, with one answer that counts: a good signature by exactly the pinned key. A home of its own that
is thrown away keeps the operator's keys, trust and agent out of it.
"""

from pathlib import Path


def verify(data: Path, signature: Path | None, fingerprint: str, keyring: Path | None) -> bytes:
    """The signed content of `data`; BuildError unless the key `fingerprint` (40 hex digits) signed it.

    `signature` is a detached one; None for a file that is signed inline ("clearsigned"), whose content is returned
    without its armour. `keyring` is a file with the public key, binary or armoured.
    """
    raise NotImplementedError
