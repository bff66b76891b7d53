"""Build of an imported image: real images of every format, good ones and all that must be refused."""

import gzip
import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.artifacts import store
from pipelines.artifacts.store import Build
from pipelines.build import importer
from pipelines.build.importer import fingerprint_parts
from pipelines.catalog.variant import Guest, Variant
from pipelines.diskimage import gpt, qemu_img
from pipelines.util import files
from pipelines.util.errors import BuildError, CatalogError, HostError
from pipelines.verify.verifier import verify
from tests.support.ready_image import (
    ESP_AT,
    MIB,
    SIZE,
    converted,
    gpt_disk,
    mbr_disk,
    run,
    variant,
    write_at,
)

NOW = datetime(2026, 11, 22, 3, 0, 0, tzinfo=UTC)
LINUX = Guest(type="linux", distribution="rocky", version="9")


@pytest.fixture
def builds(tmp_path: Path) -> Path:
    return tmp_path / "builds"


@pytest.fixture
def windows(tmp_path: Path) -> Path:
    """A Windows disk to import, raw."""
    return gpt_disk(tmp_path / "windows.raw")


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Build, Variant]:
    """One good import, to look at."""
    folder = tmp_path_factory.mktemp("imported")
    wanted = variant(converted(gpt_disk(folder / "windows.raw"), "qcow2"))
    return importer.build(wanted, folder / "builds", NOW), wanted


def raw_of(build: Build, folder: Path) -> Path:
    """A build's artifact as a raw disk."""
    path = folder / "artifact.raw"
    run("qemu-img", "convert", "-O", "raw", str(build.image()), str(path))
    return path


# --- What comes out -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "declared"),
    [
        ("qcow2", "auto"),
        ("qcow2 compat=0.10", "qcow2"),
        ("vhdx", "auto"),
        ("vmdk subformat=streamOptimized", "auto"),
        ("vmdk", "vmdk"),
        ("raw", "raw"),
    ],
)
def test_an_image_of_each_format_becomes_a_verified_build(
    windows: Path, builds: Path, tmp_path: Path, kind: str, declared: str
) -> None:
    source = windows if kind == "raw" else converted(windows, *kind.split())
    wanted = variant(source, format=declared)
    made = importer.build(wanted, builds, NOW)
    verification = verify(made, wanted, NOW)
    assert [check for check in verification.checks if check.passed is False] == []
    raw = raw_of(made, tmp_path)
    assert hashed(raw, ESP_AT, SIZE - 2 * MIB) == hashed(windows, ESP_AT, SIZE - 2 * MIB)


def hashed(path: Path, start: int, length: int) -> str:
    with path.open("rb") as source:
        source.seek(start)
        return hashlib.sha256(source.read(length)).hexdigest()


def test_a_disk_grows_to_its_declared_size_and_its_second_table_moves_to_the_end(
    windows: Path, builds: Path, tmp_path: Path
) -> None:
    made = importer.build(variant(windows, format="raw", size="1GiB"), builds, NOW)
    raw = raw_of(made, tmp_path)
    table = gpt.partition_table(raw)
    assert raw.stat().st_size == 1024 * MIB
    assert table.problems == ()
    assert table.partitions == gpt.partition_table(windows).partitions


def test_a_disk_with_an_mbr_grows_too(tmp_path: Path, builds: Path) -> None:
    source = mbr_disk(tmp_path / "old.raw")
    wanted = variant(source, format="raw", properties={"hw_firmware_type": "bios"})
    made = importer.build(wanted, builds, NOW)
    assert made.manifest().artifact.virtual_size == 512 * MIB
    assert verify(made, wanted, NOW).passed


def test_a_disk_of_the_declared_size_is_converted_in_one_pass(tmp_path: Path, builds: Path) -> None:
    windows = gpt_disk(tmp_path / "windows.raw", size=512 * MIB)
    made = importer.build(variant(converted(windows, "qcow2")), builds, NOW)
    assert list(made.manifest().stages) == ["import/compress"]


@pytest.mark.parametrize("compression", ["zstd", "zlib"])
def test_the_artifact_is_compressed_as_declared(windows: Path, builds: Path, compression: str) -> None:
    made = importer.build(variant(converted(windows, "qcow2"), compression=compression), builds, NOW)
    assert (qemu_img.info(made.image()).format, qemu_img.info(made.image()).compression) == ("qcow2", compression)
    assert made.image().stat().st_size < 2 * MIB


def test_the_manifest_has_the_result_and_its_inputs(imported: tuple[Build, Variant]) -> None:
    build, wanted = imported
    made = build.manifest()
    assert made.build_id == f"20261122T030000Z-{made.fingerprint[:8]}"
    assert made.fingerprint == files.canonical_digest(fingerprint_parts(wanted))
    assert made.base == {"type": "windows", "distribution": "windows", "release": "11", "architecture": "amd64"}
    assert wanted.source is not None
    assert made.inputs == {"ready image": wanted.source.sha256}
    assert (made.kernel, made.driver, made.packages) == ("", {}, {})


def test_a_build_folder_has_the_image_its_papers_and_nothing_else(imported: tuple[Build, Variant]) -> None:
    made = {path.name for path in imported[0].folder.iterdir()} - {"verify.json"}
    assert made == {"image.qcow2", "manifest.json", "sbom.cdx.json", "build.log", "state.json"}


def test_an_image_is_fetched_from_a_server(windows: Path, builds: Path, tmp_path: Path, mirror: str) -> None:
    image = converted(windows, "qcow2").rename(tmp_path / "mirror" / "windows.qcow2")
    wanted = variant(image, path=None, url=f"{mirror}/windows.qcow2")
    assert importer.build(wanted, builds, NOW).state == "complete"


def test_the_fingerprint_is_about_the_content_and_not_the_place(tmp_path: Path) -> None:
    here = variant(tmp_path / "image.qcow2")
    there = variant(tmp_path / "image.qcow2", path=None, url="https://images.example/windows.qcow2")
    assert fingerprint_parts(here) == fingerprint_parts(there)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"sha256": "1" * 64}, "ready image"),
        ({"size": "1GiB"}, "disk"),
        ({"compression": "zlib"}, "disk"),
        ({"guest": LINUX}, "guest"),
    ],
)
def test_the_fingerprint_changes_with(tmp_path: Path, change: dict[str, Any], part: str) -> None:
    before = fingerprint_parts(variant(tmp_path / "image.qcow2"))
    after = fingerprint_parts(variant(tmp_path / "image.qcow2", **change))
    assert [name for name in before if before[name] != after[name]] == [part]


# --- What is refused ------------------------------------------------------------------------------------------------


def with_backing_file(raw: Path) -> Path:
    overlay = raw.with_suffix(".overlay")
    run("qemu-img", "create", "-f", "qcow2", "-b", str(raw), "-F", "raw", str(overlay))
    return overlay


def with_data_file(raw: Path) -> Path:
    return converted(raw, "qcow2", f"data_file={raw.parent}/data,data_file_raw=on")


def encrypted(raw: Path) -> Path:
    path = converted(raw, "qcow2")
    write_at(path, 32, (2).to_bytes(4, "big"))  # crypt_method: LUKS, whose key derivation takes its time
    return path


def flagged(raw: Path, bit: int) -> Path:
    """A qcow2 file with one of its incompatible features set."""
    path = converted(raw, "qcow2")
    write_at(path, 72, bit.to_bytes(8, "big"))
    return path


def packed(raw: Path) -> Path:
    path = raw.with_suffix(".gz")
    path.write_bytes(gzip.compress(raw.read_bytes(), 1))
    return path


def snapshot_of_a_vmdk(raw: Path) -> Path:
    path = converted(raw, "vmdk")
    content = path.read_bytes()
    assert b"parentCID=ffffffff" in content
    path.write_bytes(content.replace(b"parentCID=ffffffff", b"parentCID=12345678", 1))
    return path


def cut_off(raw: Path) -> Path:
    path = converted(raw, "vhdx")
    os.truncate(path, 2 * MIB)
    return path


def tiny(raw: Path) -> Path:
    path = raw.with_suffix(".tiny")
    path.write_bytes(bytes(510) + b"\x55\xaa")
    return path


REFUSALS: list[tuple[Callable[[Path], Path], str, str]] = [
    (with_backing_file, "auto", "needs a backing file"),
    (with_data_file, "auto", "keeps its data in another file"),
    (encrypted, "auto", "is encrypted"),
    (lambda raw: flagged(raw, 1), "auto", "dirty flag"),
    (lambda raw: flagged(raw, 2), "auto", "marked as corrupt"),
    (lambda raw: converted(raw, "vmdk", "subformat=twoGbMaxExtentSparse"), "auto", "description of several files"),
    (lambda raw: converted(raw, "vmdk", "subformat=monolithicFlat"), "vmdk", "description of several files"),
    (snapshot_of_a_vmdk, "auto", "it is a snapshot"),
    (lambda raw: converted(raw, "vpc"), "auto", "convert it to VHDX"),
    (cut_off, "auto", "qemu-img cannot read it as vhdx"),
    (packed, "raw", "compressed with gzip"),
    (tiny, "raw", "too small for an image"),
    (lambda raw: raw, "auto", "write `format: raw`"),
    (lambda raw: raw, "qcow2", "it is raw, not qcow2 as declared"),
    (lambda raw: converted(raw, "qcow2"), "raw", "it is qcow2, not raw as declared"),
    (lambda raw: converted(raw, "vmdk"), "vhdx", "it is vmdk, not vhdx as declared"),
]


@pytest.mark.parametrize(("make", "declared", "says"), REFUSALS, ids=[says for _, _, says in REFUSALS])
def test_an_image_is_refused_that(
    windows: Path, builds: Path, make: Callable[[Path], Path], declared: str, says: str
) -> None:
    image = make(windows)
    with pytest.raises(BuildError) as caught:
        importer.build(variant(image, format=declared), builds, NOW)
    assert says in f"{caught.value.what} {caught.value.remedy}"
    assert store.builds(builds, "windows-vdi") == []


def test_an_image_with_another_checksum_is_refused(windows: Path, builds: Path) -> None:
    with pytest.raises(BuildError, match="is not the expected file"):
        importer.build(variant(windows, format="raw", sha256="1" * 64), builds, NOW)


def test_a_disk_is_never_shrunk(tmp_path: Path, builds: Path) -> None:
    large = converted(gpt_disk(tmp_path / "windows.raw", size=1025 * MIB), "qcow2")
    with pytest.raises(BuildError, match="larger than the declared") as caught:
        importer.build(variant(large), builds, NOW)
    assert "Write `size: 2GiB` or more" in caught.value.remedy
    assert store.builds(builds, "windows-vdi") == []


def test_a_disk_whose_end_is_missing_does_not_grow(windows: Path, builds: Path) -> None:
    os.truncate(windows, SIZE - MIB)
    with pytest.raises(BuildError, match="no backup GPT header"):
        importer.build(variant(windows, format="raw"), builds, NOW)


def test_too_little_disk_space_is_reported_before_anything_is_made(windows: Path, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(folder))
    try:
        with pytest.raises(HostError, match="this build needs"):
            importer.build(variant(windows, format="raw"), folder, NOW)
        assert list(folder.iterdir()) == []
    finally:
        run("umount", str(folder))


def test_a_variant_that_is_built_is_not_imported(builds: Path) -> None:
    from tests.support.small_image import VARIANT

    with pytest.raises(CatalogError, match="not an imported image"):
        importer.build(VARIANT, builds, NOW)


@pytest.fixture
def interrupting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A qemu-img that is interrupted, as by Ctrl-C, when it has converted half an image."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = 'case "$1" in convert) touch "${@: -1}"; kill -INT $PPID; sleep 98766;; esac; exec /usr/bin/qemu-img "$@"'
    (folder / "qemu-img").write_text(f"#!/bin/bash\n{script}\n")
    (folder / "qemu-img").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background has it ignored
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupting")
def test_an_interrupt_leaves_a_failed_build_with_its_log_alone(windows: Path, builds: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        importer.build(variant(windows, format="raw"), builds, NOW)
    [failed] = store.builds(builds, "windows-vdi")
    assert failed.state == "failed"
    assert {path.name for path in failed.folder.iterdir()} == {"build.log", "state.json"}
    assert "98766" not in run("ps", "-eo", "args")


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A qemu-img whose conversions fail because the disk is full."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = 'case "$1" in convert) echo "qemu-img: error: No space left on device" >&2; exit 1;; esac'
    (folder / "qemu-img").write_text(f'#!/bin/bash\n{script}\nexec /usr/bin/qemu-img "$@"\n')
    (folder / "qemu-img").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.usefixtures("failing")
def test_a_failed_conversion_reports_the_error_of_qemu_img_and_the_remedy(windows: Path, builds: Path) -> None:
    with pytest.raises(BuildError, match="qemu-img failed in unpack: qemu-img: error: No space") as caught:
        importer.build(variant(windows, format="raw"), builds, NOW)
    assert "The disk is full" in caught.value.remedy
