"""Deletion of images that are no longer needed, in a cloud and on this host.

In a cloud never the current image, the last one to roll back to, one that a server or a volume uses, or one that is not
ours. What a plan names is checked again right before it is deleted: it may have been promoted or used meanwhile.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pipelines.artifacts import store
from pipelines.glance.client import Cloud, Image
from pipelines.keystone.errors import ServiceError
from pipelines.nova import servers
from pipelines.release import cloud_images, image_metadata
from pipelines.util import console, locks

# An unfinished upload may be in progress on another host; after this it is not.
ABANDONED = timedelta(days=1)
_REFUSED = frozenset({403, 409})


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """Result for one image: deleted, or why not."""

    cloud: str
    variant: str
    build_id: str
    image_id: str
    kept: str = ""

    def __str__(self) -> str:
        end = f"not deleted: {self.kept}" if self.kept else "deleted"
        return f"{self.variant} {self.build_id} in {self.cloud}: {end} ({self.image_id})"


def prune(cloud: Cloud, variant: str, image_ids: tuple[str, ...], now: datetime) -> tuple[Pruned, ...]:
    """Delete these images of a variant as far as that is still right; an image that has to stay is not an error."""
    mine = cloud_images.ours(cloud, variant)
    done = []
    for image in mine:
        if image.id in image_ids:
            kept = _why_keep(cloud, image, mine, now) or _delete(cloud, image)
            done.append(
                Pruned(
                    cloud=cloud.name,
                    variant=variant,
                    build_id=image.properties[image_metadata.BUILD_ID],
                    image_id=image.id,
                    kept=kept,
                )
            )
            if not kept:
                mine = [other for other in mine if other.id != image.id]
    return tuple(done)


def prune_here(root: Path, variant: str, keep: int) -> tuple[Path, ...]:
    """Delete the image files of builds that are older than the newest `keep` good ones; returns which.

    The rest of a build stays: it is small, and documents what was released. A build whose upload is in progress is
    left for the next time.
    """
    kept, beyond = 0, []
    for build in reversed(store.builds(root, variant)):
        if build.state == store.COMPLETE and build.image().is_file():
            if kept >= max(keep, 1) and not _is_uploaded(build.folder):
                beyond.append(build.image())
            verification = build.verification()
            kept += verification is None or verification.passed
    for path in beyond:
        path.unlink(missing_ok=True)
    return tuple(beyond)


def _is_uploaded(folder: Path) -> bool:
    return any(locks.holder(path) is not None for path in folder.glob(".upload-*.lock"))


def _why_keep(cloud: Cloud, image: Image, mine: list[Image], now: datetime) -> str:
    """Why an image has to stay; empty when it may be deleted."""
    if not image.hidden:
        return "it is visible"
    if image.status == "deactivated":
        return "an administrator deactivated it"
    if image.status != "active":
        young = now - datetime.fromisoformat(image.created_at) < ABANDONED
        return "its upload may be in progress" if young else ""
    good = (other for other in mine if other.status == "active" and not cloud_images.is_rolled_back(other))
    if not any(other.id != image.id for other in good):
        return "it is the last good one"
    users = servers.using_image(cloud.session, image.id)
    if users is None:
        console.note(
            f"{cloud.name}: Nova does not report which servers use {image.id};"
            " Glance still refuses to delete an image that volumes use"
        )
    return f"in use by {len(users)} server{'s' * (len(users) > 1)}" if users else ""


def _delete(cloud: Cloud, image: Image) -> str:
    """Delete an image; why it is still there when the cloud refuses."""
    try:
        if image.protected:
            cloud.update(image.id, protected=False)
        cloud.delete(image.id)
    except ServiceError as error:
        if error.status not in _REFUSED:
            raise
        if image.protected:
            cloud.update(image.id, protected=True)
        return error.what.rpartition(": ")[2]
    return ""
