"""Status of images in clouds: every image with its drift, as rows for a table, for JSON and for a page."""

import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from pipelines.catalog.clouds import Delivery
from pipelines.catalog.variant import Variant
from pipelines.glance import interop_import
from pipelines.glance.client import Cloud, Image
from pipelines.release import cloud_images, image_metadata, repair
from pipelines.release import drift as release_drift
from pipelines.release.cloud_images import Row
from pipelines.release.drift import Drift
from pipelines.util import console, failures
from pipelines.util.errors import PipelineError, UsageError
from pipelines.workflows import site as workflows_site
from pipelines.workflows.site import Site


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageStatus:
    """An image in a cloud, with its drift; the current or else the newest one also has that of its variant."""

    row: Row
    size: int | None
    driver: str
    drift: tuple[Drift, ...]

    def plain(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self.row) | {"drift": [each.plain() for each in self.drift]}


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """The images in one cloud. `absent`: the variants of which it has none of ours. `failed`: the cloud's error."""

    cloud: str
    images: tuple[ImageStatus, ...] = ()
    absent: tuple[str, ...] = ()
    failed: PipelineError | None = None

    def plain(self) -> list[dict[str, Any]]:
        """JSON values: an entry for each image of ours or in conflict with ours, each absent variant, and an error."""
        images = [image.plain() for image in self.images if image.row.state != "foreign" or image.drift]
        absent = [{"cloud": self.cloud, "variant": name, "state": "absent", "drift": []} for name in self.absent]
        error = self.failed
        failed = [{"cloud": self.cloud, "error": error.what, "remedy": error.remedy}] if error is not None else []
        return [*images, *absent, *failed]

    @property
    def needs_attention(self) -> bool:
        """Whether there is drift that an operator has to act on."""
        return any(not each.asked_for for image in self.images for each in image.drift)


def survey(site: Site, variants: Sequence[Variant], now: datetime, *, fix: bool = False) -> list[Survey]:
    """The status of each of the site's clouds. A cloud that fails has its error in the result, and stops no other.

    With `fix`, what can be repaired without a build is repaired first.
    """
    if not site.clouds and not site.connection_errors:
        raise UsageError("no cloud is named", remedy="Name one or more, each with --cloud.")
    fingerprints = {variant.name: workflows_site.offline_fingerprint(site, variant).digest for variant in variants}
    found = [Survey(cloud=name, failed=error) for name, error in site.connection_errors.items()]
    for cloud in site.clouds:
        here = [site.catalog.for_cloud(variant, cloud.name) for variant in variants]
        failed: PipelineError | None = None
        try:
            if fix:
                failed = _repair(site, cloud, here, now)
            found.append(replace(_of_cloud(site, cloud, here, fingerprints, now), failed=failed))
        except PipelineError as error:
            if failures.stops_everything(error):
                raise
            found.append(Survey(cloud=cloud.name, failed=failed or error))
    return found


def require_all(found: Sequence[Survey]) -> None:
    """Raise the clouds' errors together."""
    with failures.each([each.cloud for each in found]) as one:
        for each in found:
            with one(each.cloud):
                if each.failed is not None:
                    raise each.failed


def _repair(site: Site, cloud: Cloud, variants: Sequence[Variant], now: datetime) -> PipelineError | None:
    """Repair what can be, of each variant; returns the errors of those that failed."""
    try:
        with failures.each([variant.name for variant in variants]) as one:
            for variant in variants:
                with one(variant.name):
                    made = functools.partial(workflows_site.manifest_of, site, variant.name)
                    for repaired in repair.repair(cloud, variant, made, now):
                        console.note(f"{cloud.name}: {variant.name} repaired: {repaired}")
    except PipelineError as error:
        if failures.stops_everything(error):
            raise
        return error
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Context:
    """One cloud, and what all variants' images in it are compared with."""

    site: Site
    cloud: Cloud
    fingerprints: Mapping[str, str]
    delivery: Delivery
    now: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class _Images:
    """A variant's images in one cloud: ours, the newest last, and `others` that users find under its name."""

    variant: Variant
    ours: Sequence[Image]
    others: Sequence[Image]

    @property
    def current(self) -> Image | None:
        return next((image for image in reversed(self.ours) if cloud_images.is_visible(image)), None)


def _of_cloud(
    site: Site, cloud: Cloud, variants: Sequence[Variant], fingerprints: Mapping[str, str], now: datetime
) -> Survey:
    images = {image.id: image for image in cloud.images()}
    rows = cloud_images.rows(cloud, [*images.values()], variants, fingerprints)
    context = _Context(
        site=site, cloud=cloud, fingerprints=fingerprints, delivery=_wanted_delivery(site, cloud), now=now
    )
    drift: dict[str, list[Drift]] = defaultdict(list)
    for variant in variants:
        for image_id, each in _drift_of_variant(context, _images_of(cloud, variant, rows, images)):
            drift[image_id].append(each)
    present = {row.variant for row in rows if row.state != "foreign"}
    return Survey(
        cloud=cloud.name,
        images=tuple(_image_status(row, images[row.id], drift[row.id]) for row in rows),
        absent=tuple(variant.name for variant in variants if variant.name not in present),
    )


def _wanted_delivery(site: Site, cloud: Cloud) -> Delivery:
    """How this cloud wants its images' data; if in all stores, in those that it has now."""
    delivery = site.catalog.delivery(cloud.name)
    return delivery if delivery.stores is not None else replace(delivery, stores=interop_import.offer(cloud).stores)


def _images_of(cloud: Cloud, variant: Variant, rows: Sequence[Row], images: Mapping[str, Image]) -> _Images:
    own = [row for row in rows if row.variant == variant.name]
    ours = [images[row.id] for row in own if row.state != "foreign"]
    others = [images[row.id] for row in own if row.state == "foreign"]
    return _Images(
        variant=variant,
        ours=sorted(ours, key=cloud_images.age),
        # An administrator sees other projects' private images, too; our users never see those.
        others=[image for image in others if image.visibility != "private" or image.owner == cloud.project_id],
    )


def _drift_of_variant(context: _Context, images: _Images) -> Iterator[tuple[str, Drift]]:
    """Image ID and drift: of the variant as a whole, then of each image of ours."""
    of_variant = release_drift.of_variant(images.variant, images.ours, images.others)
    if of_variant:
        place = images.current or [*images.others, *images.ours][-1]
        yield from ((place.id, each) for each in of_variant)
    duplicates = release_drift.duplicates(images.ours)
    for image in images.ours:
        yield from ((image.id, each) for each in _drift_of_image(context, images, image))
        if image.id in duplicates:
            yield image.id, duplicates[image.id]


def _drift_of_image(context: _Context, images: _Images, image: Image) -> Sequence[Drift]:
    variant, is_current = images.variant, image is images.current
    asks_members = is_current and image.visibility == "shared"
    return release_drift.drift(
        variant,
        image,
        workflows_site.manifest_of(context.site, variant.name, image.properties[image_metadata.BUILD_ID]),
        context.now,
        current=is_current,
        members=context.cloud.members(image.id) if asks_members else None,
        fingerprint=context.fingerprints.get(variant.name),
        delivery=context.delivery,
    )


def _image_status(row: Row, image: Image, drift: Sequence[Drift]) -> ImageStatus:
    driver = image.properties.get(image_metadata.DRIVER, "") if row.state != "foreign" else ""
    return ImageStatus(row=row, size=image.size, driver=driver, drift=tuple(drift))
