"""Reasons for actions, in words for operators."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from pipelines.plan.model import CloudImage
from pipelines.util import text, units

ROLLED_BACK = "a newer build was rolled back, and only one that is newer still replaces the current image"


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """What differs between two builds' inputs: "element nvidia-driver changed"."""
    if not before:
        return "images.yaml or an element changed"
    kinds = {
        "changed": [name for name in after if name in before and before[name] != after[name]],
        "added": [name for name in after if name not in before],
        "removed": [name for name in before if name not in after],
    }
    found = [f"{text.listed(names)} {kind}" for kind, names in kinds.items() if names]
    return ", ".join(found) or "an input changed, but the last build did not record it"


def too_old(rebuild_age: timedelta | None) -> str:
    """That a build has reached the age; "" where there is none."""
    return "" if rebuild_age is None else f"older than rebuild_age {units.duration(rebuild_age)}"


def release(cloud: str, current: Sequence[CloudImage], build_id: str | None, *, held_back: bool) -> str:
    """Why a cloud gets a build; None is the one that is about to be built."""
    has = f"{cloud} has {build_ids(current)}" if current else f"no image in {cloud}"
    if build_id is None:
        return f"{has}; the new build will {'replace it' if current else 'be uploaded'}"
    which = "build that was not rolled back" if held_back else "verified build"
    return f"{has}; the newest {which} is {build_id}"


def newer_is_current(image: CloudImage) -> str:
    """Why an older build cannot be released."""
    return f"{image.build_id} is current in {image.cloud} but out of date; only a newer build replaces it"


def several_current(cloud: str, images: Sequence[CloudImage]) -> str:
    """Why an image is promoted that is current already."""
    return f"{len(images)} images are current in {cloud} at once: {build_ids(images)}"


def retention(keep: int, images: Sequence[CloudImage], incomplete: int) -> str:
    """Why images are deleted: `keep` allows no more, or an upload broke off; "" when there are none."""
    beyond = [f"retention (keep: {keep}): {build_ids(images)}"] if images else []
    broken = [f"{incomplete} incomplete upload{'s' if incomplete > 1 else ''}"] if incomplete else []
    return ", ".join([*beyond, *broken])


def build_ids(images: Sequence[CloudImage]) -> str:
    """The first few of the images' builds, and how many more there are."""
    return text.listed([image.build_id for image in images])
