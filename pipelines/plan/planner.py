"""Selection of the actions that bring every variant, on this host and in its clouds, to what is wanted.

Pure: targets, the inventory and the time go in; actions with their reasons come out. Carrying out all of them makes
the next plan empty.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from pipelines.plan import reasons, retention
from pipelines.plan.model import Action, CloudImage, Inventory, KnownBuild, Target, Verb
from pipelines.plan.variant_state import VariantState, variant_states


def plan(targets: Iterable[Target], inventory: Inventory, now: datetime) -> list[Action]:
    """What to do so that every target is built, verified and current in its clouds, in the order to do it."""
    return [action for state in variant_states(targets, inventory, now) for action in _actions(state)]


def held_back_by(target: Target, inventory: Inventory, now: datetime) -> str:
    """The rolled-back build that a new build would only repeat, so that none is built; empty when there is none."""
    (state,) = variant_states([target], inventory, now)
    return _decide(state).held_back_by


@dataclass(frozen=True, kw_only=True, slots=True)
class _Decision:
    """Which build the clouds get: an existing one (`release`), or a new one, for the reason `why_build`.

    Neither when a new build would only repeat one that was rolled back (`held_back_by`, its ID): then each cloud keeps
    what it has, until something changes.
    """

    release: KnownBuild | None = None
    why_build: str = ""
    held_back_by: str = ""


def _decide(state: VariantState) -> _Decision:
    wanted = [build for build in state.builds.values() if state.is_wanted(build)]
    best = _newest(_releasable(wanted, state))
    why_build = _why_unusable(best, state) if best else _why_none_is_wanted(state)
    if not why_build:
        return _Decision(release=best)
    repeated = _newest(build for build in wanted if build.build_id in state.rolled_back)
    return _Decision(why_build=why_build, held_back_by=repeated.build_id if repeated else "")


def _releasable(builds: Iterable[KnownBuild], state: VariantState) -> list[KnownBuild]:
    """Builds newer than all that were rolled back, and current ones: a rollback asks for what is current since then."""
    last = max(state.rolled_back, default="")
    current = {image.build_id for image in state.current()} - state.rolled_back
    return [build for build in builds if build.build_id > last or build.build_id in current]


def _why_unusable(build: KnownBuild, state: VariantState) -> str:
    """Why the newest wanted build cannot be released all the same; empty when it can."""
    good = [image for image in state.current() if image.build_id not in state.rolled_back]
    newest = max(good, key=lambda image: image.age, default=None)
    if newest is not None and newest.build_id > build.build_id:
        return reasons.newer_is_current(newest)
    if build.verified is None and not state.is_on_host(build.build_id):
        return f"{build.build_id} is not verified, and not on this host"
    if not state.is_obtainable(build.build_id):
        for action in _in_clouds(state, build.build_id):
            if action.verb == "upload":
                return f"{action.cloud} needs {build.build_id}, which is not on this host"
    return ""


def _why_none_is_wanted(state: VariantState) -> str:
    same = [build for build in state.builds.values() if build.fingerprint == state.target.fingerprint]
    sound = _newest(build for build in same if build.verified is not False)
    if sound is not None:
        too_old = reasons.too_old(state.target.rebuild_age) if state.is_too_old(sound) else ""
        return sound.outdated or too_old or reasons.ROLLED_BACK
    if failed := _newest(same):
        return f"{failed.build_id} failed verification"
    last = _newest(state.builds.values())
    return reasons.changes(last.parts, state.target.parts) if last else "no build yet"


def _newest(builds: Iterable[KnownBuild]) -> KnownBuild | None:
    return max(builds, key=lambda build: build.build_id, default=None)


def _actions(state: VariantState) -> Iterator[Action]:
    """All that has to be done for one variant: first on this host, then cloud by cloud."""
    decision, variant = _decide(state), state.target.variant
    if decision.held_back_by:
        for cloud in state.target.clouds:
            yield from _as_it_is(state, cloud)
    elif decision.release is None:
        yield Action(verb="build", variant=variant, cloud=None, reason=decision.why_build)
        yield from _in_clouds(state, None)
    else:
        build_id = decision.release.build_id
        if decision.release.verified is None:
            reason = f"{build_id} is not verified yet"
            yield Action(verb="verify", variant=variant, cloud=None, reason=reason, build_id=build_id)
        yield from _in_clouds(state, build_id)


def _in_clouds(state: VariantState, build_id: str | None) -> Iterator[Action]:
    """Release a build (None: the one that this plan builds) to every cloud that does not have a newer one."""
    for cloud in state.target.clouds:
        current = state.current_in(cloud)
        if build_id is not None and current is not None and not current.rolled_back and current.build_id > build_id:
            # Rolled back in another cloud, and not in this one: nothing older replaces it without a rollback here.
            yield from _as_it_is(state, cloud)
        else:
            yield from _in_cloud(_Release(state=state, cloud=cloud, build_id=build_id))


def _as_it_is(state: VariantState, cloud: str) -> Iterator[Action]:
    """Keep a cloud's current image in order; where all are hidden, the newest that was not rolled back."""
    hidden = (image for image in state.images_in(cloud) if image.state == "retired")
    good = (image for image in hidden if image.build_id not in state.rolled_back)
    image = state.current_in(cloud) or max(good, key=lambda image: image.age, default=None)
    if image is not None:
        yield from _in_cloud(_Release(state=state, cloud=cloud, build_id=image.build_id, held_back=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Release:
    """A build (None: the one that this plan builds) that has to be the current image of a cloud.

    `held_back`: it stays so only because what would replace it was rolled back.
    """

    state: VariantState
    cloud: str
    build_id: str | None
    held_back: bool = False

    def action(self, verb: Verb, reason: str, image: CloudImage | None = None) -> Action:
        """One of the actions in the cloud."""
        return Action(
            verb=verb,
            variant=self.state.target.variant,
            cloud=self.cloud,
            reason=reason,
            build_id=self.build_id,
            images=(image.id,) if image else (),
        )

    def current(self) -> list[CloudImage]:
        """What is current now, the oldest first: one image, but for a promotion that broke off."""
        images = (image for image in self.state.images_in(self.cloud) if image.state == "current")
        return sorted(images, key=lambda image: image.age)

    def copy(self) -> CloudImage | None:
        """The build's image in the cloud, if it has one as wanted: the current one, or else the newest."""
        images = (image for image in self.state.images_in(self.cloud) if image.state != "broken")
        copies = (image for image in images if image.build_id == self.build_id)
        fitting = (image for image in copies if self.held_back or self._has_wanted_format(image))
        return max(fitting, key=lambda image: (image.state == "current", *image.age), default=None)

    def _has_wanted_format(self, image: CloudImage) -> bool:
        """Whether its data are in the format that the cloud wants; those that the cloud itself converted are."""
        return image.converted or image.disk_format == self.state.target.formats.get(self.cloud, image.disk_format)

    def prunable(self) -> list[CloudImage]:
        """The images that retention may delete: not those that alone tell which build must not be repeated."""

        def prevents_a_build(image: CloudImage) -> bool:
            newer = self.build_id is not None and image.build_id > self.build_id
            return image.rolled_back and (self.held_back or newer)

        return [image for image in self.state.images_in(self.cloud) if not prevents_a_build(image)]


def _in_cloud(release: _Release) -> Iterator[Action]:
    """Make a build the current image of one cloud, then delete what retention does not keep."""
    copy = release.copy()
    why = reasons.release(release.cloud, release.current(), release.build_id, held_back=release.held_back)
    if copy is None:
        yield release.action("upload", why + _source(release))
        yield release.action("promote", why)
    else:
        yield from _updated(release, copy)
        yield from _promoted(release, copy, why)
    yield from retention.prune(release.state.target, release.cloud, release.prunable(), copy, release.state.now)


def _updated(release: _Release, copy: CloudImage) -> Iterator[Action]:
    if copy.release_digest != release.state.target.clouds[release.cloud]:
        yield release.action("update", "its name, visibility, members, tags or properties changed", copy)


def _promoted(release: _Release, copy: CloudImage, why: str) -> Iterator[Action]:
    current = release.current()
    if copy.state != "current":
        yield release.action("promote", why, copy)
    elif len(current) > 1 and not copy.deactivated:
        yield release.action("promote", reasons.several_current(release.cloud, current), copy)


def _source(release: _Release) -> str:
    """From where an upload's build is downloaded, when it is not on this host."""
    if release.build_id is None or release.state.is_on_host(release.build_id):
        return ""
    holders = [cloud for cloud in release.state.holders(release.build_id) if cloud != release.cloud]
    return f", downloaded from {holders[0]}" if holders else ""
