"""Repair of drift: metadata of our images in a cloud, made as images.yaml has them.

Images are read again right before, and what is right already is not touched. Nothing is built, uploaded or deleted.
"""

from collections.abc import Callable
from datetime import datetime

from pipelines.artifacts.manifest import Manifest
from pipelines.catalog.variant import Variant
from pipelines.glance.client import Cloud, Image
from pipelines.release import cloud_images, drift, image_metadata, promote
from pipelines.release.drift import Drift


def repair(cloud: Cloud, variant: Variant, made: Callable[[str], Manifest | None], now: datetime) -> list[Drift]:
    """Repair a variant's images in a cloud, as `variant` describes them for it; what was wrong before.

    `made` gives the manifest of a build where it is known. Doing it again repairs nothing.
    """
    mine = cloud_images.ours(cloud, variant.name)
    repaired = [each for each in drift.of_variant(variant, mine, ()) if each.repairable]
    if repaired:  # none is visible, or several are
        visible = [image for image in mine if cloud_images.is_visible(image)]
        newest = visible[-1] if visible else drift.hidden_by_hand(mine)
        if newest is not None:
            promote.make_current(cloud, variant, newest, now)
        mine = cloud_images.ours(cloud, variant.name)
    current = next((image for image in reversed(mine) if cloud_images.is_visible(image)), None)
    for image in (image for image in mine if image.status == "active"):
        known = made(image.properties[image_metadata.BUILD_ID])
        repaired += apply(cloud, variant, image, known, current=image is current)
    return repaired


def apply(cloud: Cloud, variant: Variant, image: Image, made: Manifest | None, *, current: bool = True) -> list[Drift]:
    """Give an image the metadata that images.yaml has for it, members included; what was different.

    `made`: the manifest of its build, where that is known. `current`: whether it is its variant's current image, or
    about to be; of any other, the name alone is set.
    """
    needed = drift.changes(variant, image, made, current=current)
    if needed:
        cloud.update(image.id, remove=needed.remove, **needed.values)
    found = [*drift.of_metadata(image, needed)]
    if current and variant.glance.visibility == "shared":
        # After the update: Glance tells the members of shared images alone.
        found += drift.of_members(variant, cloud.set_members(image.id, variant.glance.members))
    return found
