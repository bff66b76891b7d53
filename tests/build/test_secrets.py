"""Secrets on their way into a build. diskimage-builder is a fake on PATH here."""

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.build import builder, secrets
from pipelines.catalog import loader
from pipelines.catalog.variant import Variant
from pipelines.util.errors import HostError
from tests.support.paths import FAKES
from tests.support.signing import Pair, make_pair

NOW = datetime(2026, 11, 22, 3, 0, 0, tzinfo=UTC)
# What the fake does first: it shows where the secrets are mounted, and what it was given.
SPY = """#!/bin/bash
set -eu
echo "stdin: $(wc -c)"
echo "argv: $*"
grep " $DIB_GPU_IMAGE_SECRETS " /proc/self/mounts
stat --format '%a %U' "$DIB_GPU_IMAGE_SECRETS"
stat --format '%n %a %U' "$DIB_GPU_IMAGE_SECRETS"/*
sha256sum "$DIB_GPU_IMAGE_SECRETS"/*
FAKES/disk-image-create "$@"
if [ -e "$TMP_DIR/image.d" ]; then
    sed -i 's/"driver": ""/"driver": "550.163.01"/' "$TMP_DIR/image.d/gpu-image.json"
fi
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def spied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for builds by a fake diskimage-builder that prints what it sees."""
    spy = tmp_path / "bin" / "disk-image-create"
    spy.parent.mkdir()
    spy.write_text(SPY.replace("FAKES", str(FAKES)))
    spy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{spy.parent}:{os.environ['PATH']}")
    return tmp_path / "builds"


def variant(tmp_path: Path, key: str, certificate: str) -> Variant:
    path = tmp_path / "images.yaml"
    path.write_text(
        "version: 1\nimages:\n  signed:\n    base: {distribution: debian, release: trixie}\n    disk: {size: 1GiB}\n"
        "    driver: {source: archive, modules: proprietary}\n"
        f"    secrets: {{module-signing-key: {key}, module-signing-certificate: {certificate}}}\n"
    )
    return loader.load(path).variants["signed"]


def of_files(tmp_path: Path, pair: Pair) -> Variant:
    return variant(tmp_path, f"{{file: {pair.key}}}", f"{{file: {pair.certificate}}}")


# Where they are


def test_secrets_are_read_from_files_variables_and_tokens(
    tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITE_CERTIFICATE", pair.certificate.read_text())
    by_file = secrets.read(variant(tmp_path, f"{{file: {pair.key}}}", "{env: SITE_CERTIFICATE}"))
    assert by_file["module-signing-key"] == pair.key.read_bytes()
    assert by_file["module-signing-certificate"] == pair.certificate.read_bytes()
    by_token = secrets.read(variant(tmp_path, '{pkcs11: "pkcs11:token=hsm;object=key"}', "{env: SITE_CERTIFICATE}"))
    assert by_token["module-signing-key"] == b"pkcs11:token=hsm;object=key"


@pytest.mark.parametrize(
    ("place", "says"), [("{file: /nowhere/key}", "/nowhere/key does not exist"), ("{env: NOT_SET}", r"\$NOT_SET")]
)
def test_a_missing_secret_is_reported_before_anything_starts(
    tmp_path: Path, pair: Pair, spied: Path, place: str, says: str
) -> None:
    with pytest.raises(HostError, match=says):
        builder.build(variant(tmp_path, place, f"{{file: {pair.certificate}}}"), spied, NOW)
    assert not list(spied.glob("signed/*"))


def test_a_certificate_is_known_as_pem_however_it_was_given(pair: Pair, tmp_path: Path) -> None:
    argv = ["openssl", "x509", "-in", pair.certificate, "-outform", "DER", "-out", tmp_path / "certificate.der"]
    subprocess.run(argv, check=True)
    for given in (pair.certificate.read_bytes(), (tmp_path / "certificate.der").read_bytes()):
        assert secrets.certificate({"module-signing-certificate": given}) == pair.certificate.read_text()
    assert secrets.certificate({}) is None


def test_an_invalid_certificate_is_refused() -> None:
    with pytest.raises(HostError, match=r"not a valid X\.509 certificate"):
        secrets.certificate({"module-signing-certificate": b"-----BEGIN CERTIFICATE-----\nno\n"})


# On their way


@pytest.fixture
def made(tmp_path: Path, pair: Pair, spied: Path) -> Path:
    """The builds folder after a build with secrets."""
    builder.build(of_files(tmp_path, pair), spied, NOW)
    return spied


def log_of(builds: Path) -> list[str]:
    (log,) = builds.glob("signed/*/build.log")
    return log.read_text().splitlines()


def test_the_build_finds_them_in_memory_for_root_alone(made: Path, pair: Pair) -> None:
    log = log_of(made)
    (mount,) = {line for line in log if " ramfs " in line}  # the same in each run
    assert mount.endswith("/scratch/secrets ramfs rw,relatime,mode=700 0 0")
    assert "700 root" in log
    files = {Path(line.split()[0]).name: line.split()[1:] for line in log if line.startswith("/")}
    assert files == {"module-signing-key": ["600", "root"], "module-signing-certificate": ["600", "root"]}
    given = subprocess.run(["sha256sum", pair.key], capture_output=True, text=True, check=True).stdout.split()[0]
    assert any(line.startswith(f"{given} ") and line.endswith("/module-signing-key") for line in log)


def test_nothing_can_be_read_from_the_builds_standard_input(made: Path) -> None:
    assert "stdin: 0" in log_of(made)


def test_a_secret_is_in_no_file_no_argv_and_no_environment(made: Path, pair: Pair) -> None:
    lines = [line for line in pair.key.read_text().splitlines() if "PRIVATE" not in line]
    for path in made.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(line.encode() in content for line in lines), path
    assert (made / "signed").exists()


def test_nothing_of_them_stays_mounted_or_on_disk(made: Path) -> None:
    assert "scratch/secrets" not in Path("/proc/mounts").read_text()
    assert not list(made.rglob("secrets"))


def test_the_manifest_has_the_certificate_which_is_public(made: Path, pair: Pair) -> None:
    (path,) = made.glob("signed/*/manifest.json")
    assert json.loads(path.read_text())["driver"]["certificate"] == pair.certificate.read_text()


def test_a_variant_without_secrets_gets_no_place_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{FAKES}:{os.environ['PATH']}")
    path = tmp_path / "images.yaml"
    path.write_text(
        "version: 1\nimages:\n  plain: {base: {distribution: debian, release: trixie}, disk: {size: 1GiB}}\n"
    )
    plain = builder.build(loader.load(path).variants["plain"], tmp_path / "builds", NOW)
    assert "DIB_GPU_IMAGE_SECRETS" not in (plain.folder / "image.env").read_text()
