"""Has a package that is in the image a newer version in its archive?

Archives say first, with one small request each, which of their indexes are not as the build found them; only those are
read. What an unchanged index offers, the build could have taken, and did not: it says nothing of what is outdated. But
it has a say where it comes before a changed one, as NVIDIA's repository does before the distribution's archive.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cmp_to_key
from pathlib import Path

from pipelines import archives, debian_index, package_index, pins, rpm_index, versions
from pipelines.archives import State
from pipelines.errors import BuildError
from pipelines.manifest import Manifest
from pipelines.package_index import Index
from pipelines.pins import Pins
from pipelines.properties import ARCHITECTURES
from pipelines.variant import Variant
from pipelines.versions import Compare

_MOST_NAMED = 3
# What an operator wants to know first: the kernel and the driver.
_FIRST = re.compile(r"linux-(image|modules|generic|virtual)|kernel(-|$)|libcuda|cuda-drivers|.*nvidia")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Market:
    """Where a build's packages come from, and by which rules."""

    indexes: Sequence[Index]
    pins: Pins
    downloads: Path
    architecture: str
    compare: Compare


def outdated(made: Manifest, variant: Variant, downloads: Path, deadline: float = archives.DEADLINE_SECONDS) -> str:
    """Empty when a new build would find no newer version of any package of the image; else which and what, as in
    "linux-image-amd64 6.12.107-1 → 6.12.110-1, libc6 2.41-12 → 2.41-13, tzdata 2026a-1 → 2026b-1 and 3 more".

    `variant` is what `made` was built from (their fingerprints agree; otherwise that is the reason to build). Indexes
    are kept in `downloads`. BuildError when an archive does not answer within `deadline` seconds, or not rightly: what
    is in the image may then be outdated or not.
    """
    if variant.kind == "import":
        return ""
    states = _asked(made, deadline)
    if not any(state.changed for state in states):
        return ""
    market = _market(made, variant, states, downloads)
    newer = {name: found for name, version in made.packages.items() if (found := _newer(market, name, version))}
    names = sorted(newer, key=lambda name: (_FIRST.match(name) is None, name))
    said = [f"{name.partition(':')[0]} {made.packages[name]} → {newer[name]}" for name in names]
    more = len(said) - _MOST_NAMED
    return ", ".join(said[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _asked(made: Manifest, deadline: float) -> list[State]:
    """What the build's archives say now; BuildError when one of them says nothing."""
    if not made.archives:
        what = f"{made.build_id} does not say from which package archives it was made"
        raise BuildError(what, remedy="Build it again, by this version of the pipeline.")
    states = archives.states(made.archives, deadline)
    if silent := [state.trouble for state in states if state.trouble]:
        raise BuildError(archives.joined(silent), remedy=package_index.REMEDY)
    return states


def _market(made: Manifest, variant: Variant, states: Iterable[State], downloads: Path) -> _Market:
    of_rpm = any(archives.WHOLE in state.known for state in states)
    indexes = [index for state in states for index in (rpm_index if of_rpm else debian_index).of(state)]
    architecture = made.base.get("architecture", "amd64")
    return _Market(
        indexes=indexes,
        pins=pins.of(made, variant),
        downloads=downloads,
        architecture=ARCHITECTURES[architecture] if of_rpm else architecture,
        compare=versions.rpm if of_rpm else versions.debian,
    )


def _newer(market: _Market, name: str, installed: str) -> str:
    """The version that a new build would take in place of the installed one; "" when that is none, or not newer."""
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
    asked = [(pins.priority(market.pins, index, plain), index) for index in market.indexes if index.changed == changed]
    return [
        (priority, offer.version)
        for priority, index in asked
        if priority > above
        for offer in package_index.offers(index, market.downloads).get(plain, ())
        if offer.architecture in right and pins.allow(market.pins, installed, offer.version)
    ]
