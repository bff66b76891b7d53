"""How does it reach users?

The order and safety of a release. A new image is made hidden and private, filled, compared, and only then shown; the
one before it is hidden after that, never earlier. What lies in the cloud is read, not remembered, so a run that broke
off is finished by the next, and two runs at once end with the newest build shown and every other one hidden.
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
_SAID: Mapping[Did, str] = {
    "promoted": "shown under its name",
    "updated": "its release data updated",
    "superseded": "hidden, since a newer build is shown",
    "unchanged": "current already, nothing to do",
    "candidate": "a candidate; `./inv promote` shows it",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a release did. `removed` and `retired` are image IDs; `uploaded` says whether its data was sent.

    promoted: it is shown now, and was not. updated: it was shown already, and its release data changed. superseded: it
    is hidden, because a newer build is shown. unchanged: it was shown already, as images.yaml has it. candidate: it is
    there, and hidden.
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
        said = [
            f"{self.variant} {self.build_id} in {self.cloud}: {'uploaded, ' if self.uploaded else ''}{_SAID[self.did]}"
        ]
        said += [f"{len(self.retired)} older hidden"] if self.retired else []
        said += [f"{len(self.removed)} unfinished removed"] if self.removed else []
        return f"{', '.join(said)} ({self.image_id})"


def upload(
    cloud: Cloud,
    variant: Variant,
    build: Build,
    verification: Verification,
    now: datetime,
    *,
    delivery: Delivery = BY_DEFAULT,
    promotes: bool = True,
) -> Outcome:
    """Bring a verified build to a cloud's users; `variant` and `delivery` are as this cloud has them.

    Safe to repeat at any point. Unless it `promotes`, the image stays a candidate, which users do not see.

    Raises VerifyError for a build that is not good (or is not what was verified), CatalogError for properties that
    are wrong, HostError when this build is being uploaded already, and CloudError.
    """
    made = build.manifest()
    _refuse(cloud, variant, made, verification)
    with release_upload.uploading(cloud, build):
        removed = release_upload.clean(cloud, build, delivery, now)
        image, fresh = release_upload.have(cloud, variant, build, delivery)
        if promotes:
            done = _promote(cloud, variant, made, image, now)
        else:
            done = _outcome(cloud, variant, image, "unchanged" if cloud_images.is_shown(image) else "candidate")
    return replace(done, uploaded=fresh, removed=removed)


def promote(
    cloud: Cloud, variant: Variant, build_id: str | None, made: Callable[[str], Manifest | None], now: datetime
) -> Outcome:
    """Show the newest image of a variant that a cloud has, or that of a build; nothing is sent.

    `made` gives the manifest of a build where it is known. Naming a build that somebody went back from shows it again.
    """
    mine = [image for image in cloud_images.ours(cloud, variant.name) if image.status == "active"]
    wanted = [image for image in mine if build_id in (None, image.properties[image_metadata.BUILD_ID])]
    if not wanted or (build_id is None and cloud_images.is_rejected(wanted[-1])):
        what = f"{cloud.name} has no image of {variant.name} to promote"
        raise UsageError(f"{what}: {build_id}" if build_id else what, remedy="`./inv upload` brings a build there.")
    image = wanted[-1]
    if cloud_images.is_rejected(image):
        image = cloud.update(image.id, remove=[image_metadata.REJECTED_AT])
    return _promote(cloud, variant, made(image.properties[image_metadata.BUILD_ID]), image, now)


def rollback(
    cloud: Cloud, variant: Variant, build_id: str | None, made: Callable[[str], Manifest | None], now: datetime
) -> Outcome:
    """Show the good image before the current one again, or that of a build; nothing is sent or built.

    Its members and properties are brought to what images.yaml says by now, before users see it.
    """
    image = release_promote.before(cloud, variant, build_id)
    repair.apply(cloud, variant, image, made(image.properties[image_metadata.BUILD_ID]))
    retired = release_promote.go_back(cloud, variant, cloud.image(image.id), now)
    return replace(_outcome(cloud, variant, image, "promoted" if retired else "unchanged"), retired=retired)


def update(
    cloud: Cloud, variant: Variant, image_ids: Sequence[str], made: Callable[[str], Manifest | None]
) -> tuple[Outcome, ...]:
    """Give images of a variant what images.yaml says beside their data, and nothing else."""
    images = [image for image in cloud_images.ours(cloud, variant.name) if image.id in image_ids]
    changed = [
        (image, repair.apply(cloud, variant, image, made(image.properties[image_metadata.BUILD_ID])))
        for image in images
    ]
    return tuple(_outcome(cloud, variant, image, "updated" if found else "unchanged") for image, found in changed)


def _promote(cloud: Cloud, variant: Variant, made: Manifest | None, image: Image, now: datetime) -> Outcome:
    """Release data first, so that members and properties are right from the moment that users see the image."""
    updated = [] if _is_superseded(cloud, variant, image) else repair.apply(cloud, variant, image, made)
    did, retired = release_promote.show(cloud, variant, image, now)
    return replace(
        _outcome(cloud, variant, image, "updated" if updated and did == "unchanged" else did), retired=retired
    )


def _is_superseded(cloud: Cloud, variant: Variant, image: Image) -> bool:
    return any(cloud_images.age(other) > cloud_images.age(image) for other in cloud_images.current(cloud, variant.name))


def _outcome(cloud: Cloud, variant: Variant, image: Image, did: Did) -> Outcome:
    return Outcome(
        cloud=cloud.name,
        variant=variant.name,
        build_id=image.properties[image_metadata.BUILD_ID],
        image_id=image.id,
        did=did,
    )


def _refuse(cloud: Cloud, variant: Variant, made: Manifest, verification: Verification) -> None:
    """Nothing is sent before this."""
    which = f"{variant.name} {made.build_id}"
    if (verification.variant, verification.build_id) != (made.variant, made.build_id) or made.variant != variant.name:
        raise VerifyError(f"{which} is not the build that was verified", remedy=f"Run `./inv verify {variant.name}`.")
    if not verification.passed:
        failed = (
            ", ".join(check.name for check in verification.checks if check.passed is False) or "nothing was checked"
        )
        remedy = f"Run `./inv verify {variant.name}` for the details, and build it again."
        raise VerifyError(f"{which} is not uploaded, because it failed verification: {failed}", remedy=remedy)
    held = image_metadata.declared_properties(variant, made)
    own = properties.check(held, modules_signed=made.modules_signed, packages=made.packages or None)
    faults = own or metadefs.check(cloud, held)
    if faults:
        what = f"{variant.name} is not uploaded, because its properties are wrong: " + "; ".join(map(str, faults))
        raise CatalogError(what, remedy="Correct `glance: properties` in images.yaml.")
