"""Download of a build from a cloud that has it, for another that lacks it.

It is not built again: its image is downloaded, and is a build once more only when it is, byte for byte, what its build
record describes.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipelines.artifacts import store
from pipelines.artifacts.manifest import Artifact, Manifest
from pipelines.artifacts.records import Record
from pipelines.artifacts.store import Build
from pipelines.glance.client import Cloud, Image
from pipelines.release import cloud_images, image_metadata
from pipelines.util import console, files
from pipelines.util.errors import CloudError, HostError


def holder(clouds: list[Cloud], made: Manifest) -> tuple[Cloud, Image] | None:
    """The first cloud with an image of ours that has this build's bytes, and that image."""
    for cloud in clouds:
        for image in cloud_images.ours(cloud, made.variant):
            if image.properties[image_metadata.BUILD_ID] == made.build_id and _has(image, made.artifact):
                return cloud, image
    return None


def retrieve(cloud: Cloud, image: Image, record: Record, root: Path) -> Build:
    """Make a build complete again, from an image of a cloud and its record; what this host has of it stays.

    CloudError when the image is not what the record describes, HostError when the disk is full; nothing is left then.
    """
    made = record.manifest
    folder = root / made.variant / made.build_id
    folder.parent.mkdir(parents=True, exist_ok=True)
    with store.lock(root, made.variant), _folder(folder, record):
        whole = folder / made.artifact.path
        part = whole.with_name(f".{whole.name}.part")
        try:
            _download(cloud, image, made, part)
            part.replace(whole)
        finally:
            part.unlink(missing_ok=True)
    return store.newest_complete(root, made.variant, made.build_id)


@contextlib.contextmanager
def _folder(folder: Path, record: Record) -> Iterator[None]:
    """The build's folder, complete and with its record afterwards; a new one is removed on failure."""
    on_this_host = store.builds(folder.parents[1], record.manifest.variant)
    if any(build.folder == folder and build.state == store.COMPLETE for build in on_this_host):
        yield
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        store.set_state(folder, store.RUNNING)
        yield
        if record.verification is not None:
            files.write_json(folder / "verify.json", record.verification)
        files.write_json(folder / "manifest.json", record.manifest)
        store.set_state(folder, store.COMPLETE)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _has(image: Image, artifact: Artifact) -> bool:
    same = image.properties.get(image_metadata.SHA256) == artifact.sha256 and image.disk_format == artifact.format
    return same and image.status == "active" and image.size == artifact.size


def _download(cloud: Cloud, image: Image, made: Manifest, path: Path) -> None:
    name = f"{made.variant} {made.build_id} ← {cloud.name}"
    try:
        with path.open("wb") as sink, console.meter(name, made.artifact.size) as meter:
            cloud.download(image.id, sink, meter.advance)
        sha256 = files.sha256(path)
    except OSError as error:
        what = f"cannot download {made.variant} {made.build_id}: {error.strerror}"
        raise HostError(what, remedy="Free some space, or put the builds elsewhere with --builds DIR.") from error
    if sha256 != made.artifact.sha256:
        what = f"{cloud.name}: image {image.id} is not what the record of {made.variant} {made.build_id} describes"
        raise CloudError(what, remedy="The image or the record was replaced. Build the variant again.")
