"""The packages that an index of a package repository lists.

An index is known by its digest, so it is downloaded once, cached with the other downloads, and read once in a run,
however many images were made from it.
"""

import bz2
import functools
import gzip
import lzma
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pipelines.inputs import fetch
from pipelines.inputs.fetch import Wanted
from pipelines.util import compression
from pipelines.util.errors import BuildError, PipelineError

_MOST_READ = 16  # in memory: those of one distribution's images, which are checked one after the other
_UNPACK: Mapping[bytes, Callable[[bytes], bytes]] = {
    b"\xfd7zXZ\0": lzma.decompress,
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
}
REMEDY = (
    "Check the network and the proxy (http_proxy, https_proxy). While a package repository does not answer, only"
    " `rebuild_age` can cause a new build."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A version of a package, with epoch and revision, and its architecture ("all", "noarch" for any)."""

    version: str
    architecture: str


Offers = Mapping[str, tuple[Offer, ...]]  # by the package's name


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """An index as its package repository has it now.

    `wanted` is the file, None when it no longer exists; `read` parses its content. `changed`: it is not what the build
    used. `priority` is apt's (apt_preferences(5)): 500, or less for a repository that is not preferred. `origin` is the
    repository's name for itself, `place` its address.
    """

    place: str
    wanted: Wanted | None
    read: Callable[[bytes], Offers]
    changed: bool
    origin: str = ""
    priority: int = 500


def offers(index: Index, downloads: Path) -> Offers:
    """The packages of an index; BuildError when it cannot be downloaded, or is damaged or not the one listed."""
    if index.wanted is None:
        return {}
    try:
        return _offers(index.wanted, index.read, downloads)
    except PipelineError as error:
        raise BuildError(f"{index.place} cannot be checked: {error.what}", remedy=REMEDY) from error


@functools.lru_cache(maxsize=_MOST_READ)
def _offers(wanted: Wanted, read: Callable[[bytes], Offers], downloads: Path) -> Offers:
    downloads.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        content = fetch.fetch(wanted, downloads, held=held).path.read_bytes()
    return read(_unpacked(content, wanted.name))


def _unpacked(content: bytes, name: str) -> bytes:
    try:
        for start, unpack in _UNPACK.items():
            if content.startswith(start):
                return unpack(content)
        return compression.decompressed(content)  # zstd, or as it is
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise BuildError(f"{name} is damaged: {error}") from error
