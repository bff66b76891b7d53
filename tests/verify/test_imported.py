"""Check that a server can start from an imported disk, on real disks."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.artifacts.store import Build
from pipelines.build import importer
from pipelines.catalog.variant import Guest, Variant
from pipelines.verify.imported import boot_loader
from pipelines.verify.verifier import verify
from tests.support.ready_image import (
    BITLOCKER,
    BOOT_CODE,
    WINDOWS_FILES,
    converted,
    gpt_disk,
    mbr_disk,
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


def judged(raw: Path, **changes: Any) -> tuple[bool, str]:
    return boot_loader(raw, variant(raw, **changes))


def test_the_content_of_an_imported_image_is_not_checked(imported: tuple[Build, Variant]) -> None:
    verification = verify(*imported, NOW)
    assert verification.passed
    passed = [check.name for check in verification.checks if check.passed]
    assert passed == ["image-digest", "format", "qemu-img-check", "virtual-size", "import-boot-loader"]
    reasons = {check.detail for check in verification.checks if check.passed is None}
    assert reasons == {"not checked: the publisher of an imported image is responsible for its content"}


def test_an_imported_image_is_not_booted(imported: tuple[Build, Variant]) -> None:
    verification = verify(*imported, NOW, firmware="uefi")
    assert (verification.checks[-1].name, verification.checks[-1].passed) == ("boot-reached", None)


def test_a_build_whose_disk_would_not_start_is_not_verified(tmp_path: Path, builds: Path) -> None:
    wanted = variant(mbr_disk(tmp_path / "old.raw"), format="raw")
    verification = verify(importer.build(wanted, builds, NOW), wanted, NOW)
    assert not verification.passed
    [wrong] = [check for check in verification.checks if check.passed is False]
    assert wrong.name == "import-boot-loader"
    assert "write hw_firmware_type: bios" in wrong.detail


@pytest.mark.parametrize(
    ("disk_options", "says"),
    [
        ({"esp": "none"}, "there is no EFI system partition"),
        ({"files": WINDOWS_FILES[:1]}, "/EFI/Microsoft/Boot/bootmgfw.efi is missing"),
        ({"files": WINDOWS_FILES[1:]}, "/EFI/BOOT/BOOTX64.EFI is missing"),
        ({"volume": bytes(11)}, "no partition is NTFS"),
        ({"volume": BITLOCKER}, "encrypted by BitLocker"),
    ],
)
def test_a_windows_disk_that_uefi_could_not_start(tmp_path: Path, disk_options: dict[str, Any], says: str) -> None:
    passed, detail = judged(gpt_disk(tmp_path / "windows.raw", **disk_options))
    assert not passed
    assert says in detail


def test_a_windows_disk_with_a_gpt_does_not_start_by_bios(windows: Path) -> None:
    write_at(windows, 0, BOOT_CODE)
    assert judged(windows, properties={"hw_firmware_type": "bios"}) == (
        False,
        "Windows on a GPT disk boots by UEFI only; write hw_firmware_type: uefi",
    )


@pytest.mark.parametrize(
    ("disk_options", "says"),
    [({"code": b""}, "the first sector has no boot code"), ({"active": False}, "no partition is marked active")],
)
def test_a_disk_that_bios_could_not_start(tmp_path: Path, disk_options: dict[str, Any], says: str) -> None:
    passed, detail = judged(mbr_disk(tmp_path / "old.raw", **disk_options), properties={"hw_firmware_type": "bios"})
    assert not passed
    assert says in detail


def test_a_linux_disk_starts_by_bios_unless_declared_otherwise(tmp_path: Path) -> None:
    raw = mbr_disk(tmp_path / "linux.raw", active=False, volume=bytes(11))
    assert judged(raw, guest=LINUX)[0]
    assert not judged(raw, guest=LINUX, properties={"hw_firmware_type": "uefi"})[0]


def test_a_linux_disk_for_arm64_starts_by_uefi_from_its_own_loader(tmp_path: Path) -> None:
    guest = replace(LINUX, architecture="arm64")
    fits = gpt_disk(tmp_path / "arm.raw", files=("EFI/BOOT/BOOTAA64.EFI",), volume=bytes(11))
    assert judged(fits, guest=guest)[0]
    other = gpt_disk(tmp_path / "x86.raw", volume=bytes(11))
    assert "/EFI/BOOT/BOOTAA64.EFI is missing" in judged(other, guest=guest)[1]
