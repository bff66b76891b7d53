"""Manifests and verifications are read as they were written, and damaged ones are refused."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pipelines.artifacts.manifest import Artifact, Check, Verification, read_manifest, read_verification
from pipelines.util.errors import VerifyError
from pipelines.util.files import write_json
from tests.support.small_image import manifest

ARTIFACT = Artifact(path="image.qcow2", format="qcow2", size=1, virtual_size=2, sha256="a" * 64, sha512="b" * 128)
MANIFEST = manifest(ARTIFACT)
VERIFICATION = Verification(
    variant="debian-cuda",
    build_id="20261122T120000Z-01234567",
    checked_at="2026-11-22T12:00:00Z",
    checks=(Check(name="format", passed=True, detail="qcow2"), Check(name="dkms", passed=None, detail="no driver")),
)


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
    assert "build the variant again" in caught.value.remedy


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
        ({"base": {"distribution": "debian", "release": "trixie"}}, "its base lacks architecture"),
        ({"artifacts": [asdict(ARTIFACT) | {"size": "1"}]}, "size is '1'"),
        ({"artifacts": [asdict(ARTIFACT) | {"virtual_size": True}]}, "virtual_size is True"),
    ],
)
def test_a_manifest_with_a_wrong_value_is_refused(tmp_path: Path, change: dict[str, object], why: str) -> None:
    write_json(tmp_path / "manifest.json", asdict(MANIFEST) | change)
    with pytest.raises(VerifyError, match=why):
        read_manifest(tmp_path / "manifest.json")


def test_a_verification_with_another_verdict_than_true_or_false_is_refused(tmp_path: Path) -> None:
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
    with pytest.raises(VerifyError, match="it has no artifact"):
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
