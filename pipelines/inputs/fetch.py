"""Is the file the one its maker published?

A file is known by its digest, which is pinned, or comes from a list of checksums with a good signature. Whatever has
another digest is deleted; what is right is kept in a cache under its digest, and hashed again each time it is used.
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
from pipelines.util import files, locks, urls
from pipelines.util.console import note
from pipelines.util.errors import BuildError, CatalogError, HostError

PATIENT = Patience()
LOCK_SECONDS = 4 * 3600.0  # as long as somebody else's download may take


_PLAIN = re.compile(r"(?P<digest>[0-9a-fA-F]{64}|[0-9a-fA-F]{128}) [ *](?:\./)?(?P<name>.+)")
_TAGGED = re.compile(r"SHA(?:256|512) \((?:\./)?(?P<name>.+)\) = (?P<digest>[0-9a-fA-F]{64}|[0-9a-fA-F]{128})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A file from elsewhere, and how it is known to be right.

    Either `url` (http, https or file) or `path`. `sha256` is the digest itself; without it the file `name` is looked
    up in the list at `sums_url`, whose signature (`signature_url`, or inline when that is None) must be by the key
    `signed_by` (40 hex digits), which `keyring` has. Without `signed_by` the list is believed as it is.
    `name` is the file's name in the list and in the cache. A local file that has neither is believed as it is.
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
        if self.signed_by and not self.keyring:  # or its list would be believed without a signature
            raise ValueError(f"{self.name}: no keyring has the key {self.signed_by}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """A file that is right: where it lies, its sha256, and the key that signed for it (None where none did)."""

    path: Path
    sha256: str
    signed_by: str | None


class _WrongContent(BuildError):
    """A file has another digest than the expected one."""


def fetch(wanted: Wanted, cache: Path, patience: Patience = PATIENT, *, held: ExitStack | None = None) -> Fetched:
    """The file, from the cache or downloaded into it; a local one stays where it is.

    Until `held` is closed nobody evicts it; without, it may be gone at any time.

    Raises BuildError when the file, its checksums or their signature are not right, or no server gives them; HostError
    when there is no room for it, or no GnuPG; CatalogError when nothing says what is right.
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
        note(f"{wrong}\nIts maker has published another {wanted.name} meanwhile; trying again with that.")
        expected, sha256 = newer, _remote(wanted, newer, cache, patience, held)
    return Fetched(path=cache / expected / wanted.name, sha256=sha256, signed_by=signer)


def digest(wanted: Wanted, patience: Patience = PATIENT) -> str:
    """The digest that the file must have, without downloading it: sha256, or sha512 from a list that has no other."""
    if wanted.sha256:
        return wanted.sha256.lower()
    if wanted.sums_url:
        return find(_checksums(wanted, wanted.sums_url, patience), wanted.name)
    local = _local(wanted)
    if local is None:
        what = f"nothing says which {wanted.name} is right"
        raise CatalogError(what, remedy="Write `sha256`, or `sha256sums_url` and whose key signs it, in images.yaml.")
    return files.digests(local)[0]


def sha256(wanted: Wanted, cache: Path, patience: Patience = PATIENT) -> str:
    """The sha256 of the file that `fetch` would give, without downloading it; BuildError where that cannot be told."""
    expected = digest(wanted, patience)
    if len(expected) == 64:
        return expected
    here = _local(wanted) or cache / expected / wanted.name  # its maker publishes SHA-512 alone
    if not here.exists():
        raise BuildError(f"{wanted.name} is not here, so nothing but its SHA-512 is known", remedy="Download it.")
    return _checked(here, expected)


def _checksums(wanted: Wanted, url: str, patience: Patience) -> str:
    """The list of checksums, signed by the pinned key where there is one."""
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
    """Have the file in the cache, from its server if need be, and hold it there; its sha256. One process at a time."""
    kept, used = cache / expected / wanted.name, downloads.used(cache, expected)
    busy = f"{wanted.name} is being downloaded by {{holder}}"
    lock = downloads.lock(cache, expected)
    with locks.hold(lock, busy, wait=LOCK_SECONDS, waiting=f"{busy}; waiting for it"):
        sha256 = _kept(kept, expected)
        if sha256 is not None:
            usage.count(used)
        else:
            sha256 = _download(wanted, expected, kept, downloads.partial(cache, expected), patience)
            usage.start(used)
        if held is not None:
            held.enter_context(usage.shared(used))
    return sha256


def _kept(kept: Path, expected: str) -> str | None:
    """The sha256 of the file in the cache; None when it is not there, or was damaged and is dropped."""
    if not kept.exists():
        return None
    try:
        return _checked(kept, expected)
    except _WrongContent:
        note(f"{kept} is damaged and will be downloaded again")
        kept.unlink()
        return None


def _download(wanted: Wanted, expected: str, kept: Path, part: Path, patience: Patience) -> str:
    """Bring the file into the cache; its sha256. What went on with an earlier run's bytes gets a second chance."""
    url = wanted.url or ""
    resumed = part.exists()
    http.into(part, url, patience)
    try:
        sha256 = _checked(part, expected, urls.shown(url))
    except _WrongContent:
        downloads.discard(part)
        if not resumed:
            raise
        return _download(wanted, expected, kept, part, patience)
    kept.parent.mkdir(exist_ok=True)
    part.replace(kept)
    downloads.discard(part)
    return sha256


def _checked(path: Path, expected: str, called: str = "") -> str:
    """A file's sha256; _WrongContent when its digest (sha256 or sha512) is not the expected one."""
    found = files.digests(path)
    if expected not in found:
        got = found[0] if len(expected) == len(found[0]) else found[1]
        raise _WrongContent(
            f"{called or path} is not the file that was expected: its digest is {got}, not {expected}",
            remedy="Do not use it. If its maker has replaced it, update the digest in images.yaml from a named source;"
            " where checksums are published, try again when file and checksums agree.",
        )
    return found[0]


def _local(wanted: Wanted) -> Path | None:
    """Where the file is, if it is a local one."""
    path = wanted.path if wanted.path is not None else _file_of(wanted.url or "")
    if path is not None and not path.is_file():
        raise HostError(f"there is no file {path}", remedy="Put it there, or correct its path in images.yaml.")
    return path


def _small(url: str, patience: Patience) -> bytes:
    path = _file_of(url)
    if path is None:
        return http.small(url, patience)
    try:
        return path.read_bytes()
    except OSError as error:
        remedy = "Put it there, or correct its URL in images.yaml."
        raise HostError(f"{path} cannot be read: {error.strerror}", remedy=remedy) from error


def _file_of(url: str) -> Path | None:
    """The path of a file URL; None for any other."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def find(text: str, name: str) -> str:
    """The digest of the file `name`, in lower case: 64 digits of SHA-256 where the list has it, else 128 of SHA-512.

    BuildError when the list has none, or contradicts itself.
    """
    lines = (_PLAIN.fullmatch(line) or _TAGGED.fullmatch(line) for line in map(str.strip, text.splitlines()))
    entries = [(match["name"], match["digest"].lower()) for match in lines if match]
    for digits in (64, 128):
        digests = {digest for listed, digest in entries if listed == name and len(digest) == digits}
        if len(digests) == 1:
            return digests.pop()
        if digests:
            raise BuildError(f"the checksums give {name} {len(digests)} times, differently", remedy="Ask their maker.")
    there = ", ".join(sorted({listed for listed, _ in entries})[:5]) or "no file at all"
    remedy = f"Correct the URL in images.yaml. The list has: {there}."
    raise BuildError(f"the checksums do not have {name}", remedy=remedy)
