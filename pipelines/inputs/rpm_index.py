"""Package index of an rpm repository.

repomd.xml lists the repository's indexes; `primary` is the one with the packages and their versions, as createrepo_c
writes them (https://github.com/rpm-software-management/createrepo_c).
"""

import re
from collections import defaultdict
from html import unescape
from urllib.parse import urljoin
from xml.etree import ElementTree

from pipelines.inputs.fetch import Wanted
from pipelines.inputs.package_index import REMEDY, Index, Offer, Offers
from pipelines.inputs.repositories import WHOLE, State
from pipelines.util.errors import BuildError

_REPO = "{http://linux.duke.edu/metadata/repo}"
_NAME = re.compile(rb"<name>([^<]+)</name>")
_ARCHITECTURE = re.compile(rb"<arch>([^<]+)</arch>")
_VERSION = re.compile(rb"<version\s([^>]*)>")
_ATTRIBUTE = re.compile(r"""(\w+)\s*=\s*["']([^"']*)["']""")


def of(state: State) -> list[Index]:
    """The package index of a repository that a build used, as its repomd.xml lists it now."""
    return [
        Index(place=state.place, wanted=_primary(state), read=read, changed=known in state.changed)
        for known in state.known
        if known == WHOLE
    ]


def read(content: bytes) -> Offers:
    """The packages of an index, in all versions.

    A large index is 100 MB of XML, nine tenths of it about files and dependencies; an XML parser takes many times as
    long as a search for the three elements that matter.
    """
    found: dict[str, tuple[Offer, ...]] = defaultdict(tuple)
    for package in content.split(b"<package ")[1:]:
        name, architecture, version = (each.search(package) for each in (_NAME, _ARCHITECTURE, _VERSION))
        if name is None or architecture is None or version is None:
            raise BuildError("its index has a package without a name, an architecture or a version", remedy=REMEDY)
        evr = dict(_ATTRIBUTE.findall(_text(version)))
        epoch = "" if evr.get("epoch", "0") == "0" else f"{evr['epoch']}:"
        offer = Offer(version=f"{epoch}{evr.get('ver', '')}-{evr.get('rel', '')}", architecture=_text(architecture))
        found[_text(name)] += (offer,)
    return dict(found)


def _text(match: re.Match[bytes]) -> str:
    return unescape(match[1].decode(errors="replace"))


def _primary(state: State) -> Wanted:
    """The index with its digest; BuildError when repomd.xml does not list it."""
    try:
        data = ElementTree.fromstring(state.content).find(f"{_REPO}data[@type='primary']")
    except ElementTree.ParseError:
        data = None
    location = None if data is None else data.find(f"{_REPO}location")
    checksum = None if data is None else data.find(f"{_REPO}checksum[@type='sha256']")
    if location is None or checksum is None or not checksum.text:
        what = f"{state.place} cannot be checked: it lists no package index with a sha256"
        raise BuildError(what, remedy=REMEDY)
    path = location.get("href", "")
    root = state.url.removesuffix("repodata/repomd.xml")
    return Wanted(name=path.rpartition("/")[2], url=urljoin(root, path), sha256=checksum.text.strip())
