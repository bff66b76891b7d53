"""Releases of builds to a cloud's users, in a safe order.

A new image is created hidden and private, filled, compared, and only then made visible; the one before it is hidden
after that, never earlier. The state of the cloud is read, not remembered, so a run that was interrupted is finished by
the next, and two runs at once end with the newest build visible and every other one hidden.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from pipelines.artifacts.manifest import Manifest, Verification
from pipelines.artifacts.store import Build
from pipelines.catalog.clouds import Delivery
from pipelines.catalog.variant import Variant
from pipelines.glance import metadefs, properties
from pipelines.glance.client import Cloud, Image
from pipelines.release import cloud_images, image_metadata, repair
from pipelines.release import promote as release_promote
from pipelines.release import upload as release_upload
from pipelines.util.errors import CatalogError, UsageError, VerifyError

BY_DEFAULT = Delivery()

Did = Literal["promoted", "updated", "superseded", "unchanged", "candidate"]
_DONE: Mapping[Did, str] = {
    "promoted": "visible under its name",
    "updated": "its metadata updated",
    "superseded": "hidden, since a newer build is current",
    "unchanged": "already current, nothing to do",
    "candidate": "a candidate; `./inv promote` makes it visible",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Result of a release. `removed` and `retired` are image IDs; `uploaded` tells whether its data was sent.

    promoted: it is visible now, and was not. updated: it was visible already, and its metadata changed. superseded: it
    is hidden, because a newer build is current. unchanged: it was visible already, as images.yaml has it. candidate:
    it is in the cloud, and hidden.
    """

    cloud: str
    variant: str
    build_id: str
    image_id: str
    did: Did
    uploaded: bool = False
    removed: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = ["uploaded"] if self.uploaded else []
        parts += [_DONE[self.did]]
        parts += [f"{len(self.retired)} older hidden"] if self.retired else []
        parts += [f"{len(self.removed)} unfinished removed"] if self.removed else []
        return f"{self.variant} {self.build_id} in {self.cloud}: {', '.join(parts)} ({self.image_id})"


def release(
    cloud: Cloud,
    variant: Variant,
    build: Build,
    verification: Verification,
    now: datetime,
    *,
    delivery: Delivery = BY_DEFAULT,
    promotes: bool = True,
) -> Outcome:
    """Release a verified build to a cloud's users; `variant` and `delivery` are as this cloud has them.

    Safe to repeat at any point. Unless it `promotes`, the image stays a candidate, which users do not see.

    Raises VerifyError for a build that failed verification (or is not what was verified), CatalogError for wrong
    properties, HostError when another process on this host is uploading this build, and CloudError.
    """
    made = build.manifest()
    _refuse(cloud, variant, made, verification)
    with release_upload.alone(cloud, build):
        removed = release_upload.remove_leftovers(cloud, build, delivery, now)
        image, uploaded = release_upload.ensure_image(cloud, variant, build, delivery)
        if promotes:
            done = _promote(cloud, variant, made, image, now)
        else:
            done = _outcome(cloud, variant, image, "unchanged" if cloud_images.is_visible(image) else "candidate")
    return replace(done, uploaded=uploaded, removed=removed)


def promote(
    cloud: Cloud, variant: Variant, build_id: str | None, made: Callable[[str], Manifest | None], now: datetime
) -> Outcome:
    """Make the newest image of a variant in a cloud current, or that of a build; nothing is uploaded.

    `made` gives the manifest of a build where it is known. Naming a build that was rolled back makes it current again.
    """
    mine = [image for image in cloud_images.ours(cloud, variant.name) if image.status == "active"]
    wanted = [image for image in mine if build_id in (None, image.properties[image_metadata.BUILD_ID])]
    if not wanted or (build_id is None and cloud_images.is_rolled_back(wanted[-1])):
        what = f"{cloud.name} has no image of {variant.name} to promote"
        raise UsageError(f"{what}: {build_id}" if build_id else what, remedy="`./inv upload` uploads a build.")
    image = wanted[-1]
    if cloud_images.is_rolled_back(image):
        image = cloud.update(image.id, remove=[image_metadata.REJECTED_AT])
    return _promote(cloud, variant, made(image.properties[image_metadata.BUILD_ID]), image, now)


def rollback(
    cloud: Cloud, variant: Variant, build_id: str | None, made: Callable[[str], Manifest | None], now: datetime
) -> Outcome:
    """Make the good image before the current one current again, or that of a build; nothing is uploaded or built.

    It gets the members and properties that images.yaml has by now, before users see it.
    """
    image = release_promote.rollback_target(cloud, variant, build_id)
    repair.apply(cloud, variant, image, made(image.properties[image_metadata.BUILD_ID]))
    retired = release_promote.roll_back(cloud, variant, cloud.image(image.id), now)
    return replace(_outcome(cloud, variant, image, "promoted" if retired else "unchanged"), retired=retired)


def update(
    cloud: Cloud, variant: Variant, image_ids: Sequence[str], made: Callable[[str], Manifest | None]
) -> tuple[Outcome, ...]:
    """Give images of a variant the metadata that images.yaml has for them; their data stay."""
    images = [image for image in cloud_images.ours(cloud, variant.name) if image.id in image_ids]
    changed = [
        (image, repair.apply(cloud, variant, image, made(image.properties[image_metadata.BUILD_ID])))
        for image in images
    ]
    return tuple(_outcome(cloud, variant, image, "updated" if found else "unchanged") for image, found in changed)


def _promote(cloud: Cloud, variant: Variant, made: Manifest | None, image: Image, now: datetime) -> Outcome:
    """Metadata first, so that members and properties are right from the moment that users see the image."""
    superseded = cloud_images.newer_current(cloud, variant, image)
    updated = [] if superseded else repair.apply(cloud, variant, image, made)
    did, retired = release_promote.make_current(cloud, variant, image, now)
    return replace(
        _outcome(cloud, variant, image, "updated" if updated and did == "unchanged" else did), retired=retired
    )


def _outcome(cloud: Cloud, variant: Variant, image: Image, did: Did) -> Outcome:
    return Outcome(
        cloud=cloud.name,
        variant=variant.name,
        build_id=image.properties[image_metadata.BUILD_ID],
        image_id=image.id,
        did=did,
    )


def _refuse(cloud: Cloud, variant: Variant, made: Manifest, verification: Verification) -> None:
    """Raise what forbids this release, before anything is sent."""
    which = f"{variant.name} {made.build_id}"
    if (verification.variant, verification.build_id) != (made.variant, made.build_id) or made.variant != variant.name:
        raise VerifyError(f"{which} is not the build that was verified", remedy=f"Run `./inv verify {variant.name}`.")
    if not verification.passed:
        failed = (
            ", ".join(check.name for check in verification.checks if check.passed is False) or "nothing was checked"
        )
        remedy = f"Run `./inv verify {variant.name}` for the details, and build it again."
        raise VerifyError(f"{which} is not uploaded, because it failed verification: {failed}", remedy=remedy)
    declared = image_metadata.declared_properties(variant, made)
    own = properties.check(declared, modules_signed=made.modules_signed, packages=made.packages or None)
    faults = own or metadefs.check(cloud, declared)
    if faults:
        what = f"{variant.name} is not uploaded, because its properties are wrong: " + "; ".join(map(str, faults))
        raise CatalogError(what, remedy="Correct `glance: properties` in images.yaml.")
