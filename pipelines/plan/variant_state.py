"""All that exists of one variant, and what can be concluded from it about each of its builds."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pipelines.plan.model import CloudImage, Inventory, KnownBuild, Target

BUILD_FORMAT = "qcow2"  # the disk format of every build's own file


@dataclass(frozen=True, kw_only=True, slots=True)
class VariantState:
    """A target, and everything that exists of its variant at a time.

    `builds` has every build, by its ID: of those that exist only as an image in a cloud, what the image tells.
    `recorded` are those of which there is a manifest. `rolled_back` are those that were rolled back in any cloud.
    """

    target: Target
    now: datetime
    images: Sequence[CloudImage]
    builds: Mapping[str, KnownBuild]
    recorded: frozenset[str]
    rolled_back: frozenset[str]

    def images_in(self, cloud: str) -> list[CloudImage]:
        """The variant's images in one cloud."""
        return [image for image in self.images if image.cloud == cloud]

    def current(self) -> list[CloudImage]:
        """The images that are current in the target's clouds."""
        return [image for image in self.images if image.state == "current" and image.cloud in self.target.clouds]

    def current_in(self, cloud: str) -> CloudImage | None:
        """What users of a cloud get; of several current images, the newest that was not rolled back there."""
        current = (image for image in self.images if image.cloud == cloud and image.state == "current")
        return max(current, key=lambda image: (not image.rolled_back, *image.age), default=None)

    def is_wanted(self, build: KnownBuild) -> bool:
        """Whether a new build would be no better than this one: same inputs, same packages, and young enough."""
        sound = build.verified is not False and build.fingerprint == self.target.fingerprint
        return sound and not build.outdated and not self.is_too_old(build)

    def is_too_old(self, build: KnownBuild) -> bool:
        """Whether it has reached the target's rebuild_age."""
        age = self.target.rebuild_age
        return age is not None and self.now - build.created_at >= age

    def is_on_host(self, build_id: str) -> bool:
        """Whether a build's image is on this host."""
        return build_id in self.recorded and self.builds[build_id].on_host

    def holders(self, build_id: str) -> list[str]:
        """The clouds from which a build's own file can be downloaded."""
        return sorted({i.cloud for i in self.images if i.build_id == build_id and _has_own_file(i)})

    def is_obtainable(self, build_id: str) -> bool:
        """Whether a build's image is on this host, or in a cloud while its manifest says what it has to be."""
        return self.is_on_host(build_id) or (build_id in self.recorded and bool(self.holders(build_id)))


def variant_states(targets: Iterable[Target], inventory: Inventory, now: datetime) -> list[VariantState]:
    """One for each target, in their order."""
    builds: dict[str, list[KnownBuild]] = defaultdict(list)
    images: dict[str, list[CloudImage]] = defaultdict(list)
    for build in inventory.builds:
        builds[build.variant].append(build)
    for image in inventory.images:
        images[image.variant].append(image)
    return [_variant_state(target, builds[target.variant], images[target.variant], now) for target in targets]


def _variant_state(
    target: Target, builds: Iterable[KnownBuild], images: Sequence[CloudImage], now: datetime
) -> VariantState:
    # Of a build that is listed twice, what is on this host counts.
    recorded = {build.build_id: build for build in sorted(builds, key=lambda build: build.on_host)}
    whole = [image for image in images if image.state != "broken"]
    return VariantState(
        target=target,
        now=now,
        images=images,
        builds=_with_outdated_packages(_merged(recorded, whole)),
        recorded=frozenset(recorded),
        rolled_back=frozenset(image.build_id for image in whole if image.rolled_back),
    )


def _merged(recorded: Mapping[str, KnownBuild], images: Iterable[CloudImage]) -> dict[str, KnownBuild]:
    """All builds, recorded or in a cloud. What is in a cloud was verified before its upload."""
    # Of several copies, the first upload is nearest to the time of the build.
    uploaded = {image.build_id: image for image in sorted(images, key=lambda image: image.created_at, reverse=True)}
    builds = {build_id: _build_of(image) for build_id, image in uploaded.items()}
    for build_id, build in recorded.items():
        lost_verification = build.verified is None and build_id in uploaded
        builds[build_id] = replace(build, verified=True) if lost_verification else build
    return builds


def _build_of(image: CloudImage) -> KnownBuild:
    """What an image in a cloud tells about its build."""
    return KnownBuild(
        variant=image.variant,
        build_id=image.build_id,
        fingerprint=image.fingerprint,
        created_at=image.created_at,
        verified=True,
        on_host=False,
    )


def _with_outdated_packages(builds: Mapping[str, KnownBuild]) -> dict[str, KnownBuild]:
    """A package that is outdated in a build is outdated in every older build of the same inputs, too."""
    outdated: dict[str, str] = {}
    found = {}
    for build_id, build in sorted(builds.items(), reverse=True):
        outdated[build.fingerprint] = build.outdated or outdated.get(build.fingerprint, "")
        found[build_id] = replace(build, outdated=outdated[build.fingerprint])
    return found


def _has_own_file(image: CloudImage) -> bool:
    return image.disk_format == BUILD_FORMAT and image.state != "broken" and not image.deactivated
