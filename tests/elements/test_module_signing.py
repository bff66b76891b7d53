"""Signing of modules as the kernel wants it, and refusal of what the kernel would refuse.

Its results are judged by the same code that judges finished images; the kernel's own word is in tests/integration.
"""

import gzip
import lzma
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pipelines.util import compression
from pipelines.verify.module_signatures import fault
from tests.support.paths import ELEMENTS
from tests.support.signing import Pair, certified_again, der, make_pair
from tests.support.small_image import kernel_module

pytestmark = pytest.mark.slow

ELEMENT = ELEMENTS / "module-signing"
PROGRAM = ELEMENT / "host-bin/module-signing-sign"
KERNEL = "6.12.1-amd64"
INSTALLED = f"usr/lib/modules/{KERNEL}/updates/dkms"
BUILT = f"var/lib/dkms/nvidia-current/550.163.01/{KERNEL}/x86_64/module"
MODULE = kernel_module("version=550.163.01", f"vermagic={KERNEL} SMP")
PIN = "12#3$4 5"  # with what shells and configuration files trip over


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Somebody else's key."""
    return make_pair(tmp_path_factory.mktemp("keys"), "other")


@pytest.fixture
def secrets(tmp_path: Path, pair: Pair) -> Path:
    """The folder of a build's secrets, as the build's command makes it."""
    return bound(tmp_path / "secrets", pair)


def bound(folder: Path, pair: Pair) -> Path:
    folder.mkdir()
    shutil.copy(pair.key, folder / "module-signing-key")
    shutil.copy(pair.certificate, folder / "module-signing-certificate")
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A guest's tree with one module of DKMS, installed and kept, and one of the kernel's own."""
    root = tmp_path / "tree"
    for path in (INSTALLED, BUILT, "boot", f"usr/lib/modules/{KERNEL}/kernel/drivers/video"):
        (root / path).mkdir(parents=True)
    for path in (INSTALLED, BUILT):
        (root / path / "nvidia-current.ko.xz").write_bytes(lzma.compress(MODULE))
    (root / f"usr/lib/modules/{KERNEL}/kernel/drivers/video/nvidiafb.ko").write_bytes(MODULE)
    (root / "boot" / f"config-{KERNEL}").write_text('CONFIG_MODULE_SIG=y\nCONFIG_MODULE_SIG_HASH="sha256"\n')
    return root


def sign(secrets: Path, tree: Path | None = None, **environment: str) -> "subprocess.CompletedProcess[str]":
    argv = [PROGRAM, secrets, *([tree] if tree else [])]
    return subprocess.run(argv, env=os.environ | environment, capture_output=True, text=True, check=False)


def signed(secrets: Path, tree: Path, **environment: str) -> bytes:
    """The installed module after signing, as the kernel reads it."""
    result = sign(secrets, tree, **environment)
    assert result.returncode == 0, result.stderr
    return compression.decompressed(next((tree / INSTALLED).iterdir()).read_bytes())


def refused(secrets: Path, tree: Path | None = None) -> str:
    result = sign(secrets, tree)
    assert result.returncode != 0, result.stdout
    return result.stderr


# Signing


def test_a_kernel_that_trusts_the_certificate_takes_the_module(secrets: Path, tree: Path, pair: Pair) -> None:
    module = signed(secrets, tree)
    assert module.startswith(MODULE)
    assert fault(module, pair.certificate.read_text()) is None


def test_another_certificate_does_not_vouch_for_it(secrets: Path, tree: Path, other: Pair) -> None:
    assert (
        fault(signed(secrets, tree), other.certificate.read_text())
        == "is signed with another key, or was changed after signing"
    )


def test_a_changed_byte_is_noticed(secrets: Path, tree: Path, pair: Pair) -> None:
    module = signed(secrets, tree)
    changed = module.replace(b"550.163.01", b"550.163.02")
    assert fault(changed, pair.certificate.read_text()) == "is signed with another key, or was changed after signing"


def test_the_throw_away_signature_is_replaced_and_does_not_stay_below(
    secrets: Path, tree: Path, pair: Pair, other: Pair, tmp_path: Path
) -> None:
    signed(bound(tmp_path / "dkms", other), tree)
    module = signed(secrets, tree)
    assert module.count(b"~Module signature appended~") == 1
    assert fault(module, pair.certificate.read_text()) is None


def test_dkms_finds_its_copy_to_be_what_is_installed(secrets: Path, tree: Path) -> None:
    sign(secrets, tree)
    assert (tree / INSTALLED / "nvidia-current.ko.xz").read_bytes() == (
        tree / BUILT / "nvidia-current.ko.xz"
    ).read_bytes()


def test_the_kernels_own_modules_keep_the_distributions_signature(secrets: Path, tree: Path) -> None:
    sign(secrets, tree)
    assert (tree / f"usr/lib/modules/{KERNEL}/kernel/drivers/video/nvidiafb.ko").read_bytes() == MODULE


@pytest.mark.parametrize("folder", [f"usr/lib/modules/{KERNEL}/extra", f"usr/lib/modules/{KERNEL}/kernel/nvidia-580"])
def test_modules_are_signed_where_other_distributions_have_them(
    secrets: Path, tree: Path, pair: Pair, folder: str
) -> None:
    (tree / folder).mkdir()
    (tree / folder / "nvidia.ko").write_bytes(MODULE)
    sign(secrets, tree)
    assert fault((tree / folder / "nvidia.ko").read_bytes(), pair.certificate.read_text()) is None


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_a_module_is_packed_again_as_it_was(secrets: Path, tree: Path, pair: Pair, suffix: str) -> None:
    shutil.rmtree(tree / INSTALLED)
    (tree / INSTALLED).mkdir()
    plain = tree / INSTALLED / "nvidia.ko"
    plain.write_bytes(MODULE)
    packed = {".gz": gzip.compress(MODULE), ".xz": lzma.compress(MODULE)}
    if suffix == ".zst":
        subprocess.run(["zstd", "-q", "--rm", plain], check=True)
    elif suffix:
        plain.unlink()
        (tree / INSTALLED / f"nvidia.ko{suffix}").write_bytes(packed[suffix])
    begins = next((tree / INSTALLED).iterdir()).read_bytes()[:4]
    assert fault(signed(secrets, tree), pair.certificate.read_text()) is None
    assert next((tree / INSTALLED).iterdir()).read_bytes()[:4] == begins


def test_a_compressed_module_is_one_that_the_kernel_itself_can_unpack(secrets: Path, tree: Path) -> None:
    sign(secrets, tree)
    listed = subprocess.run(
        ["xz", "--list", "--robot", "-vv", tree / INSTALLED / "nvidia-current.ko.xz"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "CRC32" in listed
    assert "dict=1MiB" in listed


def test_the_digest_is_the_one_that_the_kernel_was_configured_for(secrets: Path, tree: Path) -> None:
    (tree / "boot" / f"config-{KERNEL}").write_text('CONFIG_MODULE_SIG_HASH="sha512"\n')
    assert "signed, with sha512" in sign(secrets, tree).stdout


def test_owner_and_mode_stay(secrets: Path, tree: Path) -> None:
    path = tree / INSTALLED / "nvidia-current.ko.xz"
    path.chmod(0o640)
    os.chown(path, 7, 8)
    sign(secrets, tree)
    about = path.stat()
    assert (about.st_uid, about.st_gid, about.st_mode & 0o777) == (7, 8, 0o640)


# A key in a hardware token


@pytest.fixture
def token(tmp_path: Path, pair: Pair) -> dict[str, str]:
    """A token in software that holds the key; the environment that leads to it."""
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\nobjectstore.backend = file\n")
    environment = {"SOFTHSM2_CONF": str(tmp_path / "softhsm.conf")}
    for argv in (
        ["--init-token", "--free", "--label", "site", "--so-pin", "1234"],
        ["--import", str(pair.key), "--token", "site", "--label", "modules", "--id", "01"],
    ):
        command = ["softhsm2-util", *argv, "--pin", PIN]
        subprocess.run(command, env=os.environ | environment, check=True, capture_output=True)
    return environment


URI = "pkcs11:token=site;object=modules;type=private"


def test_a_key_in_a_token_signs_the_same(secrets: Path, tree: Path, token: dict[str, str], pair: Pair) -> None:
    (secrets / "module-signing-key").write_text(f"{URI}?pin-value=12%233$4%205\n")
    assert fault(signed(secrets, tree, **token), pair.certificate.read_text()) is None


def test_a_tokens_library_may_be_named(secrets: Path, tree: Path, token: dict[str, str]) -> None:
    (secrets / "module-signing-key").write_text(f"{URI}?module-path=/nowhere.so&pin-value=12%233$4%205")
    assert "/nowhere.so" in sign(secrets, tree, **token).stderr


def test_the_pin_is_in_no_argv(secrets: Path, tree: Path, token: dict[str, str], tmp_path: Path) -> None:
    spy = tmp_path / "bin" / "openssl"
    spy.parent.mkdir()
    spy.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/argv\nexec /usr/bin/openssl "$@"\n')
    spy.chmod(0o755)
    (secrets / "module-signing-key").write_text(f"{URI};pin-value=12%233$4%205")
    signed(secrets, tree, PATH=f"{spy.parent}:{os.environ['PATH']}", **token)
    output = (tmp_path / "argv").read_text()
    assert "pin-source=file:" in output
    assert not any(pin in output for pin in (PIN, "12%23", "12#3"))


def test_a_wrong_pin_is_reported(secrets: Path, token: dict[str, str]) -> None:
    (secrets / "module-signing-key").write_text(f"{URI}?pin-value=wrong-pin")
    result = sign(secrets, **token)
    assert result.returncode != 0
    assert "PIN incorrect" in result.stderr
    assert "wrong-pin" not in result.stderr


# What cannot work is reported before anything is built


@pytest.fixture(scope="module")
def expired(tmp_path_factory: pytest.TempPathFactory, pair: Pair) -> Pair:
    """A certificate whose time is over, for the same key."""
    folder = tmp_path_factory.mktemp("expired")
    request, made = folder / "request", folder / "expired.pem"
    subject = ["-key", pair.key, "-subj", "/CN=old"]
    subprocess.run(["openssl", "req", "-new", *subject, "-out", request], check=True, capture_output=True)
    argv = ["openssl", "x509", "-req", "-in", request, "-signkey", pair.key, "-days", "-1", "-out", made]
    subprocess.run(argv, check=True, capture_output=True)
    return Pair(key=pair.key, certificate=made)


def test_a_good_pair_is_fit(secrets: Path) -> None:
    assert sign(secrets).returncode == 0


def test_a_certificate_in_der_is_fit_too(secrets: Path, pair: Pair) -> None:
    argv = [
        "openssl",
        "x509",
        "-in",
        pair.certificate,
        "-outform",
        "DER",
        "-out",
        secrets / "module-signing-certificate",
    ]
    subprocess.run(argv, check=True)
    assert sign(secrets).returncode == 0


def test_an_expired_certificate_is_refused(tmp_path: Path, expired: Pair) -> None:
    assert "module-signing-certificate expired on" in refused(bound(tmp_path / "secrets", expired))


def test_a_key_of_another_certificate_is_refused(secrets: Path, other: Pair) -> None:
    shutil.copy(other.key, secrets / "module-signing-key")
    assert "do not belong together" in refused(secrets)


def test_a_tokens_key_of_another_certificate_is_refused(secrets: Path, token: dict[str, str], other: Pair) -> None:
    shutil.copy(other.certificate, secrets / "module-signing-certificate")
    (secrets / "module-signing-key").write_text(f"{URI}?pin-value=12%233$4%205")
    assert "do not belong together" in sign(secrets, **token).stderr


@pytest.mark.parametrize(
    ("extensions", "says"),
    [
        (("keyUsage=keyEncipherment",), "for Key Encipherment, but must be for Digital Signature"),
        (("extendedKeyUsage=serverAuth",), "but must be for Code Signing"),
    ],
)
def test_a_certificate_for_other_purposes_is_refused(
    tmp_path: Path, pair: Pair, extensions: tuple[str, ...], says: str
) -> None:
    assert says in refused(bound(tmp_path / "secrets", certified_again(pair, tmp_path, extensions)))


@pytest.mark.parametrize("kind", ["rsa:1024", "ec -pkeyopt ec_paramgen_curve:P-256"])
def test_a_kind_of_key_that_not_every_kernel_takes_is_refused(tmp_path: Path, kind: str) -> None:
    assert "RSA key of 2048 to 4096 bits" in refused(bound(tmp_path / "secrets", make_pair(tmp_path, kind=kind)))


@pytest.mark.parametrize("extensions", [(), ("extendedKeyUsage=1.3.6.1.4.1.2312.16.1.2",)])
def test_a_certificate_for_everything_or_for_modules_alone_is_fit(
    tmp_path: Path, pair: Pair, extensions: tuple[str, ...]
) -> None:
    assert sign(bound(tmp_path / "secrets", certified_again(pair, tmp_path, extensions))).returncode == 0


def test_a_key_with_a_passphrase_is_refused(secrets: Path, pair: Pair) -> None:
    argv = ["openssl", "pkey", "-in", pair.key, "-aes256", "-passout", "pass:x", "-out", secrets / "module-signing-key"]
    subprocess.run(argv, check=True)
    assert "has a passphrase" in refused(secrets)


@pytest.mark.parametrize("name", ["module-signing-key", "module-signing-certificate"])
def test_what_is_neither_key_nor_certificate_is_refused(secrets: Path, name: str) -> None:
    (secrets / name).write_text("no\n")
    assert name in refused(secrets)


def test_a_tree_without_a_module_to_sign_is_refused(secrets: Path, tree: Path) -> None:
    shutil.rmtree(tree / INSTALLED)
    shutil.rmtree(tree / BUILT)
    assert f"kernel {KERNEL} has no module to sign" in refused(secrets, tree)


def test_a_kernel_that_verifies_nothing_is_refused(secrets: Path, tree: Path) -> None:
    (tree / "boot" / f"config-{KERNEL}").write_text("# CONFIG_MODULE_SIG is not set\n")
    assert "does not verify signatures" in refused(secrets, tree)


# The phases


def phase(name: str, secrets: Path, tree: Path, tmp_path: Path) -> "subprocess.CompletedProcess[str]":
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "host-bin").symlink_to(ELEMENT / "host-bin")
    environment = {"TMP_HOOKS_PATH": hooks, "TMP_MOUNT_PATH": tree, "DIB_GPU_IMAGE_SECRETS": secrets}
    return subprocess.run(
        ["bash", ELEMENT / name],
        env={"PATH": os.environ["PATH"], **{key: str(value) for key, value in environment.items()}},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_build_with_a_useless_key_ends_before_it_begins(secrets: Path, tree: Path, tmp_path: Path) -> None:
    (secrets / "module-signing-key").write_text("no\n")
    assert phase("root.d/01-check-signing-key", secrets, tree, tmp_path).returncode != 0


def test_the_guest_has_the_certificate_for_its_owner_and_no_key(
    secrets: Path, tree: Path, tmp_path: Path, pair: Pair
) -> None:
    result = phase("pre-finalise.d/50-sign-modules", secrets, tree, tmp_path)
    assert result.returncode == 0, result.stderr
    placed = tree / "usr/share/gpu-image/module-signing.der"
    assert placed.read_bytes() == der(pair.certificate)
    assert placed.stat().st_mode & 0o777 == 0o644
    assert not any(b"PRIVATE KEY" in path.read_bytes() for path in tree.rglob("*") if path.is_file())
