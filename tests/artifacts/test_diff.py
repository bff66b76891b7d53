"""Differences between two builds: from manifests anywhere, and from images on this host."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.artifacts import diff, manifest, records, store
from pipelines.artifacts.diff import Change
from pipelines.artifacts.manifest import Artifact, Manifest
from pipelines.artifacts.records import Records
from pipelines.diskimage import file_diff
from pipelines.diskimage.file_diff import FileChange
from pipelines.reports import diff as reports_diff
from pipelines.util import files
from pipelines.util.errors import UsageError, VerifyError
from tests.support.command_line import inv
from tests.support.small_image import KERNEL, VARIANT, Guest, Link, record
from tests.support.small_image import manifest as good_manifest

FIRST, OLD, NEW = (f"202611{day}T120000Z-01234567" for day in (20, 21, 22))


def made(build_id: str, **fields: object) -> Manifest:
    artifact = Artifact(path="image.qcow2", format="qcow2", size=1, virtual_size=2, sha256="a" * 64, sha512="b" * 128)
    return replace(good_manifest(artifact), build_id=build_id, **fields)  # type: ignore[arg-type]


def built(root: Path, build: Manifest) -> Path:
    folder = root / build.variant / build.build_id
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / "manifest.json", build)
    store.set_state(folder, store.COMPLETE)
    return folder


# From manifests


def test_added_removed_and_changed_packages_are_listed_by_name() -> None:
    before = made(OLD, packages={"bash": "5.2", "gone": "1", "same": "1"}, kernel="6.12.107", elements={"a": "1" * 64})
    after = made(NEW, packages={"bash": "5.3", "same": "1", "new": "2"}, kernel="6.12.110", elements={"a": "2" * 64})
    found = diff.between(before, after, ({"os_version": "13"}, {"os_version": "14"}))
    assert [(each.name, each.how, each.old, each.new) for each in found.packages] == [
        ("bash", "changed", "5.2", "5.3"),
        ("gone", "removed", "1", None),
        ("new", "added", None, "2"),
    ]
    assert found.system == (Change(name="kernel", old="6.12.107", new="6.12.110"),)
    assert found.elements == (Change(name="a", old="1" * 64, new="2" * 64),)
    assert found.properties == (Change(name="os_version", old="13", new="14"),)
    assert found.inputs == ()


def test_the_driver_is_compared_part_by_part_without_its_certificate() -> None:
    certificate = {"certificate": "-----BEGIN CERTIFICATE-----"}
    before = made(OLD, driver={"version": "550.1", "modules": "open"}, cuda={})
    after = made(NEW, driver={"version": "580.1", "modules": "open"} | certificate, cuda={"toolkit": "12.4"})
    assert diff.between(before, after).system == (
        Change(name="CUDA toolkit", old=None, new="12.4"),
        Change(name="driver version", old="550.1", new="580.1"),
    )


def test_sizes_are_listed_side_by_side_and_one_that_was_not_recorded_is_none() -> None:
    found = diff.between(made(OLD), made(NEW, scratch={"tree": 7, "peak": 9}))
    assert found.sizes == {"image": (1, 1), "disk": (2, 2), "tree": (None, 7)}


def test_two_equal_builds_differ_in_nothing() -> None:
    found = diff.between(made(OLD), made(NEW))
    assert not any(found.changes.values())


# Which two


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ((None, None), (OLD, NEW)),
        ((None, OLD), (FIRST, OLD)),
        ((FIRST, None), (FIRST, NEW)),
        ((NEW, FIRST), (NEW, FIRST)),
    ],
)
def test_by_default_the_newest_is_compared_with_the_one_before(
    asked: tuple[str | None, str | None], meant: tuple[str, str]
) -> None:
    before, after = reports_diff.selected([made(FIRST), made(OLD), made(NEW)], "a", *asked)
    assert (before.build_id, after.build_id) == meant


def test_an_unknown_build_is_a_usage_error_that_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="there is no known build x of a") as caught:
        reports_diff.selected([made(OLD), made(NEW)], "a", "x", None)
    assert f"{OLD}, {NEW}" in caught.value.remedy


@pytest.mark.parametrize("known", [[], [made(NEW)]])
def test_one_build_is_compared_with_nothing(known: list[Manifest]) -> None:
    with pytest.raises(UsageError, match=f"fewer than two builds to compare: {len(known)} on this host"):
        reports_diff.selected(known, "a", None, None)


def test_builds_that_are_only_on_record_are_compared_but_for_their_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere, builds = tmp_path / "elsewhere", tmp_path / "builds"
    kept: Records = records.open(str(tmp_path / "kept"), elsewhere)
    built(elsewhere, made(OLD, packages={"bash": "5.2"}))
    kept.put(store.newest_complete(elsewhere, VARIANT.name))
    built(builds, made(NEW, packages={"bash": "5.3"}))
    reports_diff.show(VARIANT, builds, records.open(str(tmp_path / "kept"), builds), None, None, as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert (said["old"], said["new"]) == (OLD, NEW)
    assert said["packages"] == [{"name": "bash", "old": "5.2", "new": "5.3", "how": "changed"}]
    assert said["files"] is None
    assert said["files_note"] == f"not available: the image of {OLD} and of {NEW} is not on this host"


# From images


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A builds' folder with two builds of the small guest, the newer one with some files otherwise."""
    root = tmp_path_factory.mktemp("builds")
    changed = Guest()
    changed.files["/usr/bin/nvidia-smi"] = b"PROGRAM"  # as long as before
    changed.files["/etc/resolv.conf"] = Link(
        "../run/systemd/resolve/a-target-that-is-too-long-for-the-inode-itself.conf"
    )
    changed.files["/etc/new"] = "new"
    del changed.files[f"/boot/vmlinuz-{KERNEL}"]
    changed.esp["EFI/debian/grub.cfg"] = "configfile ($root)/boot/grub/other.cfg\n"
    for build_id, guest in ((OLD, Guest()), (NEW, changed)):
        scratch = tmp_path_factory.mktemp("guest")
        image = guest.build(scratch).folder / "image.qcow2"
        folder = root / VARIANT.name / build_id
        folder.mkdir(parents=True)
        image.rename(folder / image.name)
        record(folder, folder / image.name)
        made_here = manifest.read_manifest(folder / "manifest.json")
        files.write_json(folder / "manifest.json", replace(made_here, build_id=build_id))
        store.set_state(folder, store.COMPLETE)
    return root


def test_files_are_compared_in_the_images_themselves(images: Path) -> None:
    old, new = (images / VARIANT.name / build_id / "image.qcow2" for build_id in (OLD, NEW))
    assert [each for each in file_diff.between(old, new) if each.path != "/var/lib/dpkg/status"] == [
        FileChange(path=f"/boot/vmlinuz-{KERNEL}", how="removed"),
        FileChange(path="/etc/new", how="added"),
        FileChange(path="/etc/resolv.conf", how="changed", facts=("target",)),
        FileChange(path="/usr/bin/nvidia-smi", how="changed", facts=("content",)),
        FileChange(path="ESP:/EFI/debian/grub.cfg", how="changed", facts=("content",)),
    ]


def test_modes_and_owners_count_too() -> None:
    before = {"/a": {"type": "file", "mode": "0644", "owner": "0"}}
    after = {"/a": {"type": "file", "mode": "4755", "owner": "1000"}}
    assert file_diff.changes(before, after) == (FileChange(path="/a", how="changed", facts=("mode", "owner")),)


def test_diff_shows_all_of_it(images: Path) -> None:
    said = inv("diff", VARIANT.name, "--builds", images)
    assert said.returncode == 0, said.stderr
    lines = [line.split() for line in said.stdout.splitlines()]
    assert lines[0] == [f"{VARIANT.name}:", OLD, "→", NEW]
    assert ["/etc/resolv.conf", "changed", "target"] in lines
    assert "Packages: nothing changed" in said.stdout
    assert "Files: 1 added, 1 removed, 3 changed" in said.stdout


def test_an_image_that_cannot_be_read_is_an_error_with_the_reason(tmp_path: Path) -> None:
    image = tmp_path / "image.raw"
    image.write_bytes(bytes(2**20))
    with pytest.raises(VerifyError, match=r"image\.raw cannot be read: there is no GUID partition table"):
        file_diff.facts(image)
