"""What did we make? Files as state: never half-written, never believed when damaged."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from pipelines.artifacts.manifest import Artifact, Check, Verification, build_id, read_manifest, read_verification
from pipelines.artifacts.store import builds, lock, newest_complete, set_state
from pipelines.util import locks, process
from pipelines.util.errors import HostError, UsageError, VerifyError
from pipelines.util.files import canonical_digest as digest
from pipelines.util.files import write_json
from tests.support.paths import PROJECT
from tests.support.small_image import manifest

ARTIFACT = Artifact(path="image.qcow2", format="qcow2", size=1, virtual_size=2, sha256="a" * 64, sha512="b" * 128)
MANIFEST = manifest(ARTIFACT)
VERIFICATION = Verification(
    variant="debian-cuda",
    build_id="20261122T120000Z-01234567",
    checked_at="2026-11-22T12:00:00Z",
    checks=(Check(name="format", passed=True, detail="qcow2"), Check(name="dkms", passed=None, detail="no driver")),
)


def make_build(root: Path, name: str, state: str, variant: str = "debian-cuda") -> Path:
    folder = root / variant / name
    folder.mkdir(parents=True)
    set_state(folder, state)
    return folder


# JSON files


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = replace(MANIFEST, packages={"bash": "5.2"}, stages={"driver/install": 1.5})
    write_json(tmp_path / "manifest.json", written)
    assert read_manifest(tmp_path / "manifest.json") == written


@pytest.mark.parametrize(
    ("driver", "signed"),
    [
        ({}, True),
        ({"version": "550.163.01", "source": "archive"}, False),
        ({"version": "550.163.01", "source": "archive", "certificate": "-----BEGIN CERTIFICATE-----"}, True),
        ({"version": "580.95.05", "source": "precompiled"}, True),
    ],
)
def test_only_a_site_or_the_distribution_signs_a_driver_so_that_guests_trust_it(
    driver: dict[str, str], signed: bool
) -> None:
    assert replace(MANIFEST, driver=driver).modules_signed == signed


def test_a_verification_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_json(tmp_path / "verify.json", VERIFICATION)
    assert read_verification(tmp_path / "verify.json") == VERIFICATION


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"state": "running"})
    with pytest.raises(TypeError):
        write_json(path, {"state": "complete", "when": object()})
    assert json.loads(path.read_text()) == {"state": "running"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"state": "old"})
    with path.open() as reader:
        write_json(path, {"state": "new"})
        assert json.load(reader) == {"state": "old"}
    assert json.loads(path.read_text()) == {"state": "new"}


def test_others_may_read_what_we_write(tmp_path: Path) -> None:
    write_json(tmp_path / "state.json", {})
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "Expecting value"),
        ('{"variant": "debian-cuda", "artif', "Unterminated string"),
        ("[]", "it is not an object"),
        ("{}", "artifacts"),
        ('{"artifacts": []}', "missing"),
        ('{"artifacts": [{"path": "x"}]}', "missing"),
        ('{"artifacts": null}', "not iterable"),
    ],
)
def test_a_corrupt_manifest_is_named_with_the_reason_and_a_remedy(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(content)
    with pytest.raises(VerifyError, match=why) as caught:
        read_manifest(path)
    assert str(path) in caught.value.what
    assert "Build the variant again" in caught.value.remedy


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"created_at": "yesterday"}, "Invalid isoformat string"),
        ({"created_at": "2026-11-22T12:00:00"}, "without a time zone"),
        ({"created_at": 5}, "created_at is 5"),
        ({"fingerprint": None}, "fingerprint is None"),
        ({"driver": "550"}, "driver is '550'"),
        ({"parts": {"disk": 1}}, "parts is"),
        ({"stages": {"driver": "long"}}, "stages is"),
        ({"base": {"distribution": "debian", "release": "trixie"}}, "its base has no architecture"),
        ({"artifacts": [asdict(ARTIFACT) | {"size": "1"}]}, "size is '1'"),
        ({"artifacts": [asdict(ARTIFACT) | {"virtual_size": True}]}, "virtual_size is True"),
    ],
)
def test_a_manifest_with_a_wrong_value_is_refused(tmp_path: Path, change: dict[str, object], why: str) -> None:
    write_json(tmp_path / "manifest.json", asdict(MANIFEST) | change)
    with pytest.raises(VerifyError, match=why):
        read_manifest(tmp_path / "manifest.json")


def test_a_verification_that_says_neither_yes_nor_no_is_refused(tmp_path: Path) -> None:
    checks = [{"name": "format", "passed": "no", "detail": ""}]
    write_json(tmp_path / "verify.json", asdict(VERIFICATION) | {"checks": checks})
    with pytest.raises(VerifyError, match="passed is 'no'"):
        read_verification(tmp_path / "verify.json")


def test_a_manifest_with_an_unknown_field_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "manifest.json", MANIFEST)
    raw = json.loads((tmp_path / "manifest.json").read_text())
    write_json(tmp_path / "manifest.json", {**raw, "surprise": 1})
    with pytest.raises(VerifyError, match="surprise"):
        read_manifest(tmp_path / "manifest.json")


def test_a_manifest_without_an_artifact_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "manifest.json", replace(MANIFEST, artifacts=()))
    with pytest.raises(VerifyError, match="it names no artifact"):
        read_manifest(tmp_path / "manifest.json")


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VerifyError, match="it is missing"):
        read_manifest(tmp_path / "manifest.json")


# Verdicts and names


@pytest.mark.parametrize(
    ("results", "passed"),
    [((True, True), True), ((True, None), True), ((True, False), False), ((), False)],
)
def test_a_verification_passes_when_nothing_failed_and_something_was_checked(
    results: tuple[bool | None, ...], passed: bool
) -> None:
    checks = tuple(Check(name="x", passed=result, detail="") for result in results)
    assert replace(VERIFICATION, checks=checks).passed is passed


def test_build_ids_sort_by_time_wherever_they_are_made() -> None:
    earlier = datetime(2026, 11, 22, 12, 0, tzinfo=timezone(timedelta(hours=9)))
    later = datetime(2026, 11, 22, 4, 0, tzinfo=UTC)
    assert build_id(earlier, "f" * 64) == "20261122T030000Z-ffffffff"
    assert build_id(earlier, "f" * 64) < build_id(later, "0" * 64)


def test_a_digest_depends_on_content_and_not_on_order() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"b": [1, 2]}) != digest({"b": [2, 1]})


# Builds


def test_builds_are_listed_oldest_first_with_their_state(tmp_path: Path) -> None:
    make_build(tmp_path, "20261123T000000Z-b", "complete")
    make_build(tmp_path, "20261122T000000Z-a", "failed")
    make_build(tmp_path, "20261124T000000Z-c", "complete", variant="other")
    (tmp_path / "debian-cuda" / "notes").mkdir()
    assert [(build.build_id, build.state) for build in builds(tmp_path, "debian-cuda")] == [
        ("20261122T000000Z-a", "failed"),
        ("20261123T000000Z-b", "complete"),
    ]


def test_a_variant_never_built_has_no_builds(tmp_path: Path) -> None:
    assert builds(tmp_path, "debian-cuda") == []


def test_a_build_that_says_running_while_nobody_holds_its_lock_is_a_leftover(tmp_path: Path) -> None:
    make_build(tmp_path, "20261122T000000Z-a", "running")
    with lock(tmp_path, "debian-cuda"):
        assert builds(tmp_path, "debian-cuda")[0].state == "running"
    assert builds(tmp_path, "debian-cuda")[0].state == "leftover"


def test_a_build_with_a_damaged_state_has_failed_and_says_why(tmp_path: Path) -> None:
    folder = make_build(tmp_path, "20261122T000000Z-a", "complete")
    (folder / "state.json").write_text("{")
    (build,) = builds(tmp_path, "debian-cuda")
    assert build.state == "failed"
    assert "cannot be used" in build.detail


def test_the_newest_complete_build_is_taken_and_no_other(tmp_path: Path) -> None:
    for name, state in (("1-a", "complete"), ("2-b", "complete"), ("3-c", "failed"), ("4-d", "running")):
        make_build(tmp_path, name, state)
    assert newest_complete(tmp_path, "debian-cuda").build_id == "2-b"
    assert newest_complete(tmp_path, "debian-cuda", "1-a").build_id == "1-a"


def test_a_wanted_build_that_is_not_complete_is_never_replaced_by_another(tmp_path: Path) -> None:
    make_build(tmp_path, "1-a", "complete")
    make_build(tmp_path, "2-b", "failed")
    with pytest.raises(UsageError, match="no complete build 2-b of debian-cuda"):
        newest_complete(tmp_path, "debian-cuda", "2-b")


def test_without_a_complete_build_the_remedy_is_to_build(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        newest_complete(tmp_path, "debian-cuda")
    assert caught.value.remedy == "Run `./inv build debian-cuda` first."


# The lock


def holder_of(root: Path, variant: str) -> str | None:
    return locks.holder(root / variant / ".lock")


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[process.Program]:
    """Another process that holds the lock of debian-cuda below tmp_path."""
    script = (
        "import pathlib, sys, time; from pipelines.artifacts import store\n"
        "with store.lock(pathlib.Path(sys.argv[1]), 'debian-cuda'): print('held', flush=True); time.sleep(60)"
    )
    env = {**process.environment(), "PYTHONPATH": str(PROJECT)}
    child = process.start([sys.executable, "-c", script, str(tmp_path)], log=tmp_path / "log", env=env)
    while "held" not in (tmp_path / "log").read_text():
        assert child.poll() is None, (tmp_path / "log").read_text()
    yield child
    process.stop(child)


def test_a_second_build_of_a_variant_is_refused_and_names_the_first(tmp_path: Path, holder: process.Program) -> None:
    said = f"debian-cuda is being built already, by process {holder.pid}"
    with pytest.raises(HostError, match=said), lock(tmp_path, "debian-cuda"):
        raise AssertionError("it was locked twice")
    assert holder_of(tmp_path, "debian-cuda") == f"process {holder.pid}"


def test_another_variant_is_not_locked(tmp_path: Path, holder: process.Program) -> None:
    with lock(tmp_path, "debian-base"):
        assert holder_of(tmp_path, "debian-base") == f"process {os.getpid()}"
    assert holder.poll() is None


def test_a_holder_that_is_killed_holds_nothing(tmp_path: Path, holder: process.Program) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert holder_of(tmp_path, "debian-cuda") is None
    with lock(tmp_path, "debian-cuda"):
        assert holder_of(tmp_path, "debian-cuda") == f"process {os.getpid()}"


def test_asking_who_holds_a_lock_makes_none(tmp_path: Path) -> None:
    assert holder_of(tmp_path, "debian-cuda") is None
    assert list(tmp_path.iterdir()) == []
