"""Package indexes of apt repositories.

The format is Debian's (https://wiki.debian.org/DebianRepository/Format), which Ubuntu and NVIDIA follow.
"""

import re
from collections import defaultdict

from pipelines.inputs.fetch import Wanted
from pipelines.inputs.package_index import Index, Offer, Offers
from pipelines.inputs.repositories import State

_FORMS = (".xz", ".gz", ".zst", ".bz2", "")  # the smallest first; repositories list a plain form that they do not have
_FIELD = re.compile(r"^([A-Z][\w-]*): *(.*?) *$", re.MULTILINE)


def of(state: State) -> list[Index]:
    """The indexes that a build used of a repository, as its InRelease file lists them now."""
    fields = dict(_FIELD.findall(state.content.decode(errors="replace")))
    by_hash = fields.get("Acquire-By-Hash") == "yes"
    root = re.sub("(In)?Release$", "", state.url)
    return [
        Index(
            place=state.place,
            wanted=_wanted(root, known, state, by_hash),
            read=read,
            changed=known in state.changed,
            origin=fields.get("Origin", ""),
            priority=_priority(fields),
        )
        for known in state.known
    ]


def read(content: bytes) -> Offers:
    """The packages of an index, without those that Ubuntu offers only to some users yet (phased updates).

    A large index has 60,000 paragraphs of 20 fields, so each is searched for the few that matter, and not parsed.
    """
    found: dict[str, tuple[Offer, ...]] = defaultdict(tuple)
    for paragraph in content.split(b"\n\n"):
        fields = b"\n" + paragraph
        name = _field(fields, b"\nPackage:")
        if name and _field(fields, b"\nPhased-Update-Percentage:") in {"", "100"}:
            offer = Offer(version=_field(fields, b"\nVersion:"), architecture=_field(fields, b"\nArchitecture:"))
            found[name] += (offer,)
    return dict(found)


def _field(fields: bytes, name: bytes) -> str:
    """A field's value, "" when it is missing."""
    at = fields.find(name)
    if at < 0:
        return ""
    at += len(name)
    end = fields.find(b"\n", at)
    return fields[at : end if end >= 0 else None].strip().decode(errors="replace")


def _wanted(root: str, known: str, state: State, by_hash: bool) -> Wanted | None:
    """The smallest form of an index; by its digest where the repository supports that, so that updates do not race."""
    plain = re.sub(r"\.(xz|gz|zst|bz2)$", "", known)
    for index in (plain + form for form in _FORMS):
        if index in state.now:
            folder, _, name = index.rpartition("/")
            sha256 = state.now[index]
            path = f"{folder}/by-hash/SHA256/{sha256}".lstrip("/") if by_hash else index
            return Wanted(name=name, url=root + path, sha256=sha256)
    return None


def _priority(fields: dict[str, str]) -> int:
    """The priority that apt gives to a repository: less than usual for backports and experimental."""
    if fields.get("NotAutomatic") != "yes":
        return 500
    return 100 if fields.get("ButAutomaticUpgrades") == "yes" else 1
