"""Files that are fetched and verified by their digests.

The digest is pinned, or comes from a list of checksums with a good signature. A file with another digest is deleted; a
good one is cached under its digest, and hashed again each time it is used.
"""

import re
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipelines.cache import downloads, usage
from pipelines.inputs import gpg, http
from pipelines.inputs.http import Patience
from pipelines.util import files, locks, text, urls
from pipelines.util.console import note
from pipelines.util.errors import BuildError, CatalogError, HostError

PATIENT = Patience()
LOCK_SECONDS = 4 * 3600.0  # as long as another process's download may take
_PLAIN = re.compile(r"(?P<digest>[0-9a-fA-F]{64}|[0-9a-fA-F]{128}) [ *](?:\./)?(?P<name>.+)")
_TAGGED = re.compile(r"SHA(?:256|512) \((?:\./)?(?P<name>.+)\) = (?P<digest>[0-9a-fA-F]{64}|[0-9a-fA-F]{128})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A file to fetch, and how it is verified.

    Either `url` (http, https or file) or `path`. `sha256` is the digest itself; without it the file `name` is looked
    up in the list at `sums_url`, whose signature (`signature_url`, or inline when that is None) must be by the key
    `signed_by` (40 hex digits), which `keyring` has. Without `signed_by` the list is not verified. `name` is the file's
    name in the list and in the cache. A local file with neither is not verified.
    """

    name: str
    url: str | None = None
    path: Path | None = None
    sha256: str | None = None
    sums_url: str | None = None
    signature_url: str | None = None
    signed_by: str | None = None
    keyring: Path | None = None

    def __post_init__(self) -> None:
        if self.signed_by and not self.keyring:  # or its list would not be verified
            raise ValueError(f"{self.name}: no keyring has the key {self.signed_by}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """A verified file: its path, its sha256, and the key that signed its checksum (None without one)."""

    path: Path
    sha256: str
    signed_by: str | None


class _WrongContent(BuildError):
    """A file has another digest than the expected one."""


def fetch(wanted: Wanted, cache: Path, patience: Patience = PATIENT, *, held: ExitStack | None = None) -> Fetched:
    """The file, from the cache or downloaded into it; a local one stays where it is.

    It is not evicted until `held` is closed; without `held` it may be at any time.

    Raises BuildError when the file, its checksums or their signature are wrong or cannot be downloaded; HostError when
    the disk is too small or GnuPG is missing; CatalogError when there is no digest to verify it by.
    """
    expected = digest(wanted, patience)
    signer = None if wanted.sha256 else wanted.signed_by
    if (local := _local(wanted)) is not None:
        return Fetched(path=local, sha256=_checked(local, expected), signed_by=signer)
    try:
        sha256 = _remote(wanted, expected, cache, patience, held)
    except _WrongContent as wrong:
        newer = digest(wanted, patience)
        if newer == expected:
            raise
        note(f"{wrong}\nA newer {wanted.name} has been published meanwhile; downloading that.")
        expected, sha256 = newer, _remote(wanted, newer, cache, patience, held)
    return Fetched(path=cache / expected / wanted.name, sha256=sha256, signed_by=signer)


def digest(wanted: Wanted, patience: Patience = PATIENT) -> str:
    """The digest that the file must have, without downloading it: sha256, or sha512 from a list without sha256."""
    if wanted.sha256:
        return wanted.sha256.lower()
    if wanted.sums_url:
        return find(_checksums(wanted, wanted.sums_url, patience), wanted.name)
    local = _local(wanted)
    if local is None:
        what = f"there is no digest to verify {wanted.name} by"
        raise CatalogError(
            what, remedy="Write `sha256`, or `sha256sums_url` and the key that signs it, in images.yaml."
        )
    return files.digests(local)[0]


def sha256(wanted: Wanted, cache: Path, patience: Patience = PATIENT) -> str:
    """The sha256 of the file that `fetch` would return, without downloading it; BuildError where it is not known."""
    expected = digest(wanted, patience)
    if len(expected) == 64:
        return expected
    path = _local(wanted) or cache / expected / wanted.name  # only its SHA-512 is published
    if not path.exists():
        raise BuildError(f"{wanted.name} is not on this host, and only its SHA-512 is known", remedy="Build the image.")
    return _checked(path, expected)


def _checksums(wanted: Wanted, url: str, patience: Patience) -> str:
    """The list of checksums, verified if a key is pinned."""
    content = _small(url, patience)
    if wanted.signed_by and wanted.keyring:
        with tempfile.TemporaryDirectory(prefix="sums-") as folder:
            data, signature = Path(folder, urls.file_name(url)), None
            data.write_bytes(content)
            if wanted.signature_url:
                signature = Path(folder, "signature")
                signature.write_bytes(_small(wanted.signature_url, patience))
            content = gpg.verify(data, signature, wanted.signed_by, keyring=wanted.keyring)
    return content.decode("utf-8", errors="replace")


def _remote(wanted: Wanted, expected: str, cache: Path, patience: Patience, held: ExitStack | None) -> str:
    """Download the file unless it is cached, and hold it in the cache; its sha256. One process at a time."""
    cached, used = cache / expected / wanted.name, downloads.used(cache, expected)
    busy = f"{wanted.name} is being downloaded by {{holder}}"
    lock = downloads.lock(cache, expected)
    with locks.hold(lock, busy, wait=LOCK_SECONDS, waiting=f"{busy}; waiting for it"):
        sha256 = _cached(cached, expected)
        if sha256 is not None:
            usage.count(used)
        else:
            sha256 = _download(wanted, expected, cached, downloads.partial(cache, expected), patience)
            usage.start(used)
        if held is not None:
            held.enter_context(usage.shared(used))
    return sha256


def _cached(path: Path, expected: str) -> str | None:
    """The sha256 of the file in the cache; None when it is not there, or was damaged and is removed."""
    if not path.exists():
        return None
    try:
        return _checked(path, expected)
    except _WrongContent:
        note(f"{path} is damaged and will be downloaded again")
        path.unlink()
        return None


def _download(wanted: Wanted, expected: str, cached: Path, part: Path, patience: Patience) -> str:
    """Download the file into the cache; its sha256. A wrong file that continued an earlier run's is tried once more."""
    url = wanted.url or ""
    resumed = part.exists()
    http.into(part, url, patience)
    try:
        sha256 = _checked(part, expected, urls.shown(url))
    except _WrongContent:
        downloads.discard(part)
        if not resumed:
            raise
        return _download(wanted, expected, cached, part, patience)
    cached.parent.mkdir(exist_ok=True)
    part.replace(cached)
    downloads.discard(part)
    return sha256


def _checked(path: Path, expected: str, called: str = "") -> str:
    """A file's sha256; _WrongContent when its digest (sha256 or sha512) is not the expected one."""
    found = files.digests(path)
    if expected not in found:
        got = found[0] if len(expected) == len(found[0]) else found[1]
        raise _WrongContent(
            f"{called or path} is not the expected file: its digest is {got}, not {expected}",
            remedy="Do not use it. If its publisher has replaced it, update the digest in images.yaml from a trusted"
            " source; where checksums are published, try again when file and checksums agree.",
        )
    return found[0]


def _local(wanted: Wanted) -> Path | None:
    """The path of a local file; None for one to download."""
    path = wanted.path if wanted.path is not None else _file_of(wanted.url or "")
    if path is not None and not path.is_file():
        raise HostError(f"there is no file {path}", remedy="Copy it there, or correct its path in images.yaml.")
    return path


def _small(url: str, patience: Patience) -> bytes:
    path = _file_of(url)
    if path is None:
        return http.small(url, patience)
    try:
        return path.read_bytes()
    except OSError as error:
        remedy = "Make it readable, or correct its URL in images.yaml."
        raise HostError(f"{path} cannot be read: {error.strerror}", remedy=remedy) from error


def _file_of(url: str) -> Path | None:
    """The path of a file URL; None for any other."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def find(sums: str, name: str) -> str:
    """The digest of the file `name`, in lower case: 64 digits of SHA-256 where the list has it, else 128 of SHA-512.

    Lists are as sha256sum and sha512sum print them, with or without --tag. BuildError when the list has no digest of
    the file, or several different ones.
    """
    lines = (_PLAIN.fullmatch(line) or _TAGGED.fullmatch(line) for line in map(str.strip, sums.splitlines()))
    entries = [(match["name"], match["digest"].lower()) for match in lines if match]
    for digits in (64, 128):
        digests = {digest for listed, digest in entries if listed == name and len(digest) == digits}
        if len(digests) == 1:
            return digests.pop()
        if digests:
            raise BuildError(
                f"the checksums list {name} with {len(digests)} different digests", remedy="Ask their publisher."
            )
    others = text.listed(sorted({listed for listed, _ in entries}), most=5) or "no file at all"
    remedy = f"Correct the URL in images.yaml. The list has: {others}."
    raise BuildError(f"the checksums do not list {name}", remedy=remedy)
