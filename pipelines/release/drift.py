"""Differences between images in a cloud and images.yaml.

A property, a tag or a member was changed by hand; images.yaml changed since; a driver's branch reached its end of life.
Pure: images as Glance lists them and the time go in, differences come out, each with whether it can be repaired without
a build.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from pipelines.artifacts import store
from pipelines.artifacts.manifest import Manifest
from pipelines.catalog.clouds import Delivery
from pipelines.catalog.variant import Variant
from pipelines.glance import properties
from pipelines.glance.client import Image
from pipelines.gpus import resolver
from pipelines.release import cloud_images, image_metadata
from pipelines.util import units

Value = str | int | bool | tuple[str, ...]
# `what` in JSON where that is another word than people read: scripts of a site compare it.
_IN_JSON = {
    "metadata": "release data",
    "visible images": "shown",
    "image of the same name": "somebody else's image",
}
_FIELDS = frozenset({"name", "visibility", "protected", "min_disk", "min_ram", "tags"})
_RELEASE = (
    image_metadata.RELEASE_DIGEST,
    image_metadata.PROPERTIES,
)  # both follow from an image's metadata in images.yaml


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """One difference. `repairable`: it is in an image's metadata, and ours to change.

    `asked_for`: images.yaml itself asks for it, such as a driver that its maker no longer supports: reported, and
    nothing has to be done.
    """

    what: str
    wanted: str
    found: str
    repairable: bool = False
    asked_for: bool = False

    def plain(self) -> dict[str, str | bool]:
        """The difference as a JSON value."""
        return asdict(self) | {"what": _IN_JSON.get(self.what, self.what)}

    def __str__(self) -> str:
        return f"{self.what}: {self.found}, not {self.wanted}" if self.wanted else f"{self.what}: {self.found}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """Changes that make an image as it should be: fields and properties with their values, and properties to remove."""

    values: Mapping[str, Value]
    remove: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.values or self.remove)


def drift(
    variant: Variant,
    image: Image,
    made: Manifest | None,
    now: datetime,
    *,
    current: bool = True,
    members: Mapping[str, str] | None = None,
    fingerprint: str | None = None,
    delivery: Delivery | None = None,
) -> tuple[Drift, ...]:
    """How an image of ours differs from its variant, as this cloud has it; of one that is not current, its name alone.

    `made`: the manifest of its build, None without a record of that. `members`: those of a shared image, where that was
    asked. `fingerprint`: that of a build now, where that is known. `delivery`: how this cloud wants its images' data,
    where that is to be compared.
    """
    if image.status == "deactivated":
        return (Drift(what="deactivated", wanted="", found="deactivated by an administrator; its data are complete"),)
    if image.status != "active":
        return (Drift(what="half uploaded", wanted="", found=f"it has no data ({image.status})"),)
    found = [*of_metadata(image, changes(variant, image, made, current=current))]
    if current:
        found += [] if made else _lost(variant, image)
        found += [*of_members(variant, members), *(_data(image, delivery) if delivery else ())]
        found += [*_age(variant, image, fingerprint, now), *_driver(variant, image, now)]
    return tuple(found)


def changes(variant: Variant, image: Image, made: Manifest | None, *, current: bool = True) -> Changes:
    """Changes that an image needs: nothing that is not ours or images.yaml's to decide."""
    if not current:
        name = image_metadata.hidden_name(variant, image.properties[image_metadata.BUILD_ID])
        return Changes(values={} if image.name == name or not image.hidden else {"name": name})
    fields: dict[str, Value] = {
        # A hidden image gets its variant's name when it is made visible, and not before.
        "name": variant.image_name if cloud_images.is_visible(image) else image.name,
        "visibility": variant.glance.visibility,
        "protected": variant.glance.protected,
        "min_disk": image_metadata.min_disk(made) if made else image.min_disk,
        "min_ram": variant.glance.min_ram,
        "tags": tuple(sorted(variant.glance.tags)),
    }
    wanted = _properties(variant, image, made)
    values = {name: value for name, value in fields.items() if getattr(image, name) != value}
    values |= {name: value for name, value in wanted.items() if image.properties.get(name) != value}
    once = image.properties.get(image_metadata.PROPERTIES, "").split()
    undeclared = (
        name for name in image.properties if name not in wanted and not name.startswith(image_metadata.PREFIX)
    )
    # What is neither Nova's nor once declared is a user's note, or Glance's own: it changes nothing for a server.
    return Changes(values=values, remove=tuple(n for n in undeclared if n in once or properties.is_novas(n)))


def of_metadata(image: Image, needed: Changes) -> Iterator[Drift]:
    """What an image has otherwise than `needed`."""
    stale = [name for name in _RELEASE if name in needed.values]
    if stale:
        found = "older than images.yaml, or changed by hand"
        yield Drift(what="metadata", wanted="as in images.yaml", found=found, repairable=True)
    for name, value in needed.values.items():
        if name in stale:
            continue
        before = getattr(image, name) if name in _FIELDS else image.properties.get(name, "missing")
        what = name if name in _FIELDS else f"property {name}"
        yield Drift(what=what, wanted=_text(value), found=_text(before), repairable=True)
    for name in needed.remove:
        found = _text(image.properties[name])
        yield Drift(what=f"property {name}", wanted="none", found=found, repairable=True)


def of_members(variant: Variant, members: Mapping[str, str] | None) -> Iterator[Drift]:
    """Members that a shared image lacks, and members that images.yaml does not have."""
    if members is None or variant.glance.visibility != "shared":
        return
    wanted = set(variant.glance.members)
    for project in sorted(wanted - set(members)):
        yield Drift(what=f"member {project}", wanted="a member", found="missing", repairable=True)
    for project in sorted(set(members) - wanted):
        yield Drift(what=f"member {project}", wanted="no member", found=members[project], repairable=True)


def of_variant(variant: Variant, mine: Sequence[Image], others: Sequence[Image]) -> tuple[Drift, ...]:
    """What is out of order among a variant's images in one cloud: `mine` are ours, the newest last.

    `others` are those that are not ours and that users find under its name.
    """
    visible = [image for image in mine if cloud_images.is_visible(image)]
    found = []
    if mine and not visible:
        repairable = hidden_by_hand(mine) is not None
        found.append(Drift(what="current image", wanted="one that is visible", found="none", repairable=repairable))
    if len(visible) > 1:
        older = f"older ones beside the newest: {', '.join(image.id for image in visible[:-1])}"
        # Beside one that is deactivated, an older one is all that users have.
        usable = visible[-1].status == "active"
        found.append(Drift(what="visible images", wanted="the newest alone", found=older, repairable=usable))
    name = variant.image_name
    found += [_namesake(name, image) for image in others if image.name == name and cloud_images.is_visible(image)]
    return tuple(found)


def hidden_by_hand(mine: Sequence[Image]) -> Image | None:
    """The image that was current when it was hidden by hand, where none is visible. We note when we hide one."""
    if any(cloud_images.is_visible(image) for image in mine):
        return None
    once = [image for image in mine if image.status == "active" and image_metadata.PROMOTED_AT in image.properties]
    ours = [
        image
        for image in once
        if image_metadata.RETIRED_AT not in image.properties and not cloud_images.is_rolled_back(image)
    ]
    return ours[-1] if ours else None


def duplicates(mine: Sequence[Image]) -> Mapping[str, Drift]:
    """Image ID → what it is a copy of; the first of a build, or the visible one, is the original."""
    first: dict[str, Image] = {}
    found = {}
    for image in sorted((each for each in mine if each.status == "active"), key=lambda each: each.hidden):
        before = first.setdefault(image.properties[image_metadata.BUILD_ID], image)
        if before is not image:
            found[image.id] = Drift(what="duplicate", wanted="", found=f"{before.id} is the same build")
    return found


def _properties(variant: Variant, image: Image, made: Manifest | None) -> dict[str, str]:
    """The properties that an image should have; without a manifest, those that are known all the same.

    Those derived from the present variant are not among them: it may be of another release than the image is.
    """
    if made is not None:
        return image_metadata.properties(variant, made, image.id)
    wanted = image_metadata.known_properties(variant, image)
    names = {*wanted[image_metadata.PROPERTIES].split(), *_lost_names(variant, image)}
    return wanted | {image_metadata.PROPERTIES: " ".join(sorted(names))}


def _lost(variant: Variant, image: Image) -> Iterator[Drift]:
    for name in _lost_names(variant, image):
        found = "missing, and its value is unknown without a build record; the next build brings it"
        yield Drift(what=f"property {name}", wanted="", found=found)


def _lost_names(variant: Variant, image: Image) -> list[str]:
    """The properties that an image was released with and has lost, and that images.yaml does not declare."""
    once = image.properties.get(image_metadata.PROPERTIES, "").split()
    return [name for name in once if name not in image.properties and name not in variant.glance.properties]


def _data(image: Image, delivery: Delivery) -> Iterator[Drift]:
    """Differences that only another upload removes. A cloud that converts on import has the format it wants."""
    converted = image.disk_format == "raw" and image_metadata.DATA in image.properties
    if image.disk_format != delivery.disk_format and not converted:
        found = f"{image.disk_format} until the next upload"
        yield Drift(what="disk_format", wanted=delivery.disk_format, found=found)
    # Of a cloud with one store Glance does not say where an image is.
    missing = [store for store in delivery.stores or () if image.stores and store not in image.stores]
    if missing:
        found = f"only in {', '.join(image.stores)} until the next build is uploaded"
        yield Drift(what="stores", wanted=f"in {', '.join(missing)} too", found=found)


def _age(variant: Variant, image: Image, fingerprint: str | None, now: datetime) -> Iterator[Drift]:
    if fingerprint not in (None, image.properties.get(image_metadata.FINGERPRINT)):
        yield Drift(what="build", wanted="", found="images.yaml or an element changed since it was built")
    built = store.built_at(image.properties[image_metadata.BUILD_ID])
    limit = variant.rebuild_age
    if limit is not None and built is not None and now - built >= limit:
        yield Drift(what="age", wanted=f"less than {units.duration(limit)}", found=units.age(now - built))


def _driver(variant: Variant, image: Image, now: datetime) -> Iterator[Drift]:
    branch = image.properties.get(image_metadata.DRIVER, "").partition(".")[0]
    if branch.isdecimal():
        asked_for = variant.selection is not None and variant.selection.branch == int(branch)
        for warning in resolver.warnings(int(branch), now.date()):
            yield Drift(what="driver", wanted="", found=warning, asked_for=asked_for)


def _namesake(name: str, image: Image) -> Drift:
    found = f"{image.id} of project {image.owner} ({image.visibility})"
    return Drift(what="image of the same name", wanted=f"none but ours visible as {name}", found=found)


def _text(value: Value) -> str:
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
