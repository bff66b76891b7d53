"""Has a package that is in the image a newer version in its archive?

Archives say first, with one small request each, which of their indexes are not as the build found them; only those are
read. What an unchanged index offers, the build could have taken, and did not: it says nothing of what is outdated. But
it has a say where it comes before a changed one, as NVIDIA's repository does before the distribution's archive.

An archive that gives no answer takes nothing from what the others say: what is newer there is reason enough.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cmp_to_key
from pathlib import Path

from pipelines.artifacts.manifest import Manifest
from pipelines.catalog.variant import Variant
from pipelines.inputs import apt_index, package_index, package_versions, pinning, repositories, rpm_index
from pipelines.inputs.package_index import Index, Offers
from pipelines.inputs.package_versions import Compare
from pipelines.inputs.pinning import Pins
from pipelines.inputs.repositories import State
from pipelines.util import console, text
from pipelines.util.architecture import ARCHITECTURES
from pipelines.util.errors import BuildError

# What an operator wants to know first: the kernel and the driver.
_FIRST = re.compile(r"linux-(image|modules|generic|virtual)|kernel(-|$)|libcuda|cuda-drivers|.*nvidia")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Market:
    """Where a build's packages come from, and by which rules.

    `silent` maps an archive that cannot be asked to why, and is filled with those of which an index cannot be had.
    """

    indexes: Sequence[Index]
    pins: Pins
    downloads: Path
    architecture: str
    compare: Compare
    silent: dict[str, str]


def outdated(made: Manifest, variant: Variant, downloads: Path, deadline: float = repositories.DEADLINE_SECONDS) -> str:
    """Empty when a new build would find no newer version of any package of the image; else which and what, as in
    "linux-image-amd64 6.12.107-1 → 6.12.110-1, libc6 2.41-12 → 2.41-13, tzdata 2026a-1 → 2026b-1 and 3 more".

    `variant` is what `made` was built from (their fingerprints agree; otherwise that is the reason to build). Indexes
    are kept in `downloads`. BuildError when an archive does not answer within `deadline` seconds, or not rightly, and
    the others have nothing newer: what is in the image may then be outdated or not.
    """
    if variant.kind == "import":
        return ""
    states = _asked(made, deadline)
    if not any(state.changed for state in states):
        return ""
    market = _market(made, variant, states, downloads)
    newer = {name: found for name, version in made.packages.items() if (found := _newer(market, name, version))}
    if market.silent and not newer:
        raise BuildError(text.listed(list(market.silent.values()), separator="; "), remedy=package_index.REMEDY)
    return _said(made, newer)


def _said(made: Manifest, newer: Mapping[str, str]) -> str:
    """What is newer, in an operator's words."""
    names = sorted(newer, key=lambda name: (_FIRST.match(name) is None, name))
    said = [f"{name.partition(':')[0]} {made.packages[name]} → {newer[name]}" for name in names]
    return text.listed(said)


def _asked(made: Manifest, deadline: float) -> list[State]:
    """What the build's archives say now; BuildError when nobody knows which they are."""
    if not made.archives:
        what = f"{made.build_id} does not say from which package archives it was made"
        raise BuildError(what, remedy="Build it again, by this version of the pipeline.")
    return repositories.states(made.archives, deadline)


def _market(made: Manifest, variant: Variant, states: Sequence[State], downloads: Path) -> _Market:
    of_rpm = any(repositories.WHOLE in state.known for state in states)
    silent = {state.place: state.trouble for state in states if state.trouble}
    indexes: list[Index] = []
    for state in states:
        try:
            indexes += () if state.trouble else (rpm_index if of_rpm else apt_index).of(state)
        except BuildError as error:
            silent[state.place] = error.what
    architecture = made.base.get("architecture", "amd64")
    return _Market(
        indexes=indexes,
        pins=pinning.of(made, variant),
        downloads=downloads,
        architecture=ARCHITECTURES[architecture] if of_rpm else architecture,
        compare=package_versions.rpm if of_rpm else package_versions.debian,
        silent=silent,
    )


def _newer(market: _Market, name: str, installed: str) -> str:
    """The version that a new build would take in place of the installed one; "" when that is none, or not newer."""
    if not _is_version(market.compare, name, installed):
        return ""
    offered = _offered(market, name, installed, changed=True)
    first = max((priority for priority, _ in offered), default=0)
    versions_of_first = [version for priority, version in offered if priority == first]
    candidate = max(versions_of_first, key=cmp_to_key(market.compare), default=installed)
    if market.compare(candidate, installed) <= 0 or _offered(market, name, installed, changed=False, above=first):
        return ""
    return candidate


def _offered(market: _Market, name: str, installed: str, *, changed: bool, above: int = 0) -> list[tuple[int, str]]:
    """Priority and version of what could come in a package's place: from indexes that have changed, or have not.

    Of those with a priority above `above`; no other is read.
    """
    plain, _, qualified = name.partition(":")  # libc6:amd64, where several architectures can be installed at once
    right = {qualified or market.architecture, "all", "noarch"}
    asked = [
        (pinning.priority(market.pins, index, plain), index) for index in market.indexes if index.changed == changed
    ]
    return [
        (priority, offer.version)
        for priority, index in asked
        if priority > above
        for offer in _offers(market, index).get(plain, ())
        if offer.architecture in right
        and pinning.allow(market.pins, installed, offer.version)
        and _is_version(market.compare, plain, offer.version)
    ]


def _offers(market: _Market, index: Index) -> Offers:
    """What an index offers: nothing, where it cannot be had, and then it is not asked for again."""
    if index.place in market.silent:
        return {}
    try:
        return package_index.offers(index, market.downloads)
    except BuildError as error:
        market.silent[index.place] = error.what
        return {}


@cache  # so it is said once, however many images have the package
def _is_version(compare: Compare, name: str, version: str) -> bool:
    """Whether this can be compared; one paragraph that is wrong, somewhere, must not end the comparison of the rest."""
    try:
        compare(version, version)
    except ValueError:
        console.warn(f"{name}: {version!r} is no version that can be compared, and is left out")
        return False
    return True
