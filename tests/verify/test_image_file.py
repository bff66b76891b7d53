"""Checks of the image file, each seen failing on a real, small image."""

from datetime import UTC, datetime
from pathlib import Path

from pipelines.artifacts.store import Build
from pipelines.verify.verifier import verify
from tests.support.disk_bytes import write_at
from tests.support.small_image import (
    SIZE,
    VARIANT,
    record,
    run,
)
from tests.support.verification import failed

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def test_a_changed_image_is_not_the_one_that_was_built(good: Build) -> None:
    write_at(good.image(), good.image().stat().st_size - 1, b"X")
    assert "the manifest says" in failed(verify(good, VARIANT, NOW))["image-digest"]


def test_a_truncated_image_is_refused_by_its_size(good: Build) -> None:
    with good.image().open("r+b") as image:
        image.truncate(100_000)
    assert failed(verify(good, VARIANT, NOW))["image-digest"].startswith("100000 bytes, the manifest says ")


def test_an_image_of_another_format_is_refused(good: Build) -> None:
    good.image().write_bytes(bytes(2**20))
    assert failed(verify(good, VARIANT, NOW))["format"] == "it is raw, the manifest says qcow2"


def test_an_image_with_a_backing_file_is_refused(made: Path, good: Build) -> None:
    good.image().unlink()
    run("qemu-img", "create", "-f", "qcow2", "-b", str(made / "disk.raw"), "-F", "raw", str(good.image()))
    assert "needs the backing file" in failed(verify(good, VARIANT, NOW))["format"]


def test_a_damaged_qcow2_structure_is_found(good: Build) -> None:
    # The refcount table's offset is at byte 48 of the header; the table is emptied.
    table = int.from_bytes(good.image().read_bytes()[48:56], "big")
    write_at(good.image(), table, bytes(64))
    record(good.folder, good.image())
    assert "corrupted clusters" in failed(verify(good, VARIANT, NOW))["qemu-img-check"]


def test_a_disk_of_another_size_than_declared_is_refused(good: Build) -> None:
    run("qemu-img", "resize", str(good.image()), "1G")
    problems = failed(verify(good, VARIANT, NOW))
    assert f"{2**30} bytes, images.yaml says {SIZE}" in problems["virtual-size"]
    assert "there is no backup GPT header" in problems["partition-table"]
