"""What has each cloud of these images, and what is out of order there?

Every image with its drift: rows for a table, for JSON and for a page. A cloud that fails is said, and stops no other.
"""

import functools
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
class Seen:
    """An image in a cloud. What is out of order with its variant as a whole is at its current image, or its newest."""

    row: Row
    size: int | None
    driver: str
    drift: tuple[Drift, ...]

    def plain(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self.row) | {"drift": [asdict(each) for each in self.drift]}


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What one cloud has. `absent`: the variants of which it has no image of ours. `failed`: why it said no more."""

    cloud: str
    images: tuple[Seen, ...] = ()
    absent: tuple[str, ...] = ()
    failed: PipelineError | None = None

    def plain(self) -> list[dict[str, Any]]:
        """JSON values: an entry for each image that is ours or is in our way, for each absent variant, and an error."""
        shown = [image.plain() for image in self.images if image.row.state != "foreign" or image.drift]
        absent = [{"cloud": self.cloud, "variant": name, "state": "absent", "drift": []} for name in self.absent]
        error = self.failed
        failed = [{"cloud": self.cloud, "error": error.what, "remedy": error.remedy}] if error is not None else []
        return [*shown, *absent, *failed]

    @property
    def needs_attention(self) -> bool:
        """Whether there is any drift that somebody has to do something about."""
        return any(not each.asked_for for image in self.images for each in image.drift)


def survey(site: Site, variants: Sequence[Variant], now: datetime, *, fix: bool = False) -> list[Survey]:
    """All clouds of the site, one after the other. With `fix`, what can be repaired without a build is, first."""
    if not site.clouds and not site.unreachable:
        raise UsageError("no cloud is named", remedy="Name one or more, each with --cloud.")
    fingerprints = {variant.name: workflows_site.present(site, variant).digest for variant in variants}
    found = [Survey(cloud=name, failed=error) for name, error in site.unreachable.items()]
    for cloud in site.clouds:
        here = [site.catalog.for_cloud(variant, cloud.name) for variant in variants]
        failed: PipelineError | None = None
        try:
            if fix:
                failed = _fixed(site, cloud, here, now)
            found.append(replace(_of_cloud(site, cloud, here, fingerprints, now), failed=failed))
        except PipelineError as error:
            if failures.stops_everything(error):
                raise
            found.append(Survey(cloud=cloud.name, failed=failed or error))
    return found


def require_all(found: Sequence[Survey]) -> None:
    """Raise why clouds said no more, together."""
    with failures.each([each.cloud for each in found]) as one:
        for each in found:
            with one(each.cloud):
                if each.failed is not None:
                    raise each.failed


def _fixed(site: Site, cloud: Cloud, variants: Sequence[Variant], now: datetime) -> PipelineError | None:
    """Repair what can be, of each variant; why some could not."""
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


def _of_cloud(
    site: Site, cloud: Cloud, variants: Sequence[Variant], fingerprints: Mapping[str, str], now: datetime
) -> Survey:
    seen = cloud.images()
    rows = cloud_images.rows(cloud, seen, variants, fingerprints)
    by_id = {image.id: image for image in seen}
    found: dict[str, list[Drift]] = {row.id: [] for row in rows}
    delivery = _delivery(site, cloud)
    for variant in variants:
        own = [row for row in rows if row.variant == variant.name]
        mine = sorted((by_id[row.id] for row in own if row.state != "foreign"), key=cloud_images.age)
        others = [by_id[row.id] for row in own if row.state == "foreign"]
        # An administrator sees other projects' private images, too; their users and ours never meet.
        others = [each for each in others if each.visibility != "private" or each.owner == cloud.project_id]
        wanted = fingerprints.get(variant.name)
        about = _of_variant(site, cloud, variant, mine=mine, others=others, wanted=wanted, delivery=delivery, now=now)
        for image_id, each in about:
            found[image_id].append(each)
    images = tuple(_seen(row, by_id[row.id], found[row.id]) for row in rows)
    there = {row.variant for row in rows if row.state != "foreign"}
    absent = tuple(variant.name for variant in variants if variant.name not in there)
    return Survey(cloud=cloud.name, images=images, absent=absent)


def _delivery(site: Site, cloud: Cloud) -> Delivery:
    """How this cloud wants its images' data; of one that wants them in all stores, in those that it has now."""
    delivery = site.catalog.delivery(cloud.name)
    return delivery if delivery.stores is not None else replace(delivery, stores=interop_import.offer(cloud).stores)


def _of_variant(
    site: Site,
    cloud: Cloud,
    variant: Variant,
    *,
    mine: Sequence[Image],
    others: Sequence[Image],
    wanted: str | None,
    delivery: Delivery,
    now: datetime,
) -> Iterator[tuple[str, Drift]]:
    """Image ID and drift, of all of a variant's images."""
    current = next((image for image in reversed(mine) if cloud_images.is_visible(image)), None)
    for each in release_drift.of_variant(variant, mine, others):
        yield (current or [*others, *mine][-1]).id, each
    twice = release_drift.duplicates(mine)
    for image in mine:
        made = workflows_site.manifest_of(site, variant.name, image.properties[image_metadata.BUILD_ID])
        shared = image is current and image.visibility == "shared"
        members = cloud.members(image.id) if shared else None
        found = release_drift.drift(
            variant,
            image,
            made,
            now,
            current=image is current,
            members=members,
            fingerprint=wanted,
            delivery=delivery,
        )
        yield from ((image.id, each) for each in (*found, *filter(None, (twice.get(image.id),))))


def _seen(row: Row, image: Image, found: Sequence[Drift]) -> Seen:
    driver = image.properties.get(image_metadata.DRIVER, "") if row.state != "foreign" else ""
    return Seen(row=row, size=image.size, driver=driver, drift=tuple(found))
