"""Check for private keys anywhere on a disk, free space included."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from pipelines.verify.check import Guest, Outcome, outcome

_BLOCK = 16 * 2**20  # bytes read at once
_LONGEST_START = 1024  # bytes of a key's begin line, headers and first line of Base64

# The begin line of a PEM private key and one full line of its Base64. A program that can write or read such keys holds
# the begin line alone.
_PRIVATE_KEY = re.compile(
    rb"-----BEGIN (?:(?:RSA |DSA |EC |OPENSSH |ENCRYPTED )?PRIVATE KEY|PGP PRIVATE KEY BLOCK)-----\r?\n"
    rb"(?:[A-Za-z-]{1,30}: [^\r\n]{1,200}\r?\n){0,4}(?:\r?\n)?[A-Za-z0-9+/=]{60}"
)
# Private keys that are public: files of packages, the same in every guest in the world. A pattern and its reason.
_PUBLISHED_KEYS = (
    (re.compile(r"/usr/lib/[^/]+/libgnutls\.so\.[0-9.]+"), "the keys of GnuTLS's self-tests, compiled in"),
)
_KEY_FILES = ("/var/lib/dkms/mok.key", "/var/lib/shim-signed/mok/MOK.priv")


def private_keys(guest: Guest) -> Outcome:
    """No private key anywhere on the disk, free space included."""
    problems = [f"{path} is a signing key" for path in _KEY_FILES if guest.files.lstat(path)]
    offsets = list(_private_keys(guest.disk))
    owners = guest.files.owners(offsets)
    published = 0
    for offset in offsets:
        owner = owners.get(offset)
        if owner is not None and any(pattern.fullmatch(owner) for pattern, _ in _PUBLISHED_KEYS):
            published += 1
            continue
        where = owner or f"free space of the disk, at byte {offset} (a deleted file)"
        problems.append(f"there is a private key in {where}")
    fine = "no private key on the disk" + (f"; {published} that packages publish as samples" if published else "")
    return outcome(sorted(set(problems)), fine)


def _private_keys(disk: Path) -> Iterator[int]:
    """The offset of each private key on a raw disk; holes are not read."""
    with disk.open("rb") as source:
        for start, end in _filled(source.fileno()):
            for at in range(start, end, _BLOCK):
                block = os.pread(source.fileno(), min(_BLOCK + _LONGEST_START, end - at), at)
                yield from (at + hit.start() for hit in _PRIVATE_KEY.finditer(block) if hit.start() < _BLOCK)


def _filled(fd: int) -> Iterator[tuple[int, int]]:
    """The ranges of a sparse file that hold data."""
    size, at = os.fstat(fd).st_size, 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole up to the end
            return
        at = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, at
