"""Checks that kernel, driver and user space fit together, each seen failing on a broken small guest."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.catalog.driver import Driver, NvidiaRepository
from tests.support.small_image import (
    BUILT,
    DRIVER,
    INITRAMFS,
    KERNEL,
    LIBRARIES,
    MODULES,
    VARIANT,
    Guest,
    driver_module,
    initramfs,
    package,
)
from tests.support.verification import examined, refusal

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def test_debians_open_modules_are_found_under_debians_name(tmp_path: Path) -> None:
    guest = Guest()
    guest.files = {
        path.replace("/nvidia-current", "/nvidia-current-open"): text.replace("nvidia-current", "nvidia-current-open")
        if isinstance(text, str)
        else text
        for path, text in guest.files.items()
    }
    assert examined("driver-modules", guest, tmp_path).passed
    (tmp_path / "dkms").mkdir()
    assert examined("dkms", guest, tmp_path / "dkms").passed


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        (driver_module(kernel="6.1.0-1-amd64"), f"is built for kernel 6.1.0-1-amd64, not for {KERNEL}"),
        (driver_module(version="535.1"), f"is version 535.1, the driver is {DRIVER}"),
        (driver_module(licence="Dual MIT/GPL"), "is open, the manifest says proprietary"),
        (b"\x7fELF broken", "could not be checked: this is not a 64-bit little-endian ELF file"),
    ],
)
def test_a_module_that_does_not_fit_is_refused(tmp_path: Path, module: bytes, problem: str) -> None:
    guest = Guest()
    guest.files[f"/usr{MODULES}/updates/dkms/nvidia-current.ko.xz"] = module
    assert problem in refusal("driver-modules", guest, tmp_path)


@pytest.mark.parametrize(
    ("driver", "problem"),
    [
        (Driver(source="local", path=Path("/x"), version="550.163.02"), "images.yaml says 550.163.02"),
        (Driver(source="nvidia-repo", branch=580), "images.yaml asks for branch 580"),
        (Driver(source="archive", modules="open"), "the modules are proprietary, images.yaml asks for open"),
    ],
)
def test_another_driver_than_the_declared_one_is_refused(tmp_path: Path, driver: Driver, problem: str) -> None:
    repository = NvidiaRepository(keyring_sha256="0" * 64)
    declared = replace(VARIANT, driver=driver, nvidia_repository=repository)
    assert problem in refusal("driver-modules", Guest(), tmp_path, declared)


def test_a_module_that_modprobe_cannot_find_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.files[f"/usr{MODULES}/modules.dep"] = "updates/dkms/nvidia-current.ko.xz:\n"
    assert refusal("driver-modules", guest, tmp_path) == (
        "modules.dep does not list updates/dkms/nvidia-current-uvm.ko.xz"
    )


def test_a_missing_uvm_module_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    del guest.files[f"/usr{MODULES}/updates/dkms/nvidia-current-uvm.ko.xz"]
    assert refusal("driver-modules", guest, tmp_path) == f"there is no module nvidia-uvm in {MODULES}"


def test_a_driver_that_dkms_does_not_call_installed_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    del guest.files[f"/var/lib/dkms/nvidia-current/kernel-{KERNEL}-x86_64"]
    assert "is not marked as installed" in refusal("dkms", guest, tmp_path)


def test_an_installed_module_that_dkms_did_not_build_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.files[f"{BUILT}/nvidia-current.ko.xz"] = driver_module(version="other")
    assert refusal("dkms", guest, tmp_path) == f"{BUILT}/nvidia-current.ko.xz differs from the module in /lib/modules"


def test_a_guest_without_dkms_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.files = {path: content for path, content in guest.files.items() if not path.startswith("/var/lib/dkms")}
    assert "DKMS has no NVIDIA module" in refusal("dkms", guest, tmp_path)


def test_a_dkms_that_builds_nothing_for_a_new_kernel_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.files["/etc/dkms/no-autoinstall"] = ""
    assert "/etc/dkms/no-autoinstall prevents it from building" in refusal("dkms", guest, tmp_path)


def test_removed_headers_are_found_even_when_the_link_remains(tmp_path: Path) -> None:
    guest = Guest()
    guest.packages[f"linux-headers-{KERNEL}"] = package(f"linux-headers-{KERNEL}", "1", "deinstall ok config-files")
    assert refusal("headers", guest, tmp_path) == f"linux-headers-{KERNEL} is not installed"


def test_headers_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    guest = Guest()
    del guest.files[f"/usr/src/linux-headers-{KERNEL}/Makefile"]
    assert "does not lead to headers" in refusal("headers", guest, tmp_path)


def test_a_library_package_of_another_version_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.packages["libcuda1"] = package("libcuda1", "535.1-1")
    assert refusal("user-space", guest, tmp_path) == f"libcuda1 is 535.1-1, the driver is {DRIVER}"


def test_a_library_file_of_another_version_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.files[f"{LIBRARIES}/libcuda.so.535.1"] = guest.files.pop(f"{LIBRARIES}/libcuda.so.{DRIVER}")
    assert "libcuda.so.535.1 is not of version" in refusal("user-space", guest, tmp_path)


def test_a_guest_without_nvidia_smi_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    del guest.files["/usr/bin/nvidia-smi"]
    assert refusal("user-space", guest, tmp_path) == "/usr/bin/nvidia-smi is missing, or a broken link"


def test_nouveau_without_a_blacklist_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.files["/etc/nvidia/blacklist.conf"] = "# blacklist nouveau\n"
    assert "nouveau is not blacklisted" in refusal("nouveau", guest, tmp_path)


def test_nouveau_in_the_initramfs_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.files[INITRAMFS] = initramfs("init", f"usr/lib/modules/{KERNEL}/kernel/drivers/gpu/drm/nouveau/nouveau.ko.xz")
    assert refusal("nouveau", guest, tmp_path) == "nouveau is in the initramfs"


def test_a_package_that_is_not_held_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.packages["libcuda1"] = package("libcuda1", status="install ok installed")
    assert refusal("holds", guest, tmp_path) == "libcuda1 is not held"


@pytest.mark.parametrize(
    "name", ["cuda-toolkit-12-8", "libcudnn9-cuda-12", "libnccl2", "nvidia-container-toolkit", "libnvidia-container1"]
)
def test_what_belongs_to_the_driver_and_has_a_version_of_its_own_is_held_too(tmp_path: Path, name: str) -> None:
    guest = Guest()
    guest.packages[name] = package(name, "12.8-1", "install ok installed")
    assert refusal("holds", guest, tmp_path) == f"{name} is not held"


def test_the_user_space_of_a_vgpu_guest_is_one_package(tmp_path: Path) -> None:
    guest = Guest()
    for name in ("libcuda1", "libnvidia-ml1", "nvidia-smi"):
        del guest.packages[name]
    guest.packages["nvidia-linux-grid-550"] = package("nvidia-linux-grid-550", DRIVER)
    assert examined("user-space", guest, tmp_path).passed
