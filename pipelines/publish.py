"""How does it reach users?

The order and safety of a release. A new image is made hidden and private, filled, compared, and only then shown; the
one before it is hidden after that, never earlier. What lies in the cloud is read, not remembered, so a run that broke
off is finished by the next, and two runs at once end with the newest build shown and every other one hidden.
"""

import contextlib
import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from pipelines import console, locks, promotion, properties, pruning, released
from pipelines.errors import CatalogError, CloudError, HostError, PipelineError, UsageError, VerifyError
from pipelines.glance import CHUNK, Cloud, Image
from pipelines.glance_errors import GlanceError
from pipelines.manifest import Artifact, Build, Manifest, Verification
from pipelines.released import Row, current, inventory, release_digest, status
from pipelines.variant import Variant

__all__ = [
    "Outcome",
    "Row",
    "current",
    "inventory",
    "promote",
    "release_digest",
    "rollback",
    "status",
    "update",
    "upload",
]

UNFINISHED = frozenset({"queued", "saving", "uploading", "importing", "killed"})

Did = Literal["promoted", "updated", "superseded", "unchanged", "candidate"]
_SAID: Mapping[Did, str] = {
    "promoted": "shown under its name",
    "updated": "its release data updated",
    "superseded": "hidden, since a newer build is shown",
    "unchanged": "current already, nothing to do",
    "candidate": "a candidate; `./inv promote` shows it",
}
Value = str | int | bool | tuple[str, ...]


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

    @property
    def changed(self) -> bool:
        """Whether anything in the cloud is different now."""
        return self.uploaded or self.did in ("promoted", "updated") or bool(self.removed or self.retired)

    def __str__(self) -> str:
        said = [
            f"{self.variant} {self.build_id} in {self.cloud}: {'uploaded, ' if self.uploaded else ''}{_SAID[self.did]}"
        ]
        said += [f"{len(self.retired)} older hidden"] if self.retired else []
        said += [f"{len(self.removed)} unfinished removed"] if self.removed else []
        return f"{', '.join(said)} ({self.image_id})"


def upload(
    cloud: Cloud, variant: Variant, build: Build, verification: Verification, now: datetime, *, promotes: bool = True
) -> Outcome:
    """Bring a verified build to a cloud's users; `variant` is as this cloud has it. Safe to repeat at any point.

    Unless it `promotes`, the image stays a candidate, which users do not see.

    Raises VerifyError for a build that is not good (or is not what was verified), CatalogError for properties that
    are wrong, HostError when this build is being uploaded already, and CloudError.
    """
    made = build.manifest()
    _refuse(variant, made, verification)
    busy = f"{variant.name} {made.build_id} is being uploaded to {cloud.name} already, by {{holder}}"
    with locks.hold(_lock(build.folder, cloud), busy):
        mine = released.ours(cloud, variant.name)
        image = next((image for image in reversed(mine) if _holds(image, build, made)), None)
        removed = _clean(cloud, mine, build, made, now)
        fresh = image is None
        if image is None:
            image = _send(cloud, variant, build, made)
        done = _promote(cloud, variant, made, image, now) if promotes else _outcome(cloud, variant, image, "candidate")
    return replace(done, uploaded=fresh, removed=removed)


def promote(
    cloud: Cloud, variant: Variant, build_id: str | None, made: Callable[[str], Manifest | None], now: datetime
) -> Outcome:
    """Show the newest image of a variant that a cloud has, or that of a build; nothing is sent.

    `made` gives the manifest of a build where it is known. Naming a build that somebody went back from shows it again.
    """
    mine = [image for image in released.ours(cloud, variant.name) if image.status == "active"]
    wanted = [image for image in mine if build_id in (None, image.properties[released.BUILD_ID])]
    if not wanted or (build_id is None and released.is_rejected(wanted[-1])):
        what = f"{cloud.name} has no image of {variant.name} to promote"
        raise UsageError(f"{what}: {build_id}" if build_id else what, remedy="`./inv upload` brings a build there.")
    image = wanted[-1]
    if released.is_rejected(image):
        image = cloud.update(image.id, remove=[released.REJECTED_AT])
    return _promote(cloud, variant, made(image.properties[released.BUILD_ID]), image, now)


def rollback(cloud: Cloud, variant: Variant, build_id: str | None, now: datetime) -> Outcome:
    """Show the good image before the current one again, or that of a build; nothing is sent or built."""
    image, retired = promotion.go_back(cloud, variant.name, build_id, now)
    return replace(_outcome(cloud, variant, image, "promoted" if retired else "unchanged"), retired=retired)


def update(
    cloud: Cloud, variant: Variant, image_ids: Sequence[str], made: Callable[[str], Manifest | None]
) -> tuple[Outcome, ...]:
    """Give images of a variant what images.yaml says beside their data, and nothing else."""
    images = [image for image in released.ours(cloud, variant.name) if image.id in image_ids]
    changed = [(image, _update(cloud, variant, made(image.properties[released.BUILD_ID]), image)) for image in images]
    return tuple(_outcome(cloud, variant, image, "updated" if did else "unchanged") for image, did in changed)


def _promote(cloud: Cloud, variant: Variant, made: Manifest | None, image: Image, now: datetime) -> Outcome:
    """Release data first, so that members and properties are right from the moment that users see the image."""
    updated = not _is_superseded(cloud, variant, image) and _update(cloud, variant, made, image)
    did, retired = promotion.show(cloud, variant.name, image, now)
    return replace(
        _outcome(cloud, variant, image, "updated" if updated and did == "unchanged" else did), retired=retired
    )


def _is_superseded(cloud: Cloud, variant: Variant, image: Image) -> bool:
    return any(released.age(other) > released.age(image) for other in released.current(cloud, variant.name))


def _outcome(cloud: Cloud, variant: Variant, image: Image, did: Did) -> Outcome:
    return Outcome(
        cloud=cloud.name,
        variant=variant.name,
        build_id=image.properties[released.BUILD_ID],
        image_id=image.id,
        did=did,
    )


def _refuse(variant: Variant, made: Manifest, verification: Verification) -> None:
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
    held = released.declared_properties(variant, made)
    faults = properties.check(held, modules_signed=made.modules_signed, packages=made.packages or None)
    if faults:
        what = f"{variant.name} is not uploaded, because its properties are wrong: " + "; ".join(map(str, faults))
        raise CatalogError(what, remedy="Correct `glance: properties` in images.yaml.")


def _lock(folder: Path, cloud: Cloud) -> Path:
    return folder / f".upload-{cloud.name}.lock"


def _holds(image: Image, build: Build, made: Manifest) -> bool:
    """Whether an image has exactly this build's data: by its size, and its digest in the algorithm Glance names."""
    if image.status != "active" or not _is_of(image, made):
        return False
    return image.size == made.artifact.size and image.hash_value == _digest(build, made, image.hash_algorithm)


def _is_of(image: Image, made: Manifest) -> bool:
    return image.properties[released.BUILD_ID] == made.build_id


def _digest(build: Build, made: Manifest, algorithm: str | None) -> str:
    known = {"sha256": made.artifact.sha256, "sha512": made.artifact.sha512}
    name = algorithm or "nothing"
    if name in known:
        return known[name]
    if name not in hashlib.algorithms_available:
        what = f"Glance digests images with {name}, which is unknown here"
        raise CloudError(what, remedy="Set Glance's hashing_algorithm to sha512, its default.")
    with build.image().open("rb") as source:
        return hashlib.file_digest(source, name).hexdigest()


def _clean(cloud: Cloud, images: list[Image], build: Build, made: Manifest, now: datetime) -> tuple[str, ...]:
    """Delete what earlier runs left unfinished: nothing that is shown, and nothing that may be under way."""
    unfinished = [image for image in images if image.status in UNFINISHED and _abandoned(cloud, image, build, now)]
    # Another host may have made a build in the same second, which bears the same ID.
    own = [image for image in images if image.properties.get(released.SHA256) == made.artifact.sha256]
    damaged = [image for image in own if image.status == "active" and not _holds(image, build, made)]
    leftovers = [image for image in (*unfinished, *damaged) if image.hidden]
    for image in leftovers:
        console.note(f"{cloud.name}: removing {image.name}, an upload that did not finish ({image.status}, {image.id})")
        cloud.delete(image.id)
    return tuple(image.id for image in leftovers)


def _abandoned(cloud: Cloud, image: Image, build: Build, now: datetime) -> bool:
    """Whether nobody is at it: it was begun here, and nobody here holds the lock of its build, but ourselves."""
    folder = build.folder.parent / image.properties[released.BUILD_ID]
    if image.id in _begun(folder, cloud):
        return folder == build.folder or locks.holder(_lock(folder, cloud)) is None
    return now - datetime.fromisoformat(image.created_at) > pruning.ABANDONED


def _begun(folder: Path, cloud: Cloud) -> list[str]:
    """The IDs of the images whose uploads began here, from a build's folder."""
    noted = _lock(folder, cloud).with_suffix(".begun")
    return noted.read_text(encoding="utf-8").split() if noted.exists() else []


def _note_begun(folder: Path, cloud: Cloud, image_id: str) -> None:
    """Before the image is there: whoever finds it later knows that it is a leftover."""
    with _lock(folder, cloud).with_suffix(".begun").open("a", encoding="utf-8") as noted:
        noted.write(f"{image_id}\n")


def _send(cloud: Cloud, variant: Variant, build: Build, made: Manifest) -> Image:
    """Create, fill and compare an image, hidden and private; it is gone again when that fails."""
    artifact, path = made.artifact, build.image()
    if not path.is_file() or path.stat().st_size != artifact.size:
        raise VerifyError(f"{path} is not the file that was built (its size)", remedy=f"Build {variant.name} again.")
    image_id = str(uuid.uuid4())
    name = released.hidden_name(variant.name, made.build_id)
    _note_begun(build.folder, cloud, image_id)
    try:
        cloud.create(
            image_id,
            name=name,
            disk_format=artifact.format,
            min_disk=released.min_disk(made),
            min_ram=variant.glance.min_ram,
            tags=variant.glance.tags,
            properties=released.properties(variant, made, image_id),
        )
        _require_visibility(cloud, variant, image_id)
        with console.meter(f"{name} → {cloud.name}", artifact.size) as meter:
            cloud.upload(image_id, lambda: chunks(path, artifact, meter.advance), artifact.size)
        image = cloud.image(image_id)
        if not _holds(image, build, made):
            what = f"{cloud.name}: what arrived as {name} is not what was sent ({image.size} of {artifact.size} bytes)"
            raise CloudError(what, remedy="Run the same command again.")
    except BaseException:
        with contextlib.suppress(PipelineError):  # the next run finds it, and the first error is the one to report
            cloud.delete(image_id)
        raise
    return image


def chunks(path: Path, artifact: Artifact, progress: Callable[[int], None]) -> Iterator[bytes]:
    """The file, read once: its last piece is given only when all of it is what the manifest says.

    A file that changed since it was built therefore never becomes a whole image. A piece is hashed while it is on its
    way, which is a tenth quicker than one after the other.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as source, ThreadPoolExecutor(max_workers=1) as beside:
            piece = source.read(CHUNK)
            while piece:
                hashed = beside.submit(digest.update, piece)
                following = source.read(CHUNK)
                if not following:
                    hashed.result()
                    _require_digest(path, digest.hexdigest(), artifact)
                yield piece
                hashed.result()
                progress(len(piece))
                piece = following
    except OSError as error:
        raise HostError(f"cannot read {path}: {error.strerror}", remedy="Check the disk.") from error


def _require_digest(path: Path, sha256: str, artifact: Artifact) -> None:
    if sha256 != artifact.sha256:
        what = f"{path} is not the file that was built (its sha256)"
        raise VerifyError(what, remedy="Build the variant again.")


def _require_visibility(cloud: Cloud, variant: Variant, image_id: str) -> None:
    """Try, on an image without data, what promotion will need: better refused now than after the upload."""
    visibility = variant.glance.visibility
    if visibility in ("public", "community"):
        try:
            cloud.update(image_id, visibility=visibility)
            cloud.update(image_id, visibility="private")
        except GlanceError as error:
            if error.status != 403:
                raise
            what = f"{cloud.name}: this user may not make {variant.name} {visibility}"
            remedy = f"Use an administrator's credentials, or write another visibility for {cloud.name} in images.yaml."
            raise CloudError(what, remedy=remedy) from error


def _update(cloud: Cloud, variant: Variant, made: Manifest | None, image: Image) -> bool:
    """Give an image what images.yaml says beside its name; False when it had all of it."""
    wanted: dict[str, Value] = {
        "visibility": variant.glance.visibility,
        "protected": variant.glance.protected,
        "min_disk": released.min_disk(made) if made else image.min_disk,
        "min_ram": variant.glance.min_ram,
        "tags": tuple(sorted(variant.glance.tags)),
    }
    changes = {name: value for name, value in wanted.items() if getattr(image, name) != value}
    held = released.properties(variant, made, image.id) if made else released.kept_properties(variant, image)
    changes |= {name: value for name, value in held.items() if image.properties.get(name) != value}
    once = image.properties.get(released.PROPERTIES, "").split()
    gone = [name for name in once if name not in held and name in image.properties]
    if changes or gone:
        cloud.update(image.id, remove=gone, **changes)
    return _share(cloud, variant, image.id) or bool(changes or gone)


def _share(cloud: Cloud, variant: Variant, image_id: str) -> bool:
    if variant.glance.visibility != "shared":
        return False
    there, wanted = set(cloud.members(image_id)), set(variant.glance.members)
    for project in sorted(wanted - there):
        cloud.add_member(image_id, project)
    for project in sorted(there - wanted):
        cloud.remove_member(image_id, project)
    return there != wanted
