"""What is in the cloud, and is it ours?

Glance's own image properties say what an image is. A server's snapshot inherits all of them, so an image is ours only
when it is in our project, names its own ID, and bears none of a snapshot's marks. Nothing else is ever changed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pipelines.artifacts import manifest
from pipelines.artifacts.manifest import Manifest
from pipelines.catalog.base import RELEASES
from pipelines.catalog.variant import Variant
from pipelines.glance import client
from pipelines.glance import properties as image_properties
from pipelines.glance.client import Image
from pipelines.plan import planner
from pipelines.plan.planner import CloudImage

PREFIX = "gpu_image_"
ID, VARIANT, BUILD_ID = f"{PREFIX}id", f"{PREFIX}variant", f"{PREFIX}build_id"
FINGERPRINT, RELEASE_DIGEST, SHA256 = f"{PREFIX}fingerprint", f"{PREFIX}release_digest", f"{PREFIX}sha256"
DRIVER, KERNEL = f"{PREFIX}driver", f"{PREFIX}kernel"
PROMOTED_AT = f"{PREFIX}promoted_at"  # tells what was once current from what never was
RETIRED_AT = f"{PREFIX}retired_at"  # hidden since then, once current
REJECTED_AT = f"{PREFIX}rejected_at"  # somebody went back from it
PROPERTIES = f"{PREFIX}properties"  # the names of the properties that we declared, to remove them one day
DATA = f"{PREFIX}data"  # the digest of data that are not the build's own file, once they were compared
WHOLE = frozenset({"active", "deactivated"})  # the statuses of images that have all their data
SNAPSHOT_MARKS = frozenset({"image_type", "instance_uuid", "base_image_ref"})

State = planner.State | Literal["foreign"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """An image in a cloud. `state` is foreign for what bears a variant's name or properties and is not ours."""

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
    named = image.properties.get(ID) == image.id and VARIANT in image.properties and BUILD_ID in image.properties
    return image.owner == project_id and named and SNAPSHOT_MARKS.isdisjoint(image.properties)


def ours(cloud: client.Cloud, variant: str, *, hidden: bool | None = None) -> list[Image]:
    """Our images of one variant, in any state (or those that are hidden, or not), the newest build last."""
    found = cloud.images(owner=cloud.project_id, hidden=hidden, properties={VARIANT: variant})
    return sorted((image for image in found if is_ours(image, cloud.project_id)), key=age)


def age(image: Image) -> tuple[bool, str, str, str]:
    """Sorts by build, then by which came first into the cloud; the same for everyone who looks.

    What somebody went back from is older than all else.
    """
    return not is_rejected(image), image.properties[BUILD_ID], image.created_at, image.id


def is_rejected(image: Image) -> bool:
    """Whether somebody went back from this image, and nobody has shown it since."""
    return REJECTED_AT in image.properties


def current(cloud: client.Cloud, variant: str) -> list[Image]:
    """Our images of one variant that users see: one, but for a moment within a promotion."""
    return [image for image in ours(cloud, variant, hidden=False) if is_shown(image)]


def is_shown(image: Image) -> bool:
    """Whether users get this image when they ask for its name."""
    return image.status in WHOLE and not image.hidden


def release_digest(variant: Variant) -> str:
    """The digest of what Glance alone holds; when it changes, the image is updated, not built again."""
    release = {
        "name": variant.image_name,
        "visibility": variant.glance.visibility,
        "members": sorted(variant.glance.members),
        "tags": sorted(variant.glance.tags),
        "protected": variant.glance.protected,
        "min_ram": variant.glance.min_ram,
        "properties": dict(variant.properties),
    }
    return manifest.digest(release)


def hidden_name(variant: Variant, build_id: str) -> str:
    """The name of an image that is not shown (yet, or any more)."""
    return f"{variant.image_name} {build_id}"


def min_disk(made: Manifest) -> int:
    """Glance's min_disk: the image's virtual size in GiB, rounded up."""
    return -(-made.artifact.virtual_size // 2**30)


def declared_properties(variant: Variant, made: Manifest) -> dict[str, str]:
    """What the catalog declares, and what follows from the image as it was made: the catalog may have gone on since."""
    derived: dict[str, str] = {}
    if "type" in made.base:  # an imported image
        derived = image_properties.derive_imported(
            os_type=made.base["type"],
            distribution=made.base["distribution"],
            version=made.base["release"],
            architecture=made.base["architecture"],
            gpu=bool(variant.gpus),
        )
    elif made.base:
        distribution, release = made.base["distribution"], made.base["release"]
        derived = image_properties.derive(
            distribution=distribution,
            version=RELEASES.get(distribution, {}).get(release, ("", release))[1],
            architecture=made.base["architecture"],
            gpu=bool(made.driver),
            packages=made.packages,
        )
    together = derived | dict(variant.glance.properties)
    return {name: value for name, value in together.items() if value is not None}


def properties(variant: Variant, made: Manifest, image_id: str) -> dict[str, str]:
    """All properties that Glance will hold: the image's own, and its identity."""
    declared = declared_properties(variant, made)
    identity = {
        ID: image_id,
        VARIANT: variant.name,
        BUILD_ID: made.build_id,
        FINGERPRINT: made.fingerprint,
        RELEASE_DIGEST: release_digest(variant),
        SHA256: made.artifact.sha256,
        DRIVER: made.driver.get("version", ""),
        KERNEL: made.kernel,
        PROPERTIES: " ".join(sorted(declared)),
    }
    return {**declared, **{name: value for name, value in identity.items() if value}}


def kept_properties(variant: Variant, image: Image) -> dict[str, str]:
    """The same where the manifest of its build is not known: what followed from the image as it was made stays."""
    once = image.properties.get(PROPERTIES, "").split()
    declared = {name: image.properties[name] for name in once if name in image.properties}
    for name, value in variant.glance.properties.items():
        if value is None:
            declared.pop(name, None)
        else:
            declared[name] = value
    held = {name: value for name, value in image.properties.items() if name.startswith(PREFIX)}
    return declared | held | {RELEASE_DIGEST: release_digest(variant), PROPERTIES: " ".join(sorted(declared))}


def inventory(cloud: client.Cloud) -> tuple[CloudImage, ...]:
    """All our images in a cloud, by variant, the oldest build first; of several that are shown each is current."""
    found = [image for image in cloud.images(owner=cloud.project_id) if is_ours(image, cloud.project_id)]
    return tuple(
        CloudImage(
            cloud=cloud.name,
            id=image.id,
            variant=image.properties[VARIANT],
            build_id=image.properties[BUILD_ID],
            fingerprint=image.properties.get(FINGERPRINT, ""),
            release_digest=image.properties.get(RELEASE_DIGEST, ""),
            state="current" if is_shown(image) else state,
            created_at=datetime.fromisoformat(image.created_at),
            disk_format=image.disk_format,
            converted=DATA in image.properties,
            rejected=is_rejected(image),
            deactivated=image.status == "deactivated",
            hidden_since=hidden_since(image),
        )
        for image, state in _states(found)
    )


def hidden_since(image: Image) -> datetime | None:
    """Since when users do not see an image; None for one that they see."""
    if not image.hidden:
        return None
    return datetime.fromisoformat(image.properties.get(RETIRED_AT, image.created_at))


def status(
    cloud: client.Cloud, variants: Iterable[Variant], fingerprints: Mapping[str, str] | None = None
) -> list[Row]:
    """What there is of these variants, ours and others' (foreign), with a note on what is stale or out of order.

    `fingerprints`: what each variant's would be now, by its name, where that is known.
    """
    return rows(cloud, cloud.images(), variants, fingerprints or {})


def rows(
    cloud: client.Cloud, seen: Sequence[Image], variants: Iterable[Variant], fingerprints: Mapping[str, str]
) -> list[Row]:
    """The same of all images that were `seen` in a cloud."""
    wanted = {variant.name: variant for variant in variants}
    mine = [image for image in seen if is_ours(image, cloud.project_id)]
    found = []
    for image, state in _states(image for image in mine if image.properties[VARIANT] in wanted):
        variant = image.properties[VARIANT]
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


def _states(images: Iterable[Image]) -> list[tuple[Image, planner.State]]:
    """Our images with their states, by variant and age. Of several that are shown, the newest is the current one."""
    ordered = sorted(images, key=lambda image: (image.properties[VARIANT], age(image)))
    newest = {image.properties[VARIANT]: image.id for image in ordered if is_shown(image)}
    return [(image, _state(image, newest.get(image.properties[VARIANT]))) for image in ordered]


def _state(image: Image, newest: str | None) -> planner.State:
    if image.status not in WHOLE:
        return "broken"
    if image.id == newest:
        return "current"
    return "retired" if PROMOTED_AT in image.properties or not image.hidden else "candidate"


def _note(image: Image, state: planner.State, variant: Variant, fingerprint: str | None) -> str:
    notes = []
    if state == "broken":
        notes.append(f"it has no data ({image.status})")
    if state == "retired" and not image.hidden:
        notes.append("still shown beside a newer one; upload again to finish")
    if state == "current" and image.properties.get(RELEASE_DIGEST) != release_digest(variant):
        notes.append("stale: images.yaml says otherwise about its properties")
    if state == "current" and fingerprint not in (None, image.properties.get(FINGERPRINT)):
        notes.append("stale: images.yaml or an element changed since it was built")
    return "; ".join(notes)


def _row(cloud: client.Cloud, image: Image, state: State, whose: str, note: str, *, variant: str = "") -> Row:
    ours = state != "foreign"  # what a snapshot inherited says nothing about the snapshot
    return Row(
        cloud=cloud.name,
        variant=variant or image.properties[VARIANT],
        build_id=image.properties[BUILD_ID] if ours else "",
        fingerprint=image.properties.get(FINGERPRINT, "") if ours else "",
        release_digest=image.properties.get(RELEASE_DIGEST, "") if ours else "",
        id=image.id,
        name=image.name,
        state=state,
        visibility=image.visibility,
        created_at=image.created_at,
        whose=whose,
        note=note,
    )


def _namesake(image: Image, names: Mapping[str, str]) -> str:
    """The variant that an image says it is of, or whose name in the cloud it bears."""
    return image.properties.get(VARIANT, names.get(image.name, ""))


def _whose(cloud: client.Cloud, image: Image) -> str:
    if not SNAPSHOT_MARKS.isdisjoint(image.properties):
        return "a server's snapshot"
    return "this project's, not ours" if image.owner == cloud.project_id else f"project {image.owner}"
