"""Are precompiled modules the distribution's own? Each check sees a small image that is broken in one way."""

import lzma
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.catalog.base import Base
from pipelines.catalog.driver import Driver
from pipelines.catalog.variant import Variant
from pipelines.diskimage import filesystem, gpt
from pipelines.verify import check, kernel_driver
from pipelines.verify.check import Outcome
from pipelines.verify.module_signatures import SIGNER, distribution_modules
from tests.support import signing
from tests.support.small_image import (
    DRIVER,
    KERNEL,
    LIBRARIES,
    MODULES,
    VARIANT,
    Guest,
    Link,
    driver_module,
    kernel_module,
    manifest,
    package,
)

FOLDER = f"{MODULES}/kernel/nvidia-580srv-open"
NAMES = ("nvidia", "nvidia-uvm")
VERSION = "580.95.05"
MADE = replace(manifest(), driver={"version": VERSION, "modules": "open"})
PRECOMPILED = replace(
    VARIANT,
    base=Base(
        distribution="ubuntu", release="24.04", source="cloud-image", url="https://example.org/a.img", sha256="0" * 64
    ),
    driver=Driver(source="precompiled", modules="open", branch=580),
)


def examined(guest: Guest, folder: Path, judge: Callable[..., Outcome], variant: Variant = PRECOMPILED) -> Outcome:
    raw = guest.disk(folder)
    with filesystem.opened(raw, gpt.partition_table(raw).partitions[-1], "ext4") as files:
        return judge(check.Guest(manifest=MADE, variant=variant, disk=raw, files=files))


def signed(folder: Path, name: str = SIGNER) -> bytes:
    """A module that somebody of this name has signed."""
    pair = signing.make_pair(folder, name)
    fields = ("license=Dual MIT/GPL", f"version={VERSION}", f"vermagic={KERNEL} SMP ")
    return lzma.compress(signing.signed(kernel_module(*fields), pair))


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return signed(tmp_path_factory.mktemp("key"))


@pytest.fixture
def guest(module: bytes) -> Guest:
    """A guest with modules as Ubuntu compiles and signs them, and no DKMS."""
    made = Guest()
    for path in [path for path in made.files if "/dkms/" in path]:
        del made.files[path]
    for name in ("libcuda", "libnvidia-ml"):
        made.files[f"{LIBRARIES}/{name}.so.{VERSION}"] = made.files.pop(f"{LIBRARIES}/{name}.so.{DRIVER}")
        made.files[f"{LIBRARIES}/{name}.so.1"] = Link(f"{name}.so.{VERSION}")
    made.packages = {name: text.replace(DRIVER, VERSION) for name, text in made.packages.items()}
    for name in NAMES:
        made.files[f"/usr{FOLDER}/{name}.ko.xz"] = module
    listed = "".join(f"kernel/nvidia-580srv-open/{name}.ko.xz:\n" for name in NAMES)
    made.files[f"/usr{MODULES}/modules.dep"] = listed
    owner = f"linux-modules-nvidia-580-server-open-{KERNEL}"
    made.packages[owner] = package(owner, "6.8.0-79.79")
    return made


def test_the_distributions_signed_modules_pass(guest: Guest, tmp_path: Path) -> None:
    assert examined(guest, tmp_path, distribution_modules) == (True, f"2 modules for {KERNEL}, signed by {SIGNER}")


@pytest.mark.slow
def test_they_keep_the_rest_of_the_contract_without_dkms(guest: Guest, tmp_path: Path) -> None:
    for name, judge in kernel_driver.DRIVER_CHECKS:
        (tmp_path / name).mkdir()
        passed, detail = examined(guest, tmp_path / name, judge)
        assert passed is (None if name == "dkms" else True), f"{name}: {detail}"


def test_modules_that_nobody_signed_are_refused(guest: Guest, tmp_path: Path) -> None:
    guest.files[f"/usr{FOLDER}/nvidia.ko.xz"] = driver_module()
    passed, detail = examined(guest, tmp_path, distribution_modules)
    assert passed is False
    assert detail == f"{FOLDER}/nvidia.ko.xz is signed by nobody, not by {SIGNER}"


def test_modules_that_somebody_else_signed_are_refused(guest: Guest, tmp_path: Path) -> None:
    guest.files[f"/usr{FOLDER}/nvidia.ko.xz"] = signed(tmp_path, "DKMS module signing key")
    (tmp_path / "disk").mkdir()
    assert "is signed by DKMS module signing key" in examined(guest, tmp_path / "disk", distribution_modules)[1]


def test_a_module_beside_the_distributions_is_refused(guest: Guest, module: bytes, tmp_path: Path) -> None:
    guest.files[f"/usr{MODULES}/updates/dkms/nvidia.ko.xz"] = module
    assert (
        "updates/dkms/nvidia.ko.xz is not the distribution's own" in examined(guest, tmp_path, distribution_modules)[1]
    )


def test_the_package_for_another_kernel_is_refused(guest: Guest, tmp_path: Path) -> None:
    del guest.packages[f"linux-modules-nvidia-580-server-open-{KERNEL}"]
    guest.packages["other"] = package("linux-modules-nvidia-580-server-open-6.8.0-1-generic")
    found = examined(guest, tmp_path, distribution_modules)
    assert found == (False, f"no package linux-modules-nvidia-…-{KERNEL} is installed")


def test_modules_that_the_build_compiles_are_another_checks(tmp_path: Path) -> None:
    assert examined(Guest(), tmp_path, distribution_modules, VARIANT)[0] is None


def test_a_runfiles_user_space_is_of_no_package(guest: Guest, tmp_path: Path) -> None:
    for name in ("libcuda1", "libnvidia-ml1", "nvidia-smi"):
        del guest.packages[name]
    of_packages, of_a_runfile = tmp_path / "packages", tmp_path / "runfile"
    of_packages.mkdir()
    of_a_runfile.mkdir()
    runfile = Driver(source="runfile", version=VERSION, sha256="0" * 64, path="driver.run")
    assert "no package" in examined(guest, of_packages, kernel_driver.user_space, VARIANT)[1]
    assert examined(guest, of_a_runfile, kernel_driver.user_space, replace(VARIANT, driver=runfile))[0] is True
