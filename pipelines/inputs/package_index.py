"""What does a package index offer?

An index is a file that lists an archive's packages. It is known by its digest, so it is downloaded once, kept with the
other downloads, and read once in a run, however many images were made from it.
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

_MOST_READ = 16  # in memory: those of a distribution's images, which are looked at one after the other
_UNPACK: Mapping[bytes, Callable[[bytes], bytes]] = {
    b"\xfd7zXZ\0": lzma.decompress,
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
}
REMEDY = (
    "Check the network and the proxy (http_proxy, https_proxy). While an archive does not answer, nothing but its age"
    " says that an image must be built again."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """One version of a package: with epoch and revision, and for which architecture ("all", "noarch" for any)."""

    version: str
    architecture: str


Offers = Mapping[str, tuple[Offer, ...]]  # by the package's name


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """An index as its archive has it now.

    `wanted` is the file, None where the archive has it no more; `read` is told its content. `changed`: it is not what
    the build used. `priority` is apt's (apt_preferences(5)): 500, or less for an archive that is not to be preferred.
    `origin` is who the archive says that it is, `place` its address.
    """

    place: str
    wanted: Wanted | None
    read: Callable[[bytes], Offers]
    changed: bool
    origin: str = ""
    priority: int = 500


def offers(index: Index, downloads: Path) -> Offers:
    """What the index offers; BuildError when it cannot be had, is not what its archive says it is, or is damaged."""
    if index.wanted is None:
        return {}
    try:
        return _offers(index.wanted, index.read, downloads)
    except PipelineError as error:
        raise BuildError(f"{index.place} cannot be asked: {error.what}", remedy=REMEDY) from error


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
