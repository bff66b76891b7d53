"""Promotion and rollback: which image is visible under a variant's name.

The newest good one, whichever host promotes it and whenever: a new image is made visible before the one before it is
hidden, so that users are never without, and two hosts that do this at once agree in the end. A rolled-back image counts
as older than all others. Each step is one change of one image, and doing all of it again finishes what was interrupted.
"""

from datetime import datetime
from typing import Literal

from pipelines.catalog.variant import Variant
from pipelines.glance.client import Cloud, Image
from pipelines.release import cloud_images, image_metadata
from pipelines.util import times
from pipelines.util.errors import CloudError, UsageError

Promoted = Literal["promoted", "superseded", "unchanged"]


def make_current(cloud: Cloud, variant: Variant, image: Image, now: datetime) -> tuple[Promoted, tuple[str, ...]]:
    """Make an image visible under its variant's name, unless a newer one is; hide the others and return their IDs."""
    did: Promoted = "unchanged"
    newer = cloud_images.newer_current(cloud, variant, image)
    if not newer and (not cloud_images.is_visible(image) or image.name != variant.image_name):
        _make_visible(cloud, variant, image, now)
        did = "promoted"
    # Another host may have done the same meanwhile: both agree now on which one stays.
    visible = cloud_images.current(cloud, variant.name)
    if not visible or cloud_images.age(visible[-1]) < cloud_images.age(image):
        what = f"{cloud.name}: {variant.name} {_build_id(image)} was promoted, but is not visible"
        raise CloudError(what, remedy="Another user may have hidden it. Run the same command again.")
    *older, newest = visible
    _hide(cloud, variant, older, now)
    return did if newest.id == image.id else "superseded", tuple(other.id for other in older)


def roll_back(cloud: Cloud, variant: Variant, target: Image, now: datetime) -> tuple[str, ...]:
    """Make an older image current again; the IDs of those that it replaces.

    These are marked first: from then on no host takes them for the newest, so a release that runs at the same time does
    not bring them back. So are the builds between the two: a rollback to a build means that one.
    """
    mine = [image for image in cloud_images.ours(cloud, variant.name) if image.status in cloud_images.WHOLE]
    replaced = [image for image in mine if not image.hidden and image.id != target.id]
    last = max((_build_id(image) for image in replaced), default="")
    between = [image for image in mine if _build_id(target) < _build_id(image) <= last]
    for image in (*replaced, *(image for image in between if image not in replaced)):
        if not cloud_images.is_rolled_back(image):
            cloud.update(image.id, **{image_metadata.REJECTED_AT: times.utc(now)})
    if target.hidden or cloud_images.is_rolled_back(target) or target.name != variant.image_name:
        _make_visible(cloud, variant, target, now)
    _hide(cloud, variant, replaced, now)
    return tuple(image.id for image in replaced)


def rollback_target(cloud: Cloud, variant: Variant, build_id: str | None) -> Image:
    """The image that a rollback makes current: that of a build, or the good one before the current one.

    UsageError when there is none.
    """
    mine = [image for image in cloud_images.ours(cloud, variant.name) if image.status == "active"]
    if build_id is not None:
        copies = [image for image in mine if _build_id(image) == build_id]
        if not copies:
            known = ", ".join(_build_id(image) for image in mine) or "none"
            raise UsageError(f"{cloud.name} has no {variant.name} {build_id}", remedy=f"It has: {known}.")
        return copies[-1]
    visible = [image for image in mine if not image.hidden]
    previous = _of_interrupted_rollback(visible) or _previous(mine, visible[-1] if visible else None)
    if previous is None:
        what = f"{cloud.name} has no good image of {variant.name} older than the current one"
        raise UsageError(what, remedy="`./inv status` lists all images; name one with --to, or build a new one.")
    return previous


def _of_interrupted_rollback(visible: list[Image]) -> Image | None:
    """The target of a rollback that was interrupted after it made that visible, and before it hid the other."""
    first_is_rolled_back = len(visible) > 1 and cloud_images.is_rolled_back(visible[0])
    return visible[-1] if first_is_rolled_back and not cloud_images.is_rolled_back(visible[-1]) else None


def _previous(mine: list[Image], current: Image | None) -> Image | None:
    """The newest hidden image that was once current, was not rolled back, and is older than the current one."""
    once_current = (image for image in mine if image.hidden and image_metadata.PROMOTED_AT in image.properties)
    good = (image for image in once_current if not cloud_images.is_rolled_back(image))
    older = [image for image in good if current is None or _build_id(image) < _build_id(current)]
    return older[-1] if older else None


def _make_visible(cloud: Cloud, variant: Variant, image: Image, now: datetime) -> None:
    marks = (image_metadata.RETIRED_AT, image_metadata.REJECTED_AT)
    remove = [name for name in marks if name in image.properties]
    promoted = {image_metadata.PROMOTED_AT: times.utc(now)}
    cloud.update(image.id, remove=remove, name=variant.image_name, os_hidden=False, **promoted)


def _hide(cloud: Cloud, variant: Variant, images: list[Image], now: datetime) -> None:
    for image in images:
        name = image_metadata.hidden_name(variant, _build_id(image))
        cloud.update(image.id, name=name, os_hidden=True, **{image_metadata.RETIRED_AT: times.utc(now)})


def _build_id(image: Image) -> str:
    return image.properties[image_metadata.BUILD_ID]
