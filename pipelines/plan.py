"""What must be done?

Pure: what is wanted (targets), what exists (the inventory) and the time go in, actions with their reasons come out.
Carrying out all of them makes the next plan empty.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

Verb = Literal["build", "verify", "upload", "promote", "update", "prune"]
State = Literal["current", "candidate", "retired", "broken"]

_MOST_NAMED = 3  # inputs that a reason names before it only counts the others


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A variant as it should be.

    `parts` maps each input, in an operator's words, to its digest. `clouds` maps each cloud to the release_digest of
    the variant there, since a cloud may have its own visibility and properties.
    """

    variant: str
    fingerprint: str
    clouds: Mapping[str, str] = field(default_factory=dict)
    keep: int = 2
    rebuild_age: timedelta | None = None
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalBuild:
    """A complete build that lies here. `verified` is None where that was never tried."""

    variant: str
    build_id: str
    fingerprint: str
    created_at: datetime
    verified: bool | None = None
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class CloudImage:
    """An image of ours in a cloud.

    `state`: current (visible), candidate (uploaded, never shown yet), retired (hidden), broken (half uploaded).
    """

    cloud: str
    id: str
    variant: str
    build_id: str
    fingerprint: str
    release_digest: str
    state: State
    created_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Inventory:
    """All that exists: here, and in the clouds that were asked."""

    builds: tuple[LocalBuild, ...] = ()
    images: tuple[CloudImage, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """One thing to do, and why. `cloud` is None for what happens here.

    `build` includes the verification of what it builds. `build_id` is the build that is verified, uploaded, updated
    or promoted; None for the one that this plan builds. `images` are the IDs of what is updated, promoted or deleted.
    When an action fails, the later ones of its variant and cloud (of all clouds, for a build) must not be carried
    out: with `keep: 1`, what `prune` deletes may be current until the action before has replaced it.
    """

    verb: Verb
    variant: str
    cloud: str | None
    reason: str
    build_id: str | None = None
    images: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    """What exists of one variant, and of each build the best that is known."""

    builds: Mapping[str, LocalBuild]
    images: Sequence[CloudImage]

    def made(self) -> dict[str, LocalBuild]:
        """Every build that lies here or in a cloud. What is in a cloud was verified before its upload."""
        found: dict[str, LocalBuild] = {}
        for image in self.images:
            # Of several copies, the first to be uploaded is the nearest to when the build was made.
            before = found.get(image.build_id)
            if image.state != "broken" and (before is None or image.created_at < before.created_at):
                found[image.build_id] = _as_build(image)
        for build_id, build in self.builds.items():
            uploaded = build.verified is None and build_id in found
            found[build_id] = replace(build, verified=True) if uploaded else build
        return found


def plan(targets: Iterable[Target], inventory: Inventory, now: datetime, *, fetches: bool = True) -> list[Action]:
    """What to do so that every target is built, verified and current in its clouds, in the order to do it.

    `fetches`: whether a build that only a cloud has can be brought here; else one that is needed is built anew.
    """
    builds: dict[str, dict[str, LocalBuild]] = defaultdict(dict)
    images: dict[str, list[CloudImage]] = defaultdict(list)
    for build in inventory.builds:
        builds[build.variant][build.build_id] = build
    for image in inventory.images:
        images[image.variant].append(image)
    actions: list[Action] = []
    for target in targets:
        known = _Known(builds=builds[target.variant], images=images[target.variant])
        actions += _for_target(target, known, now, fetches)
    return actions


def _as_build(image: CloudImage) -> LocalBuild:
    """What an image in a cloud says of its build."""
    return LocalBuild(
        variant=image.variant,
        build_id=image.build_id,
        fingerprint=image.fingerprint,
        created_at=image.created_at,
        verified=True,
    )


def _for_target(target: Target, known: _Known, now: datetime, fetches: bool) -> Iterator[Action]:
    made = known.made()
    wanted = _newest(build for build in made.values() if _serves(build, target, now))
    reason = _why_not(wanted, target, known, fetches) if wanted else _why_build(target, made)
    if wanted is None or reason:
        yield Action(verb="build", variant=target.variant, cloud=None, reason=reason)
        yield from _for_clouds(target, known, None)
        return
    if wanted.verified is None:
        reason = f"{wanted.build_id} was never verified"
        yield Action(verb="verify", variant=target.variant, cloud=None, reason=reason, build_id=wanted.build_id)
    yield from _for_clouds(target, known, wanted.build_id)


def _why_not(wanted: LocalBuild, target: Target, known: _Known, fetches: bool) -> str:
    """Why the newest build that serves cannot be used all the same; empty when it can."""
    current = [image for image in known.images if image.cloud in target.clouds and image.state == "current"]
    newest = max(current, key=_by_age, default=None)
    if newest is not None and newest.build_id > wanted.build_id:
        shows = f"{newest.cloud} shows {newest.build_id}, which is not what is wanted"
        return f"{shows}, and only a newer build replaces it"
    if not fetches and wanted.build_id not in known.builds:
        for action in _for_clouds(target, known, wanted.build_id):
            if action.verb != "prune":
                return f"{action.cloud} needs {wanted.build_id} ({action.verb}), which is not here"
    return ""


def _for_clouds(target: Target, known: _Known, wanted: str | None) -> Iterator[Action]:
    for cloud in target.clouds:
        images = [image for image in known.images if image.cloud == cloud]
        source = _source(wanted, cloud, known.images) if wanted and wanted not in known.builds else ""
        yield from _for_cloud(target, cloud, images, wanted, source)


def _for_cloud(
    target: Target, cloud: str, images: Sequence[CloudImage], wanted: str | None, source: str
) -> Iterator[Action]:
    """What one cloud needs so that the wanted build (None: the one that this plan builds) is its current image."""

    def act(verb: Verb, reason: str, ids: tuple[str, ...] = ()) -> Action:
        return Action(verb=verb, variant=target.variant, cloud=cloud, reason=reason, build_id=wanted, images=ids)

    good = sorted((image for image in images if image.state != "broken"), key=_by_age)
    current = [image for image in good if image.state == "current"]
    has = _shown(current) or "no image"
    newest = f"newest verified is {wanted}" if wanted else "a new build replaces it" if current else "a new build comes"
    copies = [image for image in good if image.build_id == wanted]
    present = max(copies, key=lambda image: (image.state == "current", *_by_age(image)), default=None)
    if present is None:
        yield act("upload", f"{cloud} has {has}, {newest}{source}")
        yield act("promote", f"{cloud} has {has}, {newest}")
    else:
        if present.release_digest != target.clouds[cloud]:
            yield act("update", "its name, visibility, members, tags or properties changed", (present.id,))
        if present.state != "current":
            yield act("promote", f"{cloud} has {has}, {newest}", (present.id,))
        elif len(current) > 1:
            yield act("promote", f"{cloud} shows {len(current)} images at once: {has}", (present.id,))
    yield from _prune(target, cloud, images, present)


def _prune(target: Target, cloud: str, images: Sequence[CloudImage], present: CloudImage | None) -> Iterator[Action]:
    """Delete what a crash left behind, and the good images beyond `keep`. The wanted one is the first that stays.

    What was once shown stays before what never was: it is what one goes back to.
    """
    broken = [image for image in images if image.state == "broken"]
    others = [image for image in images if image.state != "broken" and image is not present]
    others.sort(key=lambda image: (image.state != "candidate", *_by_age(image)), reverse=True)
    beyond = others[max(target.keep, 1) - 1 :]
    reasons = []
    if beyond:
        reasons.append(f"{_shown(beyond)} beyond keep {target.keep}")
    if broken:
        reasons.append(f"{len(broken)} half uploaded")
    if reasons:
        ids = tuple(image.id for image in (*beyond, *broken))
        yield Action(verb="prune", variant=target.variant, cloud=cloud, reason=", ".join(reasons), images=ids)


def _serves(build: LocalBuild, target: Target, now: datetime) -> bool:
    """Whether nothing better than this build needs to be made."""
    return build.verified is not False and build.fingerprint == target.fingerprint and not _too_old(build, target, now)


def _too_old(build: LocalBuild, target: Target, now: datetime) -> bool:
    return target.rebuild_age is not None and now - build.created_at >= target.rebuild_age


def _newest(builds: Iterable[LocalBuild]) -> LocalBuild | None:
    return max(builds, key=lambda build: build.build_id, default=None)


def _why_build(target: Target, made: Mapping[str, LocalBuild]) -> str:
    same = [build for build in made.values() if build.fingerprint == target.fingerprint]
    sound = _newest(build for build in same if build.verified is not False)
    last = _newest(same)
    if sound is not None and target.rebuild_age is not None:
        return f"older than rebuild_age {_span(target.rebuild_age)}"
    if last is not None:
        return f"{last.build_id} failed verification"
    newest = _newest(made.values())
    return _changes(newest.parts, target.parts) if newest else "no build yet"


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """What differs between two builds' inputs: "element nvidia-driver changed"."""
    if not before:
        return "images.yaml or an element changed"
    kinds = {
        "changed": [name for name in after if name in before and before[name] != after[name]],
        "added": [name for name in after if name not in before],
        "removed": [name for name in before if name not in after],
    }
    said = [f"{_listed(names)} {kind}" for kind, names in kinds.items() if names]
    return ", ".join(said) or "an input changed that the last build did not record"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _source(build_id: str, cloud: str, images: Sequence[CloudImage]) -> str:
    """Where a build that does not lie here is fetched from."""
    others = (i.cloud for i in images if i.build_id == build_id and i.cloud != cloud and i.state != "broken")
    other = min(others, default=None)
    return f", fetched from {other}" if other else ""


def _shown(images: Sequence[CloudImage]) -> str:
    return _listed([image.build_id for image in images])


def _by_age(image: CloudImage) -> tuple[str, datetime, str]:
    """Oldest first; a build that was uploaded twice, by its upload."""
    return image.build_id, image.created_at, image.id


def _span(age: timedelta) -> str:
    """A duration as images.yaml writes it."""
    hours = int(age.total_seconds() // 3600)
    return f"{hours // 24}d" if hours % 24 == 0 else f"{hours}h"
