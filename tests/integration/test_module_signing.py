"""A kernel under Secure Boot, which accepts modules signed with a site's key and no others.

The driver is a test double: small, real modules that DKMS compiles and a real kernel judges.
"""

import json
from pathlib import Path

import pytest
import yaml

from pipelines.artifacts import store
from tests.support.command_line import Inv
from tests.support.signing import Pair, make_pair
from tests.support.standins import driver

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

NAME = "debian-signed"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def built(pair: Pair, inv: Inv, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The catalog and the folder of builds, with a build whose modules are signed."""
    folder = tmp_path_factory.mktemp("signed")
    image = {
        "base": {"distribution": "debian", "release": "trixie"},
        "disk": {"size": "8GiB"},
        "driver": {"source": "local", "path": str(driver.local_folder(folder / "packages")), "modules": "open"},
        "secrets": {
            "module-signing-key": {"file": str(pair.key)},
            "module-signing-certificate": {"env": "SITE_CERTIFICATE"},
        },
        "glance": {"properties": {"os_secure_boot": "required"}},
    }
    catalog, builds = folder / "images.yaml", folder / "builds"
    catalog.write_text(yaml.safe_dump({"version": 1, "images": {NAME: image}}))
    result = inv("build", NAME, "--catalog", catalog, "--builds", builds, SITE_CERTIFICATE=pair.certificate.read_text())
    assert result.returncode == 0, result.stderr
    return catalog, builds


def test_the_finished_image_has_signed_modules_and_no_key(built: tuple[Path, Path], pair: Pair) -> None:
    made = store.newest_complete(built[1], NAME)
    checks = {check["name"]: check for check in json.loads((made.folder / "verify.json").read_text())["checks"]}
    assert [check for check in checks.values() if check["passed"] is False] == []
    for name in ("module-signatures", "dkms", "private-keys"):
        assert checks[name]["passed"] is True
    assert made.manifest().driver["certificate"] == pair.certificate.read_text()


def test_nothing_of_the_key_is_left_beside_the_image(built: tuple[Path, Path], pair: Pair) -> None:
    line = pair.key.read_bytes().splitlines()[1]
    small = [path for path in built[1].rglob("*") if path.is_file() and path.suffix != ".qcow2"]
    assert [path for path in small if line in path.read_bytes()] == []
    assert "build.log" in {path.name for path in small}


def test_under_secure_boot_an_enrolled_certificate_admits_the_driver_and_nothing_unsigned(
    built: tuple[Path, Path], inv: Inv
) -> None:
    catalog, builds = built
    result = inv("verify", NAME, "--catalog", catalog, "--builds", builds, "--boot", "--json")
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert result.returncode == 0, checks
    assert checks["boot-firmware"]["detail"] == "UEFI with Secure Boot"
    assert "finds no GPU" in checks["driver-loads"]["detail"]
    assert "without its signature: " in checks["unsigned-refused"]["detail"]
    assert checks["unsigned-refused"]["passed"] is True
