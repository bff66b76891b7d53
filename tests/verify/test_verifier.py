"""Verification of a real, small build as a whole."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.artifacts.store import Build
from pipelines.diskimage import qemu
from pipelines.util.errors import HostError, VerifyError
from pipelines.verify import boot_report
from pipelines.verify.verifier import DRIVER_CHECKS, verify
from tests.support.small_image import (
    VARIANT,
    Guest,
    run,
)
from tests.support.verification import failed

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def test_a_good_build_passes_every_check(good: Build) -> None:
    verification = verify(good, VARIANT, NOW)
    assert failed(verification) == {}
    assert verification.passed
    # Modules that the build compiles, and no key of the site's to sign them with.
    undecided = [check.name for check in verification.checks if check.passed is None]
    assert undecided == ["distribution-modules", "module-signatures"]


def test_the_result_is_written_beside_the_manifest(good: Build) -> None:
    verification = verify(good, VARIANT, NOW)
    assert good.verification() == verification
    assert verification.checked_at == "2026-11-22T12:00:00Z"


def test_verifying_leaves_nothing_in_the_builds_folder(good: Build) -> None:
    before = {path.name for path in good.folder.iterdir()}
    verify(good, VARIANT, NOW)
    assert {path.name for path in good.folder.iterdir()} == before | {"verify.json"}


def test_one_fault_fails_one_check(tmp_path: Path) -> None:
    guest = Guest()
    guest.files["/tmp/left"] = "x"
    assert failed(verify(guest.build(tmp_path), VARIANT, NOW)) == {"temporary-files": "/tmp/left was left behind"}


def test_without_a_driver_its_checks_are_not_applicable(good: Build) -> None:
    verification = verify(good, replace(VARIANT, driver=None), NOW)
    assert {check.name for check in verification.checks if check.passed is None} == {name for name, _ in DRIVER_CHECKS}


def test_a_boot_adds_its_checks_to_the_result(good: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "qemu-system-x86_64"
    fake.write_text("#!/bin/sh\necho the fake starts nothing >&2; exit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    qemu.kvm_works.cache_clear()
    results = {firmware: verify(good, VARIANT, NOW, firmware=firmware) for firmware in ("uefi", "bios")}
    written = good.verification()
    qemu.kvm_works.cache_clear()
    for result in results.values():
        assert "the fake starts nothing" in failed(result)["boot-reached"]
        assert set(failed(result)) == set(boot_report.CHECK_NAMES)
    # The image asks for UEFI: what another firmware makes of it is reported, and decides nothing.
    assert written is not None
    assert written.passed


def test_a_boot_as_the_image_asks_for_decides(good: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "qemu-system-x86_64"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    qemu.kvm_works.cache_clear()
    result = verify(good, VARIANT, NOW, firmware="uefi")
    qemu.kvm_works.cache_clear()
    assert good.verification() == result
    assert not result.passed


def test_a_missing_manifest_is_an_error(good: Build) -> None:
    (good.folder / "manifest.json").unlink()
    with pytest.raises(VerifyError, match="is missing"):
        verify(good, VARIANT, NOW)


def test_checks_that_cannot_be_carried_out_have_failed(good: Build) -> None:
    everything = {check.name for check in verify(good, VARIANT, NOW).checks}
    good.image().write_bytes(b"no image")
    verification = verify(good, VARIANT, NOW)
    assert {check.name for check in verification.checks} == everything
    assert "could not be checked" in failed(verification)["driver-modules"]


def test_a_missing_tool_is_the_hosts_fault_and_not_the_builds(
    good: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify(good, VARIANT, NOW)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="qemu-img is not installed") as caught:
        verify(good, VARIANT, NOW)
    assert caught.value.remedy == "apt-get install qemu-utils"
    verification = good.verification()
    assert verification is not None
    assert verification.passed


def test_a_full_disk_is_the_hosts_fault_and_not_the_builds(good: Build, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=64M", "tmpfs", str(full))
    try:
        shutil.copytree(good.folder, full / good.build_id)
        (full / "filler").write_bytes(bytes(shutil.disk_usage(full).free))
        build = replace(good, folder=full / good.build_id)
        with pytest.raises(HostError, match="No space left on device") as caught:
            verify(build, VARIANT, NOW)
        assert build.verification() is None
    finally:
        run("umount", str(full))
    assert caught.value.exit_code == 6
