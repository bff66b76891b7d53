"""What is there, what should be, and what would have to be done?

The one place that asks everybody: the builds that lie here, the records, the clouds, and the package archives.
"""

from collections.abc import Iterator, Mapping, Sequence
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
from pipelines.workflows import build as workflows_build
from pipelines.workflows import local_builds


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """Where all that is looked for: the catalog, the builds' folder, the records, the clouds.

    `unreachable` maps a cloud that could not be asked to why. `boots`: a verification counts only with a boot.
    """

    catalog: Catalog
    root: Path
    records: Records
    clouds: Sequence[Cloud] = ()
    unreachable: Mapping[str, PipelineError] = field(default_factory=dict)
    boots: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What there is and what should be, when everybody was asked once.

    `lost` maps a cloud that could not be listed to why; `site` and all else here are without it.
    """

    site: Site
    lost: Mapping[str, CloudError]
    targets: tuple[Target, ...]
    inventory: Inventory

    def actions(self, now: datetime) -> list[Action]:
        """What would have to be done."""
        return planner.plan(self.targets, self.inventory, now)


def planned(site: Site, variants: Sequence[Variant], now: datetime) -> list[Action]:
    """What a refresh would do for these variants on this host and in the site's clouds, as `plan` and
    `refresh --dry-run` print it; changes nothing.

    Warns about driver branches near or past their end of life. A cloud that cannot be asked raises its error: without
    it a plan would be incomplete.
    """
    workflows_build.warn(variants, now.date())
    for error in site.unreachable.values():
        raise error
    return look(site, variants, asks_archives=True).actions(now)


def look(site: Site, variants: Sequence[Variant], *, asks_archives: bool = False, all_clouds: bool = True) -> Seen:
    """Ask everybody. Unless `all_clouds` are needed, one that cannot be listed is left out.

    `asks_archives`: whether servers are asked for their files' digests, and the package archives what is newer by now,
    of the newest build that would serve. Where there is no build at all, nothing depends on either.
    """
    images, lost = _listed(site, {variant.name for variant in variants})
    if all_clouds:
        for error in lost.values():
            raise error
    site = replace(site, clouds=[cloud for cloud in site.clouds if cloud.name not in lost])
    builds = [each for variant in variants for each in _builds(site, variant)]
    known = {build.variant for build in builds} | {image.variant for image in images}
    targets = tuple(target(site, variant, asks=asks_archives and variant.name in known) for variant in variants)
    if asks_archives:
        wanted = {one.variant: one.fingerprint for one in targets}
        builds = [each for variant in variants for each in _asked(site, variant, builds, wanted[variant.name])]
        _say_unknown(builds, images)
    return Seen(site=site, lost=lost, targets=targets, inventory=Inventory(builds=tuple(builds), images=tuple(images)))


def _listed(site: Site, names: set[str]) -> tuple[list[CloudImage], dict[str, CloudError]]:
    """What the clouds have of these variants, and which of them could not say."""
    images, lost = [], {}
    for cloud in site.clouds:
        try:
            images += [image for image in cloud_images.inventory(cloud) if image.variant in names]
        except CloudError as error:
            lost[cloud.name] = error
    return images, lost


def target(site: Site, variant: Variant, *, asks: bool = False) -> Target:
    """A variant as it should be, here and in the site's clouds; `asks`: with what servers have of its files now."""
    resolved = _asked_of_servers(site, variant) if asks else present(site, variant)
    in_clouds = {cloud.name: site.catalog.for_cloud(variant, cloud.name) for cloud in site.clouds}
    return Target(
        variant=variant.name,
        fingerprint=resolved.digest,
        parts=resolved.parts,
        clouds={name: image_metadata.release_digest(one) for name, one in in_clouds.items()},
        formats={name: site.catalog.delivery(name).disk_format for name in in_clouds},
        keep=variant.keep,
        rebuild_age=variant.rebuild_age,
        prune_after=variant.prune_after,
    )


def present(site: Site, variant: Variant) -> Fingerprint:
    """What a build would be now, if its files on servers are those of the last build here or on record."""
    return fingerprint.after(variant, lambda: next(reversed(manifests(site, variant)), None))


def _asked_of_servers(site: Site, variant: Variant) -> Fingerprint:
    try:
        return fingerprint.asked(variant, site.root)
    except (BuildError, HostError) as error:
        console.warn(f"{variant.name}: {error.what}; its files are taken to be those of the last build")
        return present(site, variant)


def manifest_of(site: Site, variant: str, build_id: str) -> Manifest | None:
    """The manifest of a build that lies here or is on record."""
    for build in store.complete(site.root, site.catalog.variants[variant]):
        if build.build_id == build_id:
            return build.manifest()
    record = site.records.known_build(variant, build_id)
    return record.manifest if record else None


def manifests(site: Site, variant: Variant) -> list[Manifest]:
    """The manifests of all builds of a variant that lie here or are on record, the oldest first."""
    here = {build.build_id: build.manifest() for build in store.complete(site.root, variant)}
    on_record = {record.manifest.build_id: record.manifest for record in site.records.known(variant.name)}
    return [made for _, made in sorted((on_record | here).items())]


def _builds(site: Site, variant: Variant) -> Iterator[KnownBuild]:
    here = list(local_builds.local_builds(store.complete(site.root, variant), boots=site.boots))
    yield from here
    ids = {build.build_id for build in here}
    for record in site.records.known(variant.name):
        if record.manifest.build_id not in ids:
            yield local_builds.as_build(record.manifest, record.verification, here=False, boots=site.boots)


def _asked(site: Site, variant: Variant, builds: Sequence[KnownBuild], wanted: str) -> Iterator[KnownBuild]:
    """The builds of one variant; the newest that would serve with what the archives have newer."""
    own = [build for build in builds if build.variant == variant.name]
    serving = [build for build in own if build.fingerprint == wanted and build.verified is not False]
    newest = max(serving, key=lambda build: build.build_id, default=None)
    for build in own:
        yield replace(build, outdated=_outdated(site, variant, build)) if build is newest else build


def _outdated(site: Site, variant: Variant, build: KnownBuild) -> str:
    made = manifest_of(site, variant.name, build.build_id)
    try:
        return updates.outdated(made, variant, site.root / ".cache" / "downloads") if made else ""
    except BuildError as error:
        console.warn(f"{variant.name}: {error.what}; only rebuild_age decides whether its packages are too old")
        return ""


def _say_unknown(builds: Sequence[KnownBuild], images: Sequence[CloudImage]) -> None:
    known = {(build.variant, build.build_id) for build in builds}
    for image in images:
        if image.state == "current" and (image.variant, image.build_id) not in known:
            what = f"{image.cloud} shows {image.variant} {image.build_id}, of which there is no record"
            console.note(f"{what}: whether its packages are current is not known, and only rebuild_age decides")
