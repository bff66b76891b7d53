"""Which image is shown under a variant's name?

The newest good one, whoever looks and whenever: a new one is shown before the one before it is hidden, so that users
are never without, and two who do this at once agree in the end. What somebody went back from counts as older than all
else. Each step is one change of one image, and doing all of it again finishes what broke off.
"""

from datetime import datetime
from typing import Literal

from pipelines.catalog.variant import Variant
from pipelines.glance.client import Cloud, Image
from pipelines.release import cloud_images, image_metadata
from pipelines.util import times
from pipelines.util.errors import CloudError, UsageError

Shown = Literal["promoted", "superseded", "unchanged"]


def show(cloud: Cloud, variant: Variant, image: Image, now: datetime) -> tuple[Shown, tuple[str, ...]]:
    """Show an image under its variant's name, unless a newer one is; then hide the others, whose IDs are returned."""
    did: Shown = "unchanged"
    newer = [
        other
        for other in cloud_images.current(cloud, variant.name)
        if cloud_images.age(other) > cloud_images.age(image)
    ]
    if not newer and (not cloud_images.is_shown(image) or image.name != variant.image_name):
        _reveal(cloud, variant, image, now)
        did = "promoted"
    # Somebody else may have done the same meanwhile: all who look now agree on which one stays.
    shown = cloud_images.current(cloud, variant.name)
    if not shown or cloud_images.age(shown[-1]) < cloud_images.age(image):
        what = f"{cloud.name}: {variant.name} {_build_id(image)} was promoted, and is not shown"
        raise CloudError(what, remedy="Somebody else may have hidden it. Run the same command again.")
    *older, newest = shown
    _hide(cloud, variant, older, now)
    return did if newest.id == image.id else "superseded", tuple(other.id for other in older)


def go_back(cloud: Cloud, variant: Variant, target: Image, now: datetime) -> tuple[str, ...]:
    """Show an image again instead of what is shown; the IDs of those that are not shown any more.

    What was shown is marked first: from then on nobody takes it for the newest, so a release that goes on at the same
    time does not bring it back. So is what lies between the two: who goes back to a build means that one.
    """
    mine = [image for image in cloud_images.ours(cloud, variant.name) if image.status in cloud_images.WHOLE]
    gone = [image for image in mine if not image.hidden and image.id != target.id]
    last = max((_build_id(image) for image in gone), default="")
    left = [image for image in mine if _build_id(target) < _build_id(image) <= last]
    for image in (*gone, *(image for image in left if image not in gone)):
        if not cloud_images.is_rejected(image):
            cloud.update(image.id, **{image_metadata.REJECTED_AT: times.utc(now)})
    if target.hidden or cloud_images.is_rejected(target) or target.name != variant.image_name:
        _reveal(cloud, variant, target, now)
    _hide(cloud, variant, gone, now)
    return tuple(image.id for image in gone)


def before(cloud: Cloud, variant: Variant, build_id: str | None) -> Image:
    """The good image before the current one, or that of a build. UsageError when there is nothing to go back to.

    A rollback that broke off between showing the older and hiding the newer goes to the same one again.
    """
    mine = [image for image in cloud_images.ours(cloud, variant.name) if image.status == "active"]
    if build_id is not None:
        copies = [image for image in mine if _build_id(image) == build_id]
        if not copies:
            known = ", ".join(_build_id(image) for image in mine) or "none"
            raise UsageError(f"{cloud.name} has no {variant.name} {build_id}", remedy=f"It has: {known}.")
        return copies[-1]
    shown = [image for image in mine if not image.hidden]
    if len(shown) > 1 and cloud_images.is_rejected(shown[0]) and not cloud_images.is_rejected(shown[-1]):
        return shown[-1]
    once = [image for image in mine if image.hidden and image_metadata.PROMOTED_AT in image.properties]
    good = [image for image in once if not cloud_images.is_rejected(image)]
    older = [image for image in good if not shown or _build_id(image) < _build_id(shown[-1])]
    if not older:
        what = f"{cloud.name} has no good image of {variant.name} from before the one that is shown"
        raise UsageError(what, remedy="`./inv status` lists what there is; name one with --to, or build a new one.")
    return older[-1]


def _reveal(cloud: Cloud, variant: Variant, image: Image, now: datetime) -> None:
    gone = [name for name in (image_metadata.RETIRED_AT, image_metadata.REJECTED_AT) if name in image.properties]
    cloud.update(
        image.id, remove=gone, name=variant.image_name, os_hidden=False, **{image_metadata.PROMOTED_AT: times.utc(now)}
    )


def _hide(cloud: Cloud, variant: Variant, images: list[Image], now: datetime) -> None:
    for image in images:
        name = image_metadata.hidden_name(variant, _build_id(image))
        cloud.update(image.id, name=name, os_hidden=True, **{image_metadata.RETIRED_AT: times.utc(now)})


def _build_id(image: Image) -> str:
    return image.properties[image_metadata.BUILD_ID]
