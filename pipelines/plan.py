"""What must be done?

Pure: what is wanted (targets), what exists (the inventory) and the time go in, actions with their reasons come out.
Carrying out all of them makes the next plan empty.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pipelines.inventory import Action, CloudImage, Inventory, LocalBuild, State, Target, Verb

__all__ = ["Action", "CloudImage", "Inventory", "LocalBuild", "State", "Target", "Verb", "on_hold", "plan"]

_MOST_NAMED = 3  # inputs that a reason names before it only counts the others


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
        return found

    def rejected(self) -> frozenset[str]:
        """The builds from which somebody went back, in whatever cloud."""
        return frozenset(image.build_id for image in self.images if image.rejected and image.state != "broken")

    def is_here(self, build_id: str) -> bool:
        """Whether a build's image lies here."""
        return build_id in self.builds and self.builds[build_id].here

    def can_be_fetched(self, build_id: str) -> bool:
        """Whether a cloud has a build's image, and a record what it has to be."""
        kept = any(image.build_id == build_id and image.state != "broken" for image in self.images)
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
    """The newest build that serves, and the newest that would if nobody had gone back from it."""
    serving = [build for build in known.made().values() if _serves(build, target, now)]
    rejected = known.rejected()
    return (
        _newest(build for build in serving if build.build_id not in rejected),
        _newest(build for build in serving if build.build_id in rejected),
    )


def _for_target(target: Target, known: _Known, now: datetime) -> Iterator[Action]:
    wanted, rejected = _candidates(target, known, now)
    reason = _why_not(wanted, target, known, now) if wanted else _why_build(target, known)
    if (wanted is None or reason) and rejected is not None:
        # A new build would be the same again: what is shown stays, until something changes.
        yield from _for_clouds_as_they_are(target, known, now)
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
    newest = max((image for image in current if not image.rejected), key=_by_age, default=None)
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
        yield from _for_cloud(target, cloud, known, wanted, now)


def _for_clouds_as_they_are(target: Target, known: _Known, now: datetime) -> Iterator[Action]:
    """What each cloud needs with the image that it shows."""
    for cloud in target.clouds:
        current = (image for image in known.images if image.cloud == cloud and image.state == "current")
        shown = max(current, key=lambda image: (not image.rejected, *_by_age(image)), default=None)
        if shown is not None:
            yield from _for_cloud(target, cloud, known, shown.build_id, now, on_hold=True)


def _for_cloud(
    target: Target, cloud: str, known: _Known, wanted: str | None, now: datetime, *, on_hold: bool = False
) -> Iterator[Action]:
    """What one cloud needs so that the wanted build (None: the one that this plan builds) is its current image."""

    def act(verb: Verb, reason: str, ids: tuple[str, ...] = ()) -> Action:
        return Action(verb=verb, variant=target.variant, cloud=cloud, reason=reason, build_id=wanted, images=ids)

    images = [image for image in known.images if image.cloud == cloud]
    good = sorted((image for image in images if image.state != "broken"), key=_by_age)
    current = [image for image in good if image.state == "current"]
    has = _shown(current) or "no image"
    newest = f"newest verified is {wanted}" if wanted else "a new build replaces it" if current else "a new build comes"
    copies = [image for image in good if image.build_id == wanted and _as_wanted(image, target)]
    present = max(copies, key=lambda image: (image.state == "current", *_by_age(image)), default=None)
    if present is None:
        source = _source(wanted, cloud, known.images) if wanted and not known.is_here(wanted) else ""
        yield act("upload", f"{cloud} has {has}, {newest}{source}")
        yield act("promote", f"{cloud} has {has}, {newest}")
    else:
        if present.release_digest != target.clouds[cloud]:
            yield act("update", "its name, visibility, members, tags or properties changed", (present.id,))
        if present.state != "current":
            yield act("promote", f"{cloud} has {has}, {newest}", (present.id,))
        elif len(current) > 1:
            yield act("promote", f"{cloud} shows {len(current)} images at once: {has}", (present.id,))
    # While nothing newer is wanted, an image that somebody went back from is all that says not to build it again.
    newer = [image for image in images if on_hold or (wanted is not None and image.build_id > wanted)]
    needed = {image.id for image in newer if image.rejected}
    yield from _prune(target, cloud, [image for image in images if image.id not in needed], present, now)


def _prune(
    target: Target, cloud: str, images: Sequence[CloudImage], present: CloudImage | None, now: datetime
) -> Iterator[Action]:
    """Delete what a crash left behind, and the good images beyond `keep` that have been hidden long enough.

    The wanted one is the first that stays. What was once shown stays before what never was, and before what somebody
    went back from: it is what one goes back to. Never deleted is what is shown; it is hidden before.
    """
    broken = [image for image in images if image.state == "broken"]
    others = [image for image in images if image.state != "broken" and image is not present]
    others.sort(key=lambda image: (not image.rejected, image.state != "candidate", *_by_age(image)), reverse=True)
    beyond = [image for image in others[max(target.keep, 1) - 1 :] if _is_over(image, target, now)]
    reasons = []
    if beyond:
        reasons.append(f"{_shown(beyond)} beyond keep {target.keep}")
    if broken:
        reasons.append(f"{len(broken)} half uploaded")
    if reasons:
        ids = tuple(image.id for image in (*beyond, *broken))
        yield Action(verb="prune", variant=target.variant, cloud=cloud, reason=", ".join(reasons), images=ids)


def _as_wanted(image: CloudImage, target: Target) -> bool:
    """Whether an image's data are in the format that its cloud wants."""
    return image.disk_format == target.formats.get(image.cloud, image.disk_format)


def _is_over(image: CloudImage, target: Target, now: datetime) -> bool:
    return image.hidden_since is not None and now - image.hidden_since >= target.prune_after


def _serves(build: LocalBuild, target: Target, now: datetime) -> bool:
    """Whether nothing better than this build needs to be made."""
    as_wanted = build.verified is not False and build.fingerprint == target.fingerprint
    return as_wanted and not build.outdated and not _too_old(build, target, now)


def _too_old(build: LocalBuild, target: Target, now: datetime) -> bool:
    return target.rebuild_age is not None and now - build.created_at >= target.rebuild_age


def _newest(builds: Iterable[LocalBuild]) -> LocalBuild | None:
    return max(builds, key=lambda build: build.build_id, default=None)


def _why_build(target: Target, known: _Known) -> str:
    made = known.made()
    same = [build for build in made.values() if build.fingerprint == target.fingerprint]
    sound = _newest(build for build in same if build.verified is not False)
    last = _newest(same)
    if sound is not None:
        age = f"older than rebuild_age {_span(target.rebuild_age)}" if target.rebuild_age is not None else ""
        return sound.outdated or age
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
