"""Upload of a build to a new image in a cloud, which users do not see yet.

The image is created hidden and private, filled, and compared. What an earlier upload left unfinished is deleted, unless
it may still be in progress.
"""

import contextlib
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from pipelines.artifacts.store import Build
from pipelines.catalog.clouds import Delivery
from pipelines.catalog.variant import Variant
from pipelines.glance.client import Cloud, Image
from pipelines.keystone.errors import ServiceError
from pipelines.release import cloud_images, image_metadata, payload, prune, transfer
from pipelines.util import console, locks
from pipelines.util.errors import CloudError, PipelineError

UNFINISHED = frozenset({"queued", "saving", "uploading", "importing", "killed"})


@contextlib.contextmanager
def alone(cloud: Cloud, build: Build) -> Iterator[None]:
    """Hold the lock for uploads of a build from this host to a cloud; HostError when another process holds it."""
    busy = f"{build.variant} {build.build_id} is already being uploaded to {cloud.name} by {{holder}}"
    with locks.hold(_lock(build.folder, cloud), busy):
        payload.sweep(build)
        yield


def ensure_image(cloud: Cloud, variant: Variant, build: Build, delivery: Delivery) -> tuple[Image, bool]:
    """The image that has a build's data, and whether it was uploaded for that. CloudError when data do not arrive."""
    made = build.manifest()
    for image in reversed(cloud_images.ours(cloud, variant.name)):
        if transfer.holds(image, build, made, delivery):
            return image, False
    route = transfer.choose(cloud, delivery)
    with payload.prepared(build, made, delivery.disk_format) as sent:
        return _filled(cloud, variant, build, sent, route), True


def remove_leftovers(cloud: Cloud, build: Build, delivery: Delivery, now: datetime) -> tuple[str, ...]:
    """Delete what earlier runs left unfinished: nothing that is visible, and nothing that may be in progress."""
    made, images = build.manifest(), cloud_images.ours(cloud, build.variant)
    unfinished = [image for image in images if image.status in UNFINISHED and _abandoned(cloud, image, build, now)]
    # Another host may have made a build in the same second, which has the same ID.
    own = [image for image in images if image.properties.get(image_metadata.SHA256) == made.artifact.sha256]
    never_visible = [
        image for image in own if image.status == "active" and image_metadata.PROMOTED_AT not in image.properties
    ]
    damaged = [image for image in never_visible if not transfer.holds(image, build, made, delivery)]
    leftovers = [image for image in (*unfinished, *damaged) if image.hidden]
    for image in leftovers:
        console.note(f"{cloud.name}: removing {image.name}, an upload that did not finish ({image.status}, {image.id})")
        cloud.delete(image.id)
    return tuple(image.id for image in leftovers)


def _filled(cloud: Cloud, variant: Variant, build: Build, sent: payload.Payload, route: transfer.Route) -> Image:
    """Create, fill and compare an image, hidden and private; it is gone again when that fails."""
    made, image_id = build.manifest(), str(uuid.uuid4())
    name = image_metadata.hidden_name(variant, made.build_id)
    _note_start(build.folder, cloud, image_id)
    try:
        cloud.create(
            image_id,
            name=name,
            disk_format=sent.artifact.format,
            min_disk=image_metadata.min_disk(made),
            min_ram=variant.glance.min_ram,
            tags=variant.glance.tags,
            properties=image_metadata.properties(variant, made, image_id),
        )
        _require_visibility(cloud, variant, image_id)
        return transfer.fill(cloud, image_id, name, sent, route)
    except BaseException:
        with contextlib.suppress(PipelineError):  # the next run finds it, and the first error is the one to report
            cloud.delete(image_id)
        raise


def _abandoned(cloud: Cloud, image: Image, build: Build, now: datetime) -> bool:
    """Whether an unfinished upload is not in progress: this host started it, and no other process holds its lock."""
    folder = build.folder.parent / image.properties[image_metadata.BUILD_ID]
    if image.id in _started_here(folder, cloud):
        return folder == build.folder or locks.holder(_lock(folder, cloud)) is None
    return now - datetime.fromisoformat(image.created_at) > prune.ABANDONED


def _started_here(folder: Path, cloud: Cloud) -> list[str]:
    """The IDs of the images whose uploads this host started from a build's folder."""
    noted = _lock(folder, cloud).with_suffix(".begun")
    return noted.read_text(encoding="utf-8").split() if noted.exists() else []


def _note_start(folder: Path, cloud: Cloud, image_id: str) -> None:
    """Write down an upload before its image exists, so that a later run recognizes a leftover."""
    with _lock(folder, cloud).with_suffix(".begun").open("a", encoding="utf-8") as noted:
        noted.write(f"{image_id}\n")


def _lock(folder: Path, cloud: Cloud) -> Path:
    return folder / f".upload-{cloud.name}.lock"


def _require_visibility(cloud: Cloud, variant: Variant, image_id: str) -> None:
    """Try on an image without data what promotion will need: better refused now than after the upload."""
    visibility = variant.glance.visibility
    if visibility in ("public", "community"):
        try:
            cloud.update(image_id, visibility=visibility)
            cloud.update(image_id, visibility="private")
        except ServiceError as error:
            if error.status != 403:
                raise
            what = f"{cloud.name}: this user may not make {variant.name} {visibility}"
            remedy = f"Use an administrator's credentials, or write another visibility for {cloud.name} in images.yaml."
            raise CloudError(what, remedy=remedy) from error
