"""Which images may go, in a cloud and here, and do they?

In a cloud: never what is shown, never the one to go back to, never what a server or a volume uses, never what is not
ours. What a plan names is looked at once more, right before it is deleted: somebody may have shown or used it
meanwhile.
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

# An unfinished upload may be under way elsewhere; after this it is not.
ABANDONED = timedelta(days=1)
_REFUSED = frozenset({403, 409})


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """What became of one image: deleted, or why not."""

    cloud: str
    variant: str
    build_id: str
    image_id: str
    kept: str = ""

    def __str__(self) -> str:
        end = f"kept: {self.kept}" if self.kept else "deleted"
        return f"{self.variant} {self.build_id} in {self.cloud}: {end} ({self.image_id})"


def prune(cloud: Cloud, variant: str, image_ids: tuple[str, ...], now: datetime) -> tuple[Pruned, ...]:
    """Delete these images of a variant as far as that is still right; what is kept is said, and no error."""
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

    The rest of a build stays: it is small, and says what was released. One that is being uploaded is left for later.
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
    """Why an image has to stay; empty when it may go."""
    if not image.hidden:
        return "it is shown"
    if image.status == "deactivated":
        return "an administrator deactivated it"
    if image.status != "active":
        young = now - datetime.fromisoformat(image.created_at) < ABANDONED
        return "its upload may be under way" if young else ""
    good = (other for other in mine if other.status == "active" and not cloud_images.is_rejected(other))
    if not any(other.id != image.id for other in good):
        return "it is the last good one"
    users = servers.using_image(cloud.session, image.id)
    if users is None:
        console.note(f"{cloud.name}: Nova may not be asked who uses {image.id}; Glance refuses what volumes use")
    return f"in use by {len(users)} servers" if users else ""


def _delete(cloud: Cloud, image: Image) -> str:
    """Delete an image that may go; why it is still there when the cloud refuses."""
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
