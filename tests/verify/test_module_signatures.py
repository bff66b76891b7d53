"""Are the driver's modules signed with the site's key? On a small, finished image that is broken in one way each."""

import lzma
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.catalog.variant import Secret
from pipelines.diskimage import filesystem, gpt
from pipelines.verify import check
from pipelines.verify.check import Check
from pipelines.verify.module_signatures import module_signatures
from tests.support.signing import MAGIC, Pair, der, make_pair, signed
from tests.support.small_image import BUILT, DRIVER, KERNEL, MODULES, VARIANT, Guest, kernel_module, manifest

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


def said(guest: Guest, folder: Path, pair: Pair) -> str:
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
    assert said(guest, tmp_path, pair) == "; ".join(f"{at}/nvidia-current-uvm.ko.xz is not signed" for at in places)


def test_dkms_copy_must_be_signed_too(guest: Guest, tmp_path: Path, pair: Pair) -> None:
    guest.files[f"{BUILT}/nvidia-current.ko.xz"] = lzma.compress(MODULE)
    assert said(guest, tmp_path, pair) == f"{BUILT}/nvidia-current.ko.xz is not signed"


def test_a_module_signed_with_another_key_is_named(guest: Guest, tmp_path: Path, pair: Pair, other: Pair) -> None:
    put(guest, "nvidia-current", signed(MODULE, other))
    assert "nvidia-current.ko.xz is signed with another key, or was changed since" in said(guest, tmp_path, pair)


def test_a_signature_cannot_bring_the_certificate_that_vouches_for_it(
    guest: Guest, tmp_path: Path, pair: Pair, other: Pair
) -> None:
    put(guest, "nvidia-current", signed(MODULE, other, with_certificate=True))
    assert "nvidia-current.ko.xz is signed with another key" in said(guest, tmp_path, pair)


def test_a_module_that_was_changed_after_it_was_signed_is_named(guest: Guest, tmp_path: Path, pair: Pair) -> None:
    put(guest, "nvidia-current", signed(MODULE, pair).replace(b"version=550", b"version=551"))
    assert "nvidia-current.ko.xz is signed with another key, or was changed since" in said(guest, tmp_path, pair)


def test_a_signature_that_kernels_do_not_look_at_is_named(guest: Guest, tmp_path: Path, pair: Pair) -> None:
    put(guest, "nvidia-current", MODULE + bytes(12) + MAGIC)
    assert "nvidia-current.ko.xz has a signature of an unknown kind" in said(guest, tmp_path, pair)


def test_another_module_of_dkms_must_be_signed_too(guest: Guest, tmp_path: Path, pair: Pair) -> None:
    guest.files[f"/usr{MODULES}/updates/dkms/gdrdrv.ko"] = MODULE
    assert said(guest, tmp_path, pair) == f"{MODULES}/updates/dkms/gdrdrv.ko is not signed"


@pytest.mark.parametrize("missing", ["guest", "ESP"])
def test_the_certificate_must_lie_where_owners_find_it(
    guest: Guest, tmp_path: Path, pair: Pair, other: Pair, missing: str
) -> None:
    if missing == "guest":
        guest.files[PLACED] = der(other.certificate)
        assert said(guest, tmp_path, pair) == f"{PLACED} is not the declared certificate"
    else:
        del guest.esp["EFI/gpu-image/module-signing.der"]
        assert "module-signing.der on the ESP is not the declared certificate" in said(guest, tmp_path, pair)
