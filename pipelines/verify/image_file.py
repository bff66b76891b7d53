"""Checks of the image file: its digest, format, structure and size."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipelines.artifacts.manifest import Artifact
from pipelines.catalog.variant import Variant
from pipelines.diskimage import qemu_img
from pipelines.util import files, units
from pipelines.verify.check import Outcome, outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """An artifact as a file, with what the manifest and the catalog say of it."""

    path: Path
    artifact: Artifact
    variant: Variant


def image_digest(image: Image) -> Outcome:
    """The file is the one that the build made."""
    size = image.path.stat().st_size
    if size != image.artifact.size:
        return False, f"{size} bytes, the manifest says {image.artifact.size}"
    sha256 = files.sha256(image.path)
    problems = [] if sha256 == image.artifact.sha256 else [f"{sha256}, the manifest says {image.artifact.sha256}"]
    return outcome(problems, f"sha256 {sha256}")


def image_format(image: Image) -> Outcome:
    """The file has the recorded format, and is whole and self-contained."""
    found = qemu_img.info(image.path)
    problems = []
    if found.format != image.artifact.format:
        problems.append(f"it is {found.format}, the manifest says {image.artifact.format}")
    if found.backing_file:
        problems.append(f"it needs the backing file {found.backing_file}")
    problems += ["its dirty flag is set"] if found.dirty else []
    problems += ["it is marked as corrupt"] if found.corrupt else []
    return outcome(problems, " ".join(filter(None, (found.format, found.compression))))


def qemu_img_check(image: Image) -> Outcome:
    """The structure of the qcow2 file is sound."""
    if image.artifact.format != "qcow2":
        return True, f"{image.artifact.format} has no structure of its own"
    return outcome(qemu_img.check(image.path), "no errors")


def virtual_size(image: Image) -> Outcome:
    """The disk has the declared size, from which Glance's min_disk follows."""
    found = qemu_img.info(image.path).virtual_size
    problems = []
    if found != image.artifact.virtual_size:
        problems.append(f"{found} bytes, the manifest says {image.artifact.virtual_size}")
    if found != image.variant.disk.size:
        problems.append(f"{found} bytes, images.yaml says {image.variant.disk.size}")
    return outcome(problems, units.size(found))


CHECKS: tuple[tuple[str, Callable[[Image], Outcome]], ...] = (
    ("image-digest", image_digest),
    ("format", image_format),
    ("qemu-img-check", qemu_img_check),
    ("virtual-size", virtual_size),
)
