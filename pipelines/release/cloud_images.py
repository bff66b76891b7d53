"""Our images in a cloud: which they are, and in which state.

Image properties in Glance tell what an image is. A server's snapshot inherits all of them, so an image is ours only
when it is in our project, names its own ID, and has none of a snapshot's marks. No other image is ever changed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pipelines.catalog.variant import Variant
from pipelines.glance import client
from pipelines.glance.client import Image
from pipelines.plan import model
from pipelines.plan.model import CloudImage
from pipelines.release import image_metadata

WHOLE = frozenset({"active", "deactivated"})  # the statuses of images that have all their data
SNAPSHOT_MARKS = frozenset({"image_type", "instance_uuid", "base_image_ref"})

State = model.State | Literal["foreign"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """An image in a cloud. `state` is foreign for an image that has a variant's name or properties and is not ours."""

    cloud: str
    variant: str
    build_id: str
    fingerprint: str
    release_digest: str
    id: str
    name: str
    state: State
    visibility: str
    created_at: str
    whose: str
    note: str


def is_ours(image: Image, project_id: str) -> bool:
    """Whether this image was released by us, into this project."""
    named = (
        image.properties.get(image_metadata.ID) == image.id
        and image_metadata.VARIANT in image.properties
        and image_metadata.BUILD_ID in image.properties
    )
    return image.owner == project_id and named and SNAPSHOT_MARKS.isdisjoint(image.properties)


def ours(cloud: client.Cloud, variant: str, *, hidden: bool | None = None) -> list[Image]:
    """Our images of one variant, in any state (or those that are hidden, or not), the newest build last."""
    found = cloud.images(owner=cloud.project_id, hidden=hidden, properties={image_metadata.VARIANT: variant})
    return sorted((image for image in found if is_ours(image, cloud.project_id)), key=age)


def age(image: Image) -> tuple[bool, str, str, str]:
    """Sorts by build, then by which came first into the cloud; the same for every host.

    A rolled-back image is older than all others.
    """
    return not is_rolled_back(image), image.properties[image_metadata.BUILD_ID], image.created_at, image.id


def is_rolled_back(image: Image) -> bool:
    """Whether this image was rolled back, and not promoted since."""
    return image_metadata.REJECTED_AT in image.properties


def current(cloud: client.Cloud, variant: str) -> list[Image]:
    """Our images of one variant that users see: one, but for a moment within a promotion."""
    return [image for image in ours(cloud, variant, hidden=False) if is_visible(image)]


def newer_current(cloud: client.Cloud, variant: Variant, image: Image) -> list[Image]:
    """The visible images of a variant that are newer than this one."""
    return [other for other in current(cloud, variant.name) if age(other) > age(image)]


def is_visible(image: Image) -> bool:
    """Whether users get this image when they ask for its name."""
    return image.status in WHOLE and not image.hidden


def inventory(cloud: client.Cloud) -> tuple[CloudImage, ...]:
    """All our images in a cloud, by variant, the oldest build first; of several visible ones each is current."""
    found = [image for image in cloud.images(owner=cloud.project_id) if is_ours(image, cloud.project_id)]
    return tuple(
        CloudImage(
            cloud=cloud.name,
            id=image.id,
            variant=image.properties[image_metadata.VARIANT],
            build_id=image.properties[image_metadata.BUILD_ID],
            fingerprint=image.properties.get(image_metadata.FINGERPRINT, ""),
            release_digest=image.properties.get(image_metadata.RELEASE_DIGEST, ""),
            state="current" if is_visible(image) else state,
            created_at=datetime.fromisoformat(image.created_at),
            disk_format=image.disk_format,
            converted=image_metadata.DATA in image.properties,
            rolled_back=is_rolled_back(image),
            deactivated=image.status == "deactivated",
            hidden_since=hidden_since(image),
        )
        for image, state in _states(found)
    )


def hidden_since(image: Image) -> datetime | None:
    """Since when users do not see an image; None for one that they see."""
    if not image.hidden:
        return None
    return datetime.fromisoformat(image.properties.get(image_metadata.RETIRED_AT, image.created_at))


def rows(
    cloud: client.Cloud, seen: Sequence[Image], variants: Iterable[Variant], fingerprints: Mapping[str, str]
) -> list[Row]:
    """Those of these variants among all images `seen` in a cloud, ours and others' (foreign), with notes.

    A note tells what is stale or out of order. `fingerprints`: that of a build now by variant, where it is known.
    """
    wanted = {variant.name: variant for variant in variants}
    mine = [image for image in seen if is_ours(image, cloud.project_id)]
    found = []
    for image, state in _states(image for image in mine if image.properties[image_metadata.VARIANT] in wanted):
        variant = image.properties[image_metadata.VARIANT]
        note = _note(image, state, wanted[variant], fingerprints.get(variant))
        found.append(_row(cloud, image, state, "ours", note))
    known = {image.id for image in mine}
    names = {variant.image_name: variant.name for variant in wanted.values()}
    others = ((image, _namesake(image, names)) for image in seen if image.id not in known)
    return found + [
        _row(cloud, image, "foreign", _whose(cloud, image), "", variant=name)
        for image, name in others
        if name in wanted
    ]


def _states(images: Iterable[Image]) -> list[tuple[Image, model.State]]:
    """Our images with their states, by variant and age. Of several visible ones the newest is the current one."""
    ordered = sorted(images, key=lambda image: (image.properties[image_metadata.VARIANT], age(image)))
    newest = {image.properties[image_metadata.VARIANT]: image.id for image in ordered if is_visible(image)}
    return [(image, _state(image, newest.get(image.properties[image_metadata.VARIANT]))) for image in ordered]


def _state(image: Image, newest: str | None) -> model.State:
    if image.status not in WHOLE:
        return "broken"
    if image.id == newest:
        return "current"
    return "retired" if image_metadata.PROMOTED_AT in image.properties or not image.hidden else "candidate"


def _note(image: Image, state: model.State, variant: Variant, fingerprint: str | None) -> str:
    notes = []
    if state == "broken":
        notes.append(f"it has no data ({image.status})")
    if state == "retired" and not image.hidden:
        notes.append("still visible beside a newer one; upload again to finish")
    if state == "current" and image.properties.get(image_metadata.RELEASE_DIGEST) != image_metadata.release_digest(
        variant
    ):
        notes.append("stale: its metadata in images.yaml changed")
    if state == "current" and fingerprint not in (None, image.properties.get(image_metadata.FINGERPRINT)):
        notes.append("stale: images.yaml or an element changed since it was built")
    return "; ".join(notes)


def _row(cloud: client.Cloud, image: Image, state: State, whose: str, note: str, *, variant: str = "") -> Row:
    ours = state != "foreign"  # what a snapshot inherited says nothing about the snapshot
    return Row(
        cloud=cloud.name,
        variant=variant or image.properties[image_metadata.VARIANT],
        build_id=image.properties[image_metadata.BUILD_ID] if ours else "",
        fingerprint=image.properties.get(image_metadata.FINGERPRINT, "") if ours else "",
        release_digest=image.properties.get(image_metadata.RELEASE_DIGEST, "") if ours else "",
        id=image.id,
        name=image.name,
        state=state,
        visibility=image.visibility,
        created_at=image.created_at,
        whose=whose,
        note=note,
    )


def _namesake(image: Image, names: Mapping[str, str]) -> str:
    """The variant in an image's properties, or the one whose name it has in the cloud."""
    return image.properties.get(image_metadata.VARIANT, names.get(image.name, ""))


def _whose(cloud: client.Cloud, image: Image) -> str:
    if not SNAPSHOT_MARKS.isdisjoint(image.properties):
        return "a server's snapshot"
    return "this project's, not ours" if image.owner == cloud.project_id else f"project {image.owner}"
