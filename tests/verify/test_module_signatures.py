"""Checks of module signatures, each on a small, finished image that is broken in one way."""

import lzma
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.catalog.base import Base
from pipelines.catalog.driver import Driver
from pipelines.catalog.variant import Secret, Variant
from pipelines.diskimage import filesystem, gpt
from pipelines.verify import check, kernel_driver
from pipelines.verify.check import Check, Outcome
from pipelines.verify.module_signatures import SIGNER, distribution_modules, module_signatures
from tests.support import signing
from tests.support.signing import MAGIC, Pair, der, make_pair, signed
from tests.support.small_image import (
    BUILT,
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
UBUNTU_NAMES = ("nvidia", "nvidia-uvm")
VERSION = "580.95.05"
MADE = replace(manifest(), driver={"version": VERSION, "modules": "open"})
PRECOMPILED = replace(
    VARIANT,
    base=Base(
        distribution="ubuntu", release="24.04", source="cloud-image", url="https://example.org/a.img", sha256="0" * 64
    ),
    driver=Driver(source="precompiled", modules="open", branch=580),
)
MODULE = kernel_module(f"version={DRIVER}", f"vermagic={KERNEL} SMP")
NAMES = ("nvidia-current", "nvidia-current-uvm")
PLACED = "/usr/share/gpu-image/module-signing.der"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("keys"), "other")


@pytest.fixture
def guest(pair: Pair) -> Guest:
    """A guest whose modules are signed, in both places, and that has the certificate, in both places."""
    made = Guest()
    for name in NAMES:
        put(made, name, signed(MODULE, pair))
    made.files[PLACED] = made.esp["EFI/gpu-image/module-signing.der"] = der(pair.certificate)
    return made


def put(guest: Guest, name: str, module: bytes) -> None:
    for folder in (f"/usr{MODULES}/updates/dkms", BUILT):
        guest.files[f"{folder}/{name}.ko.xz"] = lzma.compress(module)


def look(guest: Guest, folder: Path, pair: Pair | None, secrets: dict[str, Secret] | None = None) -> Check:
    """The check of a guest whose build was given a pair, or none."""
    raw = guest.whole_disk(folder)
    made = manifest()
    if pair is not None:
        made = replace(made, driver={**made.driver, "certificate": pair.certificate.read_text()})
    variant = replace(VARIANT, secrets=secrets or {})
    with filesystem.opened(raw, gpt.partition_table(raw).partitions[-1], "ext4") as files:
        subject = check.Guest(manifest=made, variant=variant, disk=raw, files=files)
        return check.carried_out("module-signatures", module_signatures, subject)


def refusal(guest: Guest, folder: Path, pair: Pair) -> str:
    found = look(guest, folder, pair)
    assert found.passed is False, found
    return found.detail


def test_modules_signed_with_the_declared_key_are_good(guest: Guest, tmp_path: Path, pair: Pair) -> None:
    found = look(guest, tmp_path, pair)
    assert (found.passed, found.detail[:10]) == (True, "1 modules;")  # two names and two places, one content


def test_a_variant_without_a_key_is_not_asked_for_signatures(tmp_path: Path) -> None:
    assert look(Guest(), tmp_path, None).passed is None


def test_a_build_that_was_made_before_the_key_was_declared_fails(tmp_path: Path) -> None:
    both = {"module-signing-key": Secret(env="KEY"), "module-signing-certificate": Secret(env="CERTIFICATE")}
    found = look(Guest(), tmp_path, None, both)
    assert (found.passed, "images.yaml has a key" in found.detail) == (False, True)


def test_a_module_that_is_not_signed_is_named_in_both_places(guest: Guest, tmp_path: Path, pair: Pair) -> None:
    put(guest, "nvidia-current-uvm", MODULE)
    places = (f"{MODULES}/updates/dkms", BUILT)
    assert refusal(guest, tmp_path, pair) == "; ".join(f"{at}/nvidia-current-uvm.ko.xz is not signed" for at in places)


def test_dkms_copy_must_be_signed_too(guest: Guest, tmp_path: Path, pair: Pair) -> None:
    guest.files[f"{BUILT}/nvidia-current.ko.xz"] = lzma.compress(MODULE)
    assert refusal(guest, tmp_path, pair) == f"{BUILT}/nvidia-current.ko.xz is not signed"


def test_a_module_signed_with_another_key_is_named(guest: Guest, tmp_path: Path, pair: Pair, other: Pair) -> None:
    put(guest, "nvidia-current", signed(MODULE, other))
    assert "nvidia-current.ko.xz is signed with another key, or was changed after signing" in refusal(
        guest, tmp_path, pair
    )


def test_a_signature_cannot_bring_the_certificate_that_vouches_for_it(
    guest: Guest, tmp_path: Path, pair: Pair, other: Pair
) -> None:
    put(guest, "nvidia-current", signed(MODULE, other, with_certificate=True))
    assert "nvidia-current.ko.xz is signed with another key" in refusal(guest, tmp_path, pair)


def test_a_module_that_was_changed_after_it_was_signed_is_named(guest: Guest, tmp_path: Path, pair: Pair) -> None:
    put(guest, "nvidia-current", signed(MODULE, pair).replace(b"version=550", b"version=551"))
    assert "nvidia-current.ko.xz is signed with another key, or was changed after signing" in refusal(
        guest, tmp_path, pair
    )


def test_a_signature_that_kernels_do_not_look_at_is_named(guest: Guest, tmp_path: Path, pair: Pair) -> None:
    put(guest, "nvidia-current", MODULE + bytes(12) + MAGIC)
    assert "nvidia-current.ko.xz has a signature of an unknown kind" in refusal(guest, tmp_path, pair)


def test_another_module_of_dkms_must_be_signed_too(guest: Guest, tmp_path: Path, pair: Pair) -> None:
    guest.files[f"/usr{MODULES}/updates/dkms/gdrdrv.ko"] = MODULE
    assert refusal(guest, tmp_path, pair) == f"{MODULES}/updates/dkms/gdrdrv.ko is not signed"


@pytest.mark.parametrize("missing", ["guest", "ESP"])
def test_the_certificate_must_lie_where_owners_find_it(
    guest: Guest, tmp_path: Path, pair: Pair, other: Pair, missing: str
) -> None:
    if missing == "guest":
        guest.files[PLACED] = der(other.certificate)
        assert refusal(guest, tmp_path, pair) == f"{PLACED} is not the declared certificate"
    else:
        del guest.esp["EFI/gpu-image/module-signing.der"]
        assert "module-signing.der on the ESP is not the declared certificate" in refusal(guest, tmp_path, pair)


# Modules that the distribution compiled and signed


def examined(guest: Guest, folder: Path, judge: Callable[..., Outcome], variant: Variant = PRECOMPILED) -> Outcome:
    raw = guest.disk(folder)
    with filesystem.opened(raw, gpt.partition_table(raw).partitions[-1], "ext4") as files:
        return judge(check.Guest(manifest=MADE, variant=variant, disk=raw, files=files))


def signed_by(folder: Path, name: str = SIGNER) -> bytes:
    """A module with a signature by this name."""
    pair = signing.make_pair(folder, name)
    fields = ("license=Dual MIT/GPL", f"version={VERSION}", f"vermagic={KERNEL} SMP ")
    return lzma.compress(signing.signed(kernel_module(*fields), pair))


@pytest.fixture(scope="module")
def ubuntu_module(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return signed_by(tmp_path_factory.mktemp("key"))


@pytest.fixture
def precompiled(ubuntu_module: bytes) -> Guest:
    """A guest with modules as Ubuntu compiles and signs them, and no DKMS."""
    made = Guest()
    for path in [path for path in made.files if "/dkms/" in path]:
        del made.files[path]
    for name in ("libcuda", "libnvidia-ml"):
        made.files[f"{LIBRARIES}/{name}.so.{VERSION}"] = made.files.pop(f"{LIBRARIES}/{name}.so.{DRIVER}")
        made.files[f"{LIBRARIES}/{name}.so.1"] = Link(f"{name}.so.{VERSION}")
    made.packages = {name: text.replace(DRIVER, VERSION) for name, text in made.packages.items()}
    for name in UBUNTU_NAMES:
        made.files[f"/usr{FOLDER}/{name}.ko.xz"] = ubuntu_module
    listed = "".join(f"kernel/nvidia-580srv-open/{name}.ko.xz:\n" for name in UBUNTU_NAMES)
    made.files[f"/usr{MODULES}/modules.dep"] = listed
    owner = f"linux-modules-nvidia-580-server-open-{KERNEL}"
    made.packages[owner] = package(owner, "6.8.0-79.79")
    return made


def test_the_distributions_signed_modules_pass(precompiled: Guest, tmp_path: Path) -> None:
    assert examined(precompiled, tmp_path, distribution_modules) == (
        True,
        f"2 modules for {KERNEL}, signed by {SIGNER}",
    )


@pytest.mark.slow
def test_they_keep_the_rest_of_the_contract_without_dkms(precompiled: Guest, tmp_path: Path) -> None:
    for name, judge in kernel_driver.CHECKS:
        (tmp_path / name).mkdir()
        passed, detail = examined(precompiled, tmp_path / name, judge)
        assert passed is (None if name == "dkms" else True), f"{name}: {detail}"


def test_modules_without_a_signature_are_refused(precompiled: Guest, tmp_path: Path) -> None:
    precompiled.files[f"/usr{FOLDER}/nvidia.ko.xz"] = driver_module()
    passed, detail = examined(precompiled, tmp_path, distribution_modules)
    assert passed is False
    assert detail == f"{FOLDER}/nvidia.ko.xz is not signed, expected {SIGNER}"


def test_modules_with_another_signature_are_refused(precompiled: Guest, tmp_path: Path) -> None:
    precompiled.files[f"/usr{FOLDER}/nvidia.ko.xz"] = signed_by(tmp_path, "DKMS module signing key")
    (tmp_path / "disk").mkdir()
    assert "is signed by DKMS module signing key" in examined(precompiled, tmp_path / "disk", distribution_modules)[1]


def test_a_module_beside_the_distributions_is_refused(precompiled: Guest, ubuntu_module: bytes, tmp_path: Path) -> None:
    precompiled.files[f"/usr{MODULES}/updates/dkms/nvidia.ko.xz"] = ubuntu_module
    assert (
        "updates/dkms/nvidia.ko.xz is not from the distribution's package"
        in examined(precompiled, tmp_path, distribution_modules)[1]
    )


def test_the_package_for_another_kernel_is_refused(precompiled: Guest, tmp_path: Path) -> None:
    del precompiled.packages[f"linux-modules-nvidia-580-server-open-{KERNEL}"]
    precompiled.packages["other"] = package("linux-modules-nvidia-580-server-open-6.8.0-1-generic")
    found = examined(precompiled, tmp_path, distribution_modules)
    assert found == (False, f"no package linux-modules-nvidia-…-{KERNEL} is installed")


def test_modules_that_the_build_compiles_are_another_checks(tmp_path: Path) -> None:
    assert examined(Guest(), tmp_path, distribution_modules, VARIANT)[0] is None


def test_a_runfiles_user_space_is_of_no_package(precompiled: Guest, tmp_path: Path) -> None:
    for name in ("libcuda1", "libnvidia-ml1", "nvidia-smi"):
        del precompiled.packages[name]
    of_packages, of_a_runfile = tmp_path / "packages", tmp_path / "runfile"
    of_packages.mkdir()
    of_a_runfile.mkdir()
    runfile = Driver(source="runfile", version=VERSION, sha256="0" * 64, path="driver.run")
    assert "no package" in examined(precompiled, of_packages, kernel_driver.user_space, VARIANT)[1]
    assert examined(precompiled, of_a_runfile, kernel_driver.user_space, replace(VARIANT, driver=runfile))[0] is True
