"""How is drift put right?

What Glance holds beside an image's data is made as images.yaml says, by ID and for images of ours alone: they are read
again right before, and what is right already is not touched. Nothing is built, uploaded or deleted.
"""

from collections.abc import Callable
from datetime import datetime

from pipelines.artifacts.manifest import Manifest
from pipelines.catalog.variant import Variant
from pipelines.glance.client import Cloud, Image
from pipelines.release import cloud_images, drift, image_metadata, promote
from pipelines.release.drift import Drift


def repair(cloud: Cloud, variant: Variant, made: Callable[[str], Manifest | None], now: datetime) -> list[Drift]:
    """Repair a variant's images, which `variant` describes as this cloud has it; what was wrong, and is not any more.

    `made` gives the manifest of a build where it is known. Doing it again repairs nothing.
    """
    mine = cloud_images.ours(cloud, variant.name)
    repaired = [each for each in drift.of_variant(variant, mine, ()) if each.repairable]
    if repaired:  # none is shown, or several are
        shown = [image for image in mine if cloud_images.is_shown(image)]
        newest = shown[-1] if shown else drift.hidden_by_hand(mine)
        if newest is not None:
            promote.show(cloud, variant, newest, now)
        mine = cloud_images.ours(cloud, variant.name)
    current = next((image for image in reversed(mine) if cloud_images.is_shown(image)), None)
    for image in (image for image in mine if image.status == "active"):
        known = made(image.properties[image_metadata.BUILD_ID])
        repaired += _repair(cloud, variant, image, known, now, current=image is current)
    return repaired


def _repair(
    cloud: Cloud, variant: Variant, image: Image, made: Manifest | None, now: datetime, *, current: bool
) -> list[Drift]:
    found = [each for each in drift.drift(variant, image, made, now, current=current) if each.repairable]
    needed = drift.changes(variant, image, made, current=current)
    if needed:
        cloud.update(image.id, remove=needed.remove, **needed.values)
    if current and variant.glance.visibility == "shared":
        # Only now: Glance tells the members of shared images alone.
        found += drift.of_members(variant, cloud.members(image.id))
        share(cloud, variant, image.id)
    return found


def share(cloud: Cloud, variant: Variant, image_id: str) -> bool:
    """Give a shared image the members that its variant has, and no other; False when it had them."""
    if variant.glance.visibility != "shared":
        return False
    there, wanted = set(cloud.members(image_id)), set(variant.glance.members)
    for project in sorted(wanted - there):
        cloud.add_member(image_id, project)
    for project in sorted(there - wanted):
        cloud.remove_member(image_id, project)
    return there != wanted
