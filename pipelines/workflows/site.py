"""Present state of a site: builds on this host and on record, images in clouds, and what images.yaml wants."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from pipelines.artifacts import store
from pipelines.artifacts.manifest import Manifest
from pipelines.artifacts.records import Records
from pipelines.build import fingerprint
from pipelines.build.fingerprint import Fingerprint
from pipelines.catalog.loader import Catalog
from pipelines.catalog.variant import Variant
from pipelines.glance.client import Cloud
from pipelines.inputs import updates
from pipelines.plan import planner
from pipelines.plan.model import Action, CloudImage, Inventory, KnownBuild, Target
from pipelines.release import cloud_images, image_metadata
from pipelines.util import console
from pipelines.util.errors import BuildError, CloudError, HostError, PipelineError
from pipelines.workflows import local_builds
from pipelines.workflows.build import warn_about_drivers


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """The catalog, the builds' folder, the records and the clouds.

    `connection_errors` has the clouds that could not be reached. `boots`: a verification counts only with a boot.
    """

    catalog: Catalog
    root: Path
    records: Records
    clouds: Sequence[Cloud] = ()
    connection_errors: Mapping[str, PipelineError] = field(default_factory=dict)
    boots: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteState:
    """What exists and what is wanted at one moment. `site` is without the clouds that could not be listed."""

    site: Site
    listing_errors: Mapping[str, CloudError]
    targets: tuple[Target, ...]
    inventory: Inventory

    def actions(self, now: datetime) -> list[Action]:
        """What has to be done."""
        return planner.plan(self.targets, self.inventory, now)


def planned(site: Site, variants: Sequence[Variant], now: datetime) -> list[Action]:
    """What a refresh would do for these variants on this host and in the site's clouds; changes nothing.

    This is what `plan` and `refresh --dry-run` print. Warns about driver branches near or past their end of life. A
    cloud that cannot be reached or listed raises its error: a plan without it would be incomplete.
    """
    warn_about_drivers(variants, now.date())
    for error in site.connection_errors.values():
        raise error
    return read_state(site, variants, online=True).actions(now)


def read_state(site: Site, variants: Sequence[Variant], *, online: bool = False, all_clouds: bool = True) -> SiteState:
    """Read builds, records and clouds. Unless `all_clouds` are needed, one that cannot be listed is left out.

    `online`: ask servers for the present digests of their files, and package repositories for newer packages than
    those of the newest usable build. For a variant without any build nothing depends on either, and neither is asked.
    """
    images, errors = _list_clouds(site, variants)
    if all_clouds:
        for error in errors.values():
            raise error
    site = replace(site, clouds=[cloud for cloud in site.clouds if cloud.name not in errors])
    existing = {image.variant for image in images}
    found = [_read_variant(site, variant, online=online, in_clouds=variant.name in existing) for variant in variants]
    inventory = Inventory(builds=tuple(build for _, builds in found for build in builds), images=tuple(images))
    if online:
        _note_unrecorded(inventory)
    targets = tuple(target for target, _ in found)
    return SiteState(site=site, listing_errors=errors, targets=targets, inventory=inventory)


def _list_clouds(site: Site, variants: Sequence[Variant]) -> tuple[list[CloudImage], dict[str, CloudError]]:
    """The clouds' images of these variants, and the errors of clouds that could not be listed."""
    names = {variant.name for variant in variants}
    images, errors = [], {}
    for cloud in site.clouds:
        try:
            images += [image for image in cloud_images.inventory(cloud) if image.variant in names]
        except CloudError as error:
            errors[cloud.name] = error
    return images, errors


def _read_variant(
    site: Site, variant: Variant, *, online: bool, in_clouds: bool
) -> tuple[Target, Sequence[KnownBuild]]:
    history = _read_history(site, variant)
    asks = online and (in_clouds or bool(history.builds))
    target = _target(site, variant, history.last, online=asks)
    return target, _with_updates(site, variant, target, history) if asks else history.builds


@dataclass(frozen=True, kw_only=True, slots=True)
class _History:
    """The complete builds of a variant on this host and on record, and their manifests by build ID, oldest first."""

    builds: Sequence[KnownBuild]
    manifests: Mapping[str, Manifest]

    @property
    def last(self) -> Manifest | None:
        return next(reversed([*self.manifests.values()]), None)


def _read_history(site: Site, variant: Variant) -> _History:
    found: dict[str, tuple[Manifest, KnownBuild]] = {}
    for build in store.complete(site.root, variant):
        made = build.manifest()
        on_host = local_builds.is_whole(build, made)
        found[build.build_id] = made, local_builds.known(made, build.verification(), on_host=on_host, boots=site.boots)
    for record in site.records.known(variant.name):
        made = record.manifest
        if made.build_id not in found:
            known = local_builds.known(made, record.verification, on_host=False, boots=site.boots)
            found[made.build_id] = made, known
    ordered = sorted(found.items())
    return _History(
        builds=[known for _, (_, known) in ordered],
        manifests={build_id: made for build_id, (made, _) in ordered},
    )


def _target(site: Site, variant: Variant, last: Manifest | None, *, online: bool) -> Target:
    """A variant as it should be, on this host and in the site's clouds."""
    wanted = _asked_fingerprint(site, variant, last) if online else fingerprint.after(variant, lambda: last)
    in_clouds = {cloud.name: site.catalog.for_cloud(variant, cloud.name) for cloud in site.clouds}
    return Target(
        variant=variant.name,
        fingerprint=wanted.digest,
        parts=wanted.parts,
        clouds={name: image_metadata.release_digest(one) for name, one in in_clouds.items()},
        formats={name: site.catalog.delivery(name).disk_format for name in in_clouds},
        keep=variant.keep,
        rebuild_age=variant.rebuild_age,
        prune_after=variant.prune_after,
    )


def _asked_fingerprint(site: Site, variant: Variant, last: Manifest | None) -> Fingerprint:
    try:
        return fingerprint.asked(variant, site.root)
    except (BuildError, HostError) as error:
        console.warn(f"{variant.name}: {error.what}; its inputs are assumed to be those of the last build")
        return fingerprint.after(variant, lambda: last)


def _with_updates(site: Site, variant: Variant, target: Target, history: _History) -> list[KnownBuild]:
    """The builds; the newest usable one with the packages that its repositories have newer."""
    builds = {build.build_id: build for build in history.builds}
    usable = [id for id, b in builds.items() if b.fingerprint == target.fingerprint and b.verified is not False]
    for newest in usable[-1:]:
        builds[newest] = replace(builds[newest], outdated=_outdated(site, variant, history.manifests[newest]))
    return [*builds.values()]


def _outdated(site: Site, variant: Variant, made: Manifest) -> str:
    try:
        return updates.outdated(made, variant, site.root / ".cache" / "downloads")
    except BuildError as error:
        console.warn(f"{variant.name}: {error.what}; only rebuild_age decides whether its packages are too old")
        return ""


def _note_unrecorded(inventory: Inventory) -> None:
    """Report current images without a build record: what is in them is not known."""
    known = {(build.variant, build.build_id) for build in inventory.builds}
    for image in inventory.images:
        if image.state == "current" and (image.variant, image.build_id) not in known:
            what = f"{image.variant} {image.build_id}, current in {image.cloud}, has no build record"
            console.note(f"{what}: whether its packages are current is not known, and only rebuild_age decides")


def offline_fingerprint(site: Site, variant: Variant) -> Fingerprint:
    """The fingerprint of a build now, if its files on servers are those of the last build here or on record."""
    return fingerprint.after(variant, lambda: next(reversed(manifests(site, variant)), None))


def manifest_of(site: Site, variant: str, build_id: str) -> Manifest | None:
    """The manifest of one build, on this host or on record."""
    for build in store.complete(site.root, site.catalog.variants[variant]):
        if build.build_id == build_id:
            return build.manifest()
    record = site.records.known_build(variant, build_id)
    return record.manifest if record else None


def manifests(site: Site, variant: Variant) -> list[Manifest]:
    """The manifests of all builds of a variant, on this host or on record, the oldest first."""
    on_host = {build.build_id: build.manifest() for build in store.complete(site.root, variant)}
    on_record = {record.manifest.build_id: record.manifest for record in site.records.known(variant.name)}
    return [made for _, made in sorted((on_record | on_host).items())]
