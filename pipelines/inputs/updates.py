"""Newer versions, in the package repositories, of the packages in an image.

One small request to each repository shows which of its indexes have changed since the build; only those are read. The
build could have installed what an unchanged index offers, and did not, so that is no update. But such an index counts
where it has precedence over a changed one, as NVIDIA's repository has over the distribution's.

A repository without an answer does not hide updates in the others: each of those is reason enough to build.
"""

import re
from collections.abc import Sequence
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

# Named first: the kernel and the driver.
_FIRST = re.compile(r"linux-(image|modules|generic|virtual)|kernel(-|$)|libcuda|cuda-drivers|.*nvidia")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sources:
    """The indexes that a build's packages come from, and the rules for choosing among them.

    `failed` maps a repository that cannot be checked to the reason; one whose index cannot be read is added later.
    """

    indexes: Sequence[Index]
    pins: Pins
    downloads: Path
    architecture: str
    compare: Compare
    failed: dict[str, str]


def outdated(made: Manifest, variant: Variant, downloads: Path, deadline: float = repositories.DEADLINE_SECONDS) -> str:
    """The packages of the image of which a new build would install a newer version; "" when there is none.

    As in "linux-image-amd64 6.12.107-1 → 6.12.110-1, libc6 2.41-12 → 2.41-13, tzdata 2026a-1 → 2026b-1 and 3 more".

    `variant` is what `made` was built from (their fingerprints agree; otherwise that is the reason to build). Indexes
    are cached in `downloads`. BuildError when a repository gives no valid answer within `deadline` seconds and the
    others have nothing newer: it is not known then whether the image is outdated.
    """
    if variant.kind == "import":
        return ""
    states = _asked(made, deadline)
    if not any(state.changed for state in states):
        return ""
    sources = _sources(made, variant, states, downloads)
    newer = {name: found for name, version in made.packages.items() if (found := _newer(sources, name, version))}
    if sources.failed and not newer:
        raise BuildError(text.listed(list(sources.failed.values()), separator="; "), remedy=package_index.REMEDY)
    names = sorted(newer, key=lambda name: (_FIRST.match(name) is None, name))
    return text.listed([f"{name.partition(':')[0]} {made.packages[name]} → {newer[name]}" for name in names])


def _asked(made: Manifest, deadline: float) -> list[State]:
    """The present state of the build's repositories; BuildError when they are not recorded."""
    if not made.archives:
        what = f"the package repositories that {made.build_id} was built from are not recorded"
        raise BuildError(what, remedy="Build it again with this version of the pipeline.")
    return repositories.states(made.archives, deadline)


def _sources(made: Manifest, variant: Variant, states: Sequence[State], downloads: Path) -> _Sources:
    of_rpm = any(repositories.WHOLE in state.known for state in states)
    failed = {state.place: state.trouble for state in states if state.trouble}
    indexes: list[Index] = []
    for state in states:
        try:
            indexes += () if state.trouble else (rpm_index if of_rpm else apt_index).of(state)
        except BuildError as error:
            failed[state.place] = error.what
    architecture = made.base.get("architecture", "amd64")
    return _Sources(
        indexes=indexes,
        pins=pinning.of(made, variant),
        downloads=downloads,
        architecture=ARCHITECTURES[architecture] if of_rpm else architecture,
        compare=package_versions.rpm if of_rpm else package_versions.debian,
        failed=failed,
    )


def _newer(sources: _Sources, name: str, installed: str) -> str:
    """The version that a new build would install instead; "" when there is none, or it is not newer."""
    if not _is_version(sources.compare, name, installed):
        return ""
    offered = _offered(sources, name, installed, changed=True)
    first = max((priority for priority, _ in offered), default=0)
    versions_of_first = [version for priority, version in offered if priority == first]
    candidate = max(versions_of_first, key=cmp_to_key(sources.compare), default=installed)
    if sources.compare(candidate, installed) <= 0 or _offered(sources, name, installed, changed=False, above=first):
        return ""
    return candidate


def _offered(sources: _Sources, name: str, installed: str, *, changed: bool, above: int = 0) -> list[tuple[int, str]]:
    """Priority and version of each possible replacement, from the indexes that have changed or from the others.

    Indexes with a priority of `above` or less are not read.
    """
    plain, _, qualified = name.partition(":")  # libc6:amd64, where several architectures can be installed at once
    right = {qualified or sources.architecture, "all", "noarch"}
    asked = [
        (pinning.priority(sources.pins, index, plain), index) for index in sources.indexes if index.changed == changed
    ]
    return [
        (priority, offer.version)
        for priority, index in asked
        if priority > above
        for offer in _offers(sources, index).get(plain, ())
        if offer.architecture in right
        and pinning.allow(sources.pins, installed, offer.version)
        and _is_version(sources.compare, plain, offer.version)
    ]


def _offers(sources: _Sources, index: Index) -> Offers:
    """The packages of an index; none where it cannot be read, and then it is not tried again."""
    if index.place in sources.failed:
        return {}
    try:
        return package_index.offers(index, sources.downloads)
    except BuildError as error:
        sources.failed[index.place] = error.what
        return {}


@cache  # so the warning comes once, however many images have the package
def _is_version(compare: Compare, name: str, version: str) -> bool:
    """Whether a version can be compared; a single invalid one must not prevent the comparison of the others."""
    try:
        compare(version, version)
    except ValueError:
        console.warn(f"{name}: {version!r} is not a valid version, and is ignored")
        return False
    return True
