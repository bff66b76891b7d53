"""Image files by qemu-img: real ones, and a fake qemu-img only where it must not end."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.diskimage import qemu_img
from pipelines.util.errors import BuildError, ProgramError
from tests.support.disk_bytes import read_at
from tests.support.small_image import (
    MIB,
    ROOT_SIZE,
    ROOT_START,
    SIZE,
    run,
)

MIXED_SIZE = 64 * MIB


def qcow2(raw: Path, target: Path, compression: str) -> None:
    """A compressed qcow2 of a raw disk."""
    options = ("-c", "-o", f"compression_type={compression}")
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, str(raw), str(target))


def test_info_of_a_compressed_qcow2(raw: Path, tmp_path: Path) -> None:
    qcow2(raw, tmp_path / "image", "zstd")
    info = qemu_img.info(tmp_path / "image")
    assert (info.format, info.compression, info.virtual_size) == ("qcow2", "zstd", SIZE)
    assert (info.backing_file, info.dirty, info.corrupt) == (None, False, False)


def test_info_names_the_backing_file(raw: Path, tmp_path: Path) -> None:
    run("qemu-img", "create", "-f", "qcow2", "-b", str(raw), "-F", "raw", str(tmp_path / "overlay"))
    assert qemu_img.info(tmp_path / "overlay").backing_file == str(raw)


def test_info_of_a_missing_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="absent"):
        qemu_img.info(tmp_path / "absent")


def test_check_finds_nothing_in_a_good_file(made: Path) -> None:
    assert qemu_img.check(next(made.glob("*/*/image.qcow2"))) == ()


def test_check_reports_a_file_that_is_not_qcow2(raw: Path) -> None:
    (problem,) = qemu_img.check(raw)
    assert "Image is not in qcow2 format" in problem


def test_a_qcow2_read_as_raw_is_the_same_disk(raw: Path, tmp_path: Path) -> None:
    qcow2(raw, tmp_path / "image.qcow2", "zlib")
    with qemu_img.raw(tmp_path / "image.qcow2") as again:
        assert read_at(again, 0, ROOT_START + ROOT_SIZE) == read_at(raw, 0, ROOT_START + ROOT_SIZE)
        assert read_at(again, SIZE - MIB, MIB) == read_at(raw, SIZE - MIB, MIB)


def test_the_raw_copy_of_a_qcow2_never_has_a_name(made: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.qcow2"
    image.write_bytes(next(made.glob("*/*/image.qcow2")).read_bytes())
    with qemu_img.raw(image) as path:
        assert path.stat().st_size == SIZE
        assert list(tmp_path.iterdir()) == [image]
    assert not path.exists()


def test_a_raw_image_is_read_where_it_is(raw: Path) -> None:
    with qemu_img.raw(raw) as path:
        assert path == raw


# Conversion


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A disk with 4 MiB of text, 4 MiB that no compression makes smaller, and holes."""
    path = tmp_path / "disk.raw"
    with path.open("wb") as target:
        target.write(b"The same line again and again.\n" * (4 * MIB // 31))
        target.seek(32 * MIB)
        target.write(os.urandom(4 * MIB))
        target.truncate(MIXED_SIZE)
    return path


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for 1 MiB."""
    folder = tmp_path / "full"
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(folder))
    yield folder
    run("umount", str(folder))


@pytest.fixture
def endless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A qemu-img that begins to write and never ends."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "qemu-img").write_text('#!/bin/bash\necho half > "${@: -1}"\nsleep 98767\n')
    (folder / "qemu-img").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.parametrize("compression", ["zstd", "zlib"])
def test_the_artifact_is_the_same_disk_sound_and_compressed_as_asked(
    mixed: Path, tmp_path: Path, compression: str
) -> None:
    target = tmp_path / "image.qcow2"
    qemu_img.convert(mixed, target, compression=compression)
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", str(mixed), str(target))
    info = qemu_img.info(target)
    assert (info.format, info.virtual_size, info.compression) == ("qcow2", MIXED_SIZE, compression)
    assert qemu_img.check(target) == ()
    assert target.stat().st_size < 5 * MIB
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk.raw", "image.qcow2"]


def test_the_artifact_is_not_larger_than_with_one_core_and_zlib(mixed: Path, tmp_path: Path) -> None:
    qemu_img.convert(mixed, tmp_path / "ours", compression="zstd")
    run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", str(mixed), str(tmp_path / "theirs"))
    assert (tmp_path / "ours").stat().st_size <= (tmp_path / "theirs").stat().st_size


def test_holes_are_not_read(mixed: Path, tmp_path: Path) -> None:
    os.truncate(mixed, 2**40)  # a terabyte, for which reading takes minutes
    started = time.monotonic()
    qemu_img.convert(mixed, tmp_path / "image.qcow2", compression="zstd")
    assert time.monotonic() - started < 30
    listed = ["qemu-img", "map", "--output=json", str(tmp_path / "image.qcow2")]
    extents = json.loads(subprocess.run(listed, capture_output=True, check=True).stdout)
    assert sum(extent["length"] for extent in extents if extent["present"]) == 8 * MIB


def test_a_full_disk_is_reported_with_the_remedy_and_leaves_nothing(mixed: Path, full: Path) -> None:
    with pytest.raises(BuildError, match=r"full/image.qcow2: .*No space left on device") as caught:
        qemu_img.convert(mixed, full / "image.qcow2", compression="zstd")
    assert "free some space" in caught.value.remedy
    assert list(full.iterdir()) == []


@pytest.mark.usefixtures("endless")
def test_a_conversion_without_end_is_ended_and_leaves_nothing(mixed: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"not finished after 0.5 s"):
        qemu_img.convert(mixed, tmp_path / "image.qcow2", compression="zstd", deadline=0.5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "disk.raw"]
    assert "98767" not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def test_an_older_artifact_stays_when_a_new_one_fails(tmp_path: Path) -> None:
    target = tmp_path / "image.qcow2"
    target.write_text("the older one")
    with pytest.raises(BuildError, match="absent"):
        qemu_img.convert(tmp_path / "absent.raw", target, compression="zstd")
    assert target.read_text() == "the older one"
