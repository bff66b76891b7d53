"""Records in folders and behind URLs, complete or not at all."""

import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

import fsspec
import pytest

from pipelines.artifacts import record_backends, records, store
from pipelines.artifacts.manifest import Artifact, Check, Manifest, Verification
from pipelines.artifacts.records import Record, Records
from pipelines.artifacts.store import Build
from pipelines.util import files as util_files
from pipelines.util.errors import CatalogError, CloudError, HostError, VerifyError
from tests.support.small_image import manifest as good_manifest

ARTIFACT = Artifact(path="image.qcow2", format="qcow2", size=1, virtual_size=2, sha256="a" * 64, sha512="b" * 128)
NAME = "debian-cuda"
OLD, NEW = "20261121T120000Z-01234567", "20261122T120000Z-01234567"


def made(build_id: str) -> Manifest:
    return replace(good_manifest(ARTIFACT), build_id=build_id)


def verified(build_id: str, *, passed: bool = True) -> Verification:
    check = Check(name="format", passed=passed, detail="")
    return Verification(variant=NAME, build_id=build_id, checked_at="2026-11-22T12:00:00Z", checks=(check,))


def built(builds: Path, build_id: str, *, passed: bool | None = True) -> Build:
    folder = builds / NAME / build_id
    folder.mkdir(parents=True, exist_ok=True)
    util_files.write_json(folder / "manifest.json", made(build_id))
    if passed is not None:
        util_files.write_json(folder / "verify.json", verified(build_id, passed=passed))
    (folder / "sbom.cdx.json").write_bytes(b"{}")
    (folder / "image.qcow2").write_bytes(b"large")
    store.set_state(folder, store.COMPLETE)
    return store.newest_complete(builds, NAME, build_id)


@pytest.fixture
def builds(tmp_path: Path) -> Path:
    return tmp_path / "builds"


@pytest.fixture(params=["folder", "memory"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A place for records, as images.yaml names it."""
    if request.param == "folder":
        yield str(tmp_path / "kept")
        return
    place = f"memory://{uuid4()}"
    yield place
    files, root = fsspec.url_to_fs(place)
    if files.exists(root):
        files.rm(root, recursive=True)


def put_there(where: str, name: str, content: bytes) -> None:
    """Something that we did not write, or not to its end."""
    with fsspec.open(f"{where}/{NAME}/{name}", "wb", auto_mkdir=True) as sink:
        sink.write(content)


def files_in(where: str) -> set[str]:
    files, root = fsspec.url_to_fs(where)
    return {path.removeprefix(f"{root}/") for path in files.find(root)}


def test_a_record_is_read_as_it_was_put_and_has_no_image(where: str, builds: Path) -> None:
    kept = records.open(where, builds)
    kept.put(built(builds, OLD))
    kept.put(built(builds, NEW, passed=None))
    again = records.open(where, builds)
    assert again.known(NAME) == [
        Record(manifest=made(OLD), verification=verified(OLD)),
        Record(manifest=made(NEW), verification=None),
    ]
    assert again.known_build(NAME, NEW) == Record(manifest=made(NEW), verification=None)
    names = ("manifest.json", "sbom.cdx.json", "verify.json")
    assert files_in(where) == {f"{NAME}/{OLD}/{name}" for name in names} | {f"{NAME}/{NEW}/{n}" for n in names[:2]}


def test_a_place_without_records_is_empty(where: str, builds: Path) -> None:
    empty = records.open(where, builds)
    assert empty.known(NAME) == []
    assert empty.known_build(NAME, NEW) is None


def test_putting_again_brings_the_newest_verification(where: str, builds: Path) -> None:
    kept = records.open(where, builds)
    kept.put(built(builds, NEW, passed=False))
    kept.put(built(builds, NEW, passed=True))
    assert [record.verification for record in kept.known(NAME)] == [verified(NEW)]


def test_putting_again_writes_nothing_that_is_there_already(builds: Path, tmp_path: Path) -> None:
    kept = records.open(str(tmp_path / "kept"), builds)
    kept.put(built(builds, NEW))
    before = {path: path.stat().st_ino for path in (tmp_path / "kept").rglob("*.json")}
    kept.put(built(builds, NEW))
    assert {path: path.stat().st_ino for path in (tmp_path / "kept").rglob("*.json")} == before


def test_what_another_process_put_is_seen(where: str, builds: Path) -> None:
    reader = records.open(where, builds)
    assert reader.known(NAME) == []
    records.open(where, builds).put(built(builds, NEW))
    assert [record.manifest.build_id for record in reader.known(NAME)] == [NEW]


def test_what_a_driver_remembers_of_a_folder_is_not_believed(builds: Path) -> None:
    class Remembering(fsspec.get_filesystem_class("memory")):  # type: ignore[misc]
        """Lists each folder once, as the drivers of object stores do, until it is told to look again."""

        protocol = "remembering"
        listed: ClassVar[dict[str, list[object]]] = {}

        def ls(self, path: str, detail: bool = True, **_: object) -> list[object]:
            if path not in self.listed:
                self.listed[path] = super().ls(path, detail=detail)
            return self.listed[path]

        def invalidate_cache(self, _path: str | None = None) -> None:
            self.listed.clear()

    fsspec.register_implementation("remembering", Remembering, clobber=True)
    place = f"remembering://{uuid4()}"
    reader = records.open(place, builds)
    for number, build_id in enumerate((OLD, NEW), start=1):
        records.open(place, builds).put(built(builds, build_id))
        assert len(reader.known(NAME)) == number


def test_a_record_without_its_manifest_is_none_yet(
    where: str, builds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_there(where, f"{NEW}/verify.json", b"{}")
    kept = records.open(where, builds)
    assert kept.known(NAME) == []
    assert kept.known_build(NAME, NEW) is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("content", [b"", b'{"variant": "debian-c', b"\xff\x00", b"[" * 100_000, b"[]"])
def test_a_damaged_record_is_reported_and_the_others_are_read(
    builds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    where = str(tmp_path / "kept")
    kept = records.open(where, builds)
    kept.put(built(builds, NEW))
    put_there(where, f"{OLD}/manifest.json", content)
    assert [record.manifest.build_id for record in kept.known(NAME)] == [NEW]
    assert f"{where}/{NAME}/{OLD}/manifest.json cannot be used" in capsys.readouterr().err


def test_a_damaged_verification_leaves_a_build_that_is_not_verified(
    where: str, builds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = records.open(where, builds)
    kept.put(built(builds, NEW))
    put_there(where, f"{NEW}/verify.json", b'{"variant"')
    assert kept.known(NAME) == [Record(manifest=made(NEW), verification=None)]
    assert "counts as not verified" in capsys.readouterr().err


def test_a_record_in_the_wrong_place_is_not_believed(
    where: str, builds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = records.open(where, builds)
    kept.put(built(builds, NEW))
    put_there(where, f"{OLD}/manifest.json", (builds / NAME / NEW / "manifest.json").read_bytes())
    assert [record.manifest.build_id for record in kept.known(NAME)] == [NEW]
    assert f"it is the record of {NAME} {NEW}" in capsys.readouterr().err


def test_a_build_with_a_damaged_manifest_is_not_put(where: str, builds: Path) -> None:
    build = built(builds, NEW)
    (build.folder / "manifest.json").write_text("{")
    kept = records.open(where, builds)
    with pytest.raises(VerifyError, match="cannot be used"):
        kept.put(build)
    assert kept.known(NAME) == []


def test_several_writers_at_once_leave_whole_records(where: str, builds: Path) -> None:
    made_here = [built(builds, build_id) for build_id in (OLD, NEW)]
    seen: list[int] = []

    def write() -> None:
        for build in made_here:
            records.open(where, builds).put(build)

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        seen.append(len(records.open(where, builds).known(NAME)))
    assert [record.manifest.build_id for record in records.open(where, builds).known(NAME)] == [OLD, NEW]
    assert seen == sorted(seen)


def test_a_folder_has_no_half_file_after_a_crash_while_writing(builds: Path, tmp_path: Path) -> None:
    kept = records.open(str(tmp_path / "kept"), builds)
    kept.put(built(builds, NEW))
    (tmp_path / "kept" / NAME / NEW / ".verify.json.x7").write_bytes(b'{"va')  # what a crash leaves
    assert kept.known(NAME) == [Record(manifest=made(NEW), verification=verified(NEW))]


# The builds' own folder


@pytest.mark.parametrize("named", ["builds", "by its path"])
def test_the_builds_own_folder_has_the_records_of_complete_builds_and_putting_changes_nothing(
    builds: Path, named: str
) -> None:
    build = built(builds, OLD)
    store.set_state(built(builds, NEW).folder, store.FAILED, "after its manifest was written")
    before = {path: path.stat().st_mtime_ns for path in builds.rglob("*")}
    kept = records.open("builds" if named == "builds" else str(builds), builds)
    kept.put(build)
    assert {path: path.stat().st_mtime_ns for path in builds.rglob("*")} == before
    assert [record.manifest.build_id for record in kept.known(NAME)] == [OLD]
    assert kept.known_build(NAME, NEW) is None


# What cannot be used


def test_a_driver_that_is_not_installed_is_named_with_the_command(
    builds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(HostError, match="records in s3://bucket/x need a driver that is not installed") as caught:
        records.open("s3://bucket/x", builds)
    assert "s3fs to requirements/site.in, run `./inv lock`" in caught.value.remedy


def test_an_unsupported_url_is_an_error_of_the_catalog(builds: Path) -> None:
    with pytest.raises(CatalogError, match=r"records: s4://bucket cannot be used.*s4"):
        records.open("s4://bucket", builds)


def test_a_server_that_does_not_answer_is_an_error_without_the_password(builds: Path) -> None:
    with pytest.raises(CloudError) as caught:  # port 9 of loopback is closed
        records.open("ftp://me:hunter2@127.0.0.1:9/records?token=abc123", builds).known(NAME)
    said = f"{caught.value.what} {caught.value.remedy}"
    assert "ftp://me:***@127.0.0.1:9/records cannot be used: " in said
    assert "refused" in said
    assert "hunter2" not in said
    assert "abc123" not in said


def test_messages_of_drivers_have_no_password_either(builds: Path) -> None:
    class Telling(fsspec.get_filesystem_class("memory")):  # type: ignore[misc]
        protocol = "telling"

        def ls(self, *_: object, **__: object) -> list[object]:
            raise RuntimeError("me with p@ssword (p%40ssword) may not")

    fsspec.register_implementation("telling", Telling, clobber=True)
    with pytest.raises(CloudError, match=r"cannot be used: me with \*\*\* \(\*\*\*\) may not"):
        records.open("telling://me:p%40ssword@host/x", builds).known(NAME)


def test_a_driver_that_hangs_is_given_up(builds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_backends, "DEADLINE_SECONDS", 0.2)
    released = threading.Event()

    class Hanging(fsspec.get_filesystem_class("memory")):  # type: ignore[misc]
        protocol = "hanging"

        def ls(self, *_: object, **__: object) -> list[object]:
            released.wait(30)
            return []

    fsspec.register_implementation("hanging", Hanging, clobber=True)
    with pytest.raises(CloudError, match=r"no answer within 0\.2 s"):
        records.open("hanging://x", builds).known(NAME)
    released.set()


def test_a_folder_that_is_none_is_an_error(builds: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file")
    kept: Records = records.open(str(tmp_path / "kept"), builds)
    with pytest.raises(HostError, match="kept"):
        kept.put(built(builds, NEW))
    with pytest.raises(HostError, match="kept"):
        kept.known(NAME)
