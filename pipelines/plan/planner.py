"""What must be done?

Pure: what is wanted (targets), what exists (the inventory) and the time go in, actions with their reasons come out.
Carrying out all of them makes the next plan empty.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pipelines.plan import reasons, retention
from pipelines.plan.model import Action, CloudImage, Inventory, LocalBuild, State, Target, Verb, shown
from pipelines.util import units

__all__ = ["Action", "CloudImage", "Inventory", "LocalBuild", "State", "Target", "Verb", "on_hold", "plan"]

CANONICAL = "qcow2"  # the format of every build's own file


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    """What exists of one variant, and of each build the best that is known."""

    builds: Mapping[str, LocalBuild]
    images: Sequence[CloudImage]

    def made(self) -> dict[str, LocalBuild]:
        """Every build that lies here, on record or in a cloud. What is in a cloud was verified before its upload."""
        found: dict[str, LocalBuild] = {}
        for image in self.images:
            # Of several copies, the first to be uploaded is the nearest to when the build was made.
            before = found.get(image.build_id)
            if image.state != "broken" and (before is None or image.created_at < before.created_at):
                found[image.build_id] = _as_build(image)
        for build_id, build in self.builds.items():
            uploaded = build.verified is None and build_id in found
            found[build_id] = replace(build, verified=True) if uploaded else build
        return _older_ones_too(found)

    def rejected(self) -> frozenset[str]:
        """The builds from which somebody went back, in whatever cloud."""
        return frozenset(image.build_id for image in self.images if image.rejected and image.state != "broken")

    def is_here(self, build_id: str) -> bool:
        """Whether a build's image lies here."""
        return build_id in self.builds and self.builds[build_id].here

    def can_be_fetched(self, build_id: str) -> bool:
        """Whether a cloud has a build's own file, and a record what it has to be."""
        kept = any(image.build_id == build_id and _can_be_fetched(image) for image in self.images)
        return build_id in self.builds and kept


def plan(targets: Iterable[Target], inventory: Inventory, now: datetime) -> list[Action]:
    """What to do so that every target is built, verified and current in its clouds, in the order to do it."""
    builds: dict[str, dict[str, LocalBuild]] = defaultdict(dict)
    images: dict[str, list[CloudImage]] = defaultdict(list)
    for build in inventory.builds:
        before = builds[build.variant].get(build.build_id)
        if before is None or not before.here:
            builds[build.variant][build.build_id] = build
    for image in inventory.images:
        images[image.variant].append(image)
    actions: list[Action] = []
    for target in targets:
        known = _Known(builds=builds[target.variant], images=images[target.variant])
        actions += _for_target(target, known, now)
    return actions


def on_hold(target: Target, inventory: Inventory, now: datetime) -> str:
    """The build that a new one would only repeat, and from which somebody went back; empty when there is none."""
    known = _Known(
        builds={build.build_id: build for build in inventory.builds if build.variant == target.variant},
        images=[image for image in inventory.images if image.variant == target.variant],
    )
    wanted, rejected = _candidates(target, known, now)
    stands = wanted is not None and not _why_not(wanted, target, known, now)
    return rejected.build_id if rejected is not None and not stands else ""


def _older_ones_too(found: dict[str, LocalBuild]) -> dict[str, LocalBuild]:
    """What the archives have newer than is in a build, they have newer than is in an older one of the same inputs."""
    outdated: dict[str, str] = {}
    for build_id in sorted(found, reverse=True):
        build = found[build_id]
        said = build.outdated or outdated.get(build.fingerprint, "")
        outdated[build.fingerprint] = said
        found[build_id] = replace(build, outdated=said)
    return found


def _as_build(image: CloudImage) -> LocalBuild:
    """What an image in a cloud says of its build."""
    return LocalBuild(
        variant=image.variant,
        build_id=image.build_id,
        fingerprint=image.fingerprint,
        created_at=image.created_at,
        verified=True,
        here=False,
    )


def _candidates(target: Target, known: _Known, now: datetime) -> tuple[LocalBuild | None, LocalBuild | None]:
    """The newest build that serves, and the newest that would if nobody had gone back from it.

    Who went back from a build did not ask for one from before it, but for the one that is shown since.
    """
    serving = [build for build in known.made().values() if _serves(build, target, now)]
    rejected = known.rejected()
    last = max(rejected, default="")
    current = {image.build_id for image in known.images if image.state == "current" and image.cloud in target.clouds}
    standing = (build for build in serving if build.build_id > last or build.build_id in current - rejected)
    return _newest(standing), _newest(build for build in serving if build.build_id in rejected)


def _for_target(target: Target, known: _Known, now: datetime) -> Iterator[Action]:
    wanted, rejected = _candidates(target, known, now)
    reason = _why_not(wanted, target, known, now) if wanted else _why_build(target, known, now)
    if (wanted is None or reason) and rejected is not None:
        # A new build would be the same again: what is shown stays, until something changes.
        for cloud in target.clouds:
            yield from _for_cloud_as_it_is(target, cloud, known, now)
        return
    if wanted is None or reason:
        yield Action(verb="build", variant=target.variant, cloud=None, reason=reason)
        yield from _for_clouds(target, known, None, now)
        return
    if wanted.verified is None:
        reason = f"{wanted.build_id} was never verified"
        yield Action(verb="verify", variant=target.variant, cloud=None, reason=reason, build_id=wanted.build_id)
    yield from _for_clouds(target, known, wanted.build_id, now)


def _why_not(wanted: LocalBuild, target: Target, known: _Known, now: datetime) -> str:
    """Why the newest build that serves cannot be used all the same; empty when it can."""
    current = [image for image in known.images if image.cloud in target.clouds and image.state == "current"]
    rejected = known.rejected()
    newest = max(
        (image for image in current if image.build_id not in rejected), key=lambda image: image.age, default=None
    )
    if newest is not None and newest.build_id > wanted.build_id:
        shows = f"{newest.cloud} shows {newest.build_id}, which is not what is wanted"
        return f"{shows}, and only a newer build replaces it"
    if wanted.verified is None and not known.is_here(wanted.build_id):
        return f"{wanted.build_id} was never verified, and is not here"
    if known.is_here(wanted.build_id) or known.can_be_fetched(wanted.build_id):
        return ""
    for action in _for_clouds(target, known, wanted.build_id, now):
        if action.verb == "upload":
            return f"{action.cloud} needs {wanted.build_id}, which is not here"
    return ""


def _for_clouds(target: Target, known: _Known, wanted: str | None, now: datetime) -> Iterator[Action]:
    for cloud in target.clouds:
        current = shown(known.images, cloud)
        if wanted is not None and current is not None and not current.rejected and current.build_id > wanted:
            # Somebody went back from it elsewhere, and here not yet: nothing older takes its place by itself.
            yield from _for_cloud_as_it_is(target, cloud, known, now)
        else:
            yield from _for_cloud(target, cloud, known, wanted, now)


def _for_cloud_as_it_is(target: Target, cloud: str, known: _Known, now: datetime) -> Iterator[Action]:
    """What a cloud needs with the image that it shows, or with the newest good one where somebody hid all."""
    rejected = known.rejected()
    there = (image for image in known.images if image.cloud == cloud and image.state == "retired")
    good = (image for image in there if image.build_id not in rejected)
    wanted = shown(known.images, cloud) or max(good, key=lambda image: image.age, default=None)
    if wanted is not None:
        yield from _for_cloud(target, cloud, known, wanted.build_id, now, on_hold=True)


def _for_cloud(
    target: Target, cloud: str, known: _Known, wanted: str | None, now: datetime, *, on_hold: bool = False
) -> Iterator[Action]:
    """What one cloud needs so that the wanted build (None: the one that this plan builds) is its current image."""

    def act(verb: Verb, reason: str, ids: tuple[str, ...] = ()) -> Action:
        return Action(verb=verb, variant=target.variant, cloud=cloud, reason=reason, build_id=wanted, images=ids)

    images = [image for image in known.images if image.cloud == cloud]
    good = sorted((image for image in images if image.state != "broken"), key=lambda image: image.age)
    current = [image for image in good if image.state == "current"]
    has = reasons.shown(current) or "no image"
    newest = f"newest verified is {wanted}" if wanted else "a new build replaces it" if current else "a new build comes"
    copies = [image for image in good if image.build_id == wanted and (on_hold or _as_wanted(image, target))]
    present = max(copies, key=lambda image: (image.state == "current", *image.age), default=None)
    if present is None:
        source = _source(wanted, cloud, known.images) if wanted and not known.is_here(wanted) else ""
        yield act("upload", f"{cloud} has {has}, {newest}{source}")
        yield act("promote", f"{cloud} has {has}, {newest}")
    else:
        if present.release_digest != target.clouds[cloud]:
            yield act("update", "its name, visibility, members, tags or properties changed", (present.id,))
        if present.state != "current":
            yield act("promote", f"{cloud} has {has}, {newest}", (present.id,))
        elif len(current) > 1 and not present.deactivated:
            yield act("promote", f"{cloud} shows {len(current)} images at once: {has}", (present.id,))
    # While nothing newer is wanted, an image that somebody went back from is all that says not to build it again.
    newer = [image for image in images if on_hold or (wanted is not None and image.build_id > wanted)]
    needed = {image.id for image in newer if image.rejected}
    yield from retention.prune(target, cloud, [image for image in images if image.id not in needed], present, now)


def _as_wanted(image: CloudImage, target: Target) -> bool:
    """Whether an image's data are in the format that its cloud wants; what the cloud itself converted is."""
    return image.converted or image.disk_format == target.formats.get(image.cloud, image.disk_format)


def _can_be_fetched(image: CloudImage) -> bool:
    return image.disk_format == CANONICAL and image.state != "broken" and not image.deactivated


def _serves(build: LocalBuild, target: Target, now: datetime) -> bool:
    """Whether nothing better than this build needs to be made."""
    as_wanted = build.verified is not False and build.fingerprint == target.fingerprint
    return as_wanted and not build.outdated and not _too_old(build, target, now)


def _too_old(build: LocalBuild, target: Target, now: datetime) -> bool:
    return target.rebuild_age is not None and now - build.created_at >= target.rebuild_age


def _newest(builds: Iterable[LocalBuild]) -> LocalBuild | None:
    return max(builds, key=lambda build: build.build_id, default=None)


def _why_build(target: Target, known: _Known, now: datetime) -> str:
    made = known.made()
    same = [build for build in made.values() if build.fingerprint == target.fingerprint]
    sound = _newest(build for build in same if build.verified is not False)
    last = _newest(same)
    if sound is not None:
        old = target.rebuild_age is not None and _too_old(sound, target, now)
        age = f"older than rebuild_age {units.duration(target.rebuild_age)}" if old and target.rebuild_age else ""
        newer = "somebody went back from a newer build, and only one that is newer still replaces what is shown"
        return sound.outdated or age or newer
    if last is not None:
        return f"{last.build_id} failed verification"
    newest = _newest(made.values())
    return reasons.changes(newest.parts, target.parts) if newest else "no build yet"


def _source(build_id: str, cloud: str, images: Sequence[CloudImage]) -> str:
    """Where a build that does not lie here is fetched from."""
    others = (i.cloud for i in images if i.build_id == build_id and i.cloud != cloud and _can_be_fetched(i))
    other = min(others, default=None)
    return f", fetched from {other}" if other else ""
