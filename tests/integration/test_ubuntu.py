"""ubuntu-cuda built from end to end; only Ubuntu's and NVIDIA's own packages are test doubles."""

import json
from pathlib import Path

import pytest
import yaml

from pipelines.artifacts import store
from tests.support.command_line import Inv
from tests.support.fakes import web_server
from tests.support.paths import PROJECT
from tests.support.standins import cloud_image, driver, workshop
from tests.support.standins.site import Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

NAME = "ubuntu-cuda"


def images_yaml(site: Site, folder: Path) -> Path:
    """The project's own entry; only where things come from is replaced, and whose key signs the image."""
    images = yaml.safe_load((PROJECT / "images.yaml").read_text())["images"]
    images[NAME]["base"] |= {
        "url": site.image_url,
        "sha256sums_url": site.sums_url,
        "signed_by": site.image_key.fingerprint,
        "keyring": str(site.image_key.keyring),
    }
    images[NAME]["environment"] = {"DIB_DISTRIBUTION_MIRROR": site.mirror}
    path = folder / "images.yaml"
    wanted = {name: images[name] for name in (images[NAME]["parent"], NAME)}
    path.write_text(yaml.safe_dump({"version": 1, "images": wanted}))
    return path


@pytest.fixture(scope="module")
def built(site: Site, inv: Inv, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The catalog and the folder of builds, with a build of ubuntu-cuda."""
    folder = tmp_path_factory.mktemp("ubuntu")
    site.add(workshop.boot_loader(site, folder / "workshop"))
    catalog, builds = images_yaml(site, folder), folder / "builds"
    result = inv("build", NAME, "--catalog", catalog, "--builds", builds)
    assert result.returncode == 0, result.stderr
    return catalog, builds


def test_the_build_is_good_and_the_kernel_contract_holds_in_it(built: tuple[Path, Path]) -> None:
    made = store.newest_complete(built[1], NAME)
    checks = {check["name"]: check for check in json.loads((made.folder / "verify.json").read_text())["checks"]}
    assert [check for check in checks.values() if check["passed"] is False] == []
    for name in ("kernel", "driver-modules", "dkms", "headers", "user-space", "nouveau", "holds"):
        assert checks[name]["passed"] is True


def test_the_driver_is_ubuntus_server_branch_with_open_modules(built: tuple[Path, Path]) -> None:
    about = store.newest_complete(built[1], NAME).manifest()
    assert about.driver == {"version": driver.VERSION, "modules": "open", "source": "archive"}
    assert about.packages["nvidia-dkms-580-server-open"].startswith(driver.VERSION)
    assert "nvidia-dkms-580-server" not in about.packages


def test_the_manifest_has_the_base_and_the_key_that_signed_it(built: tuple[Path, Path], site: Site) -> None:
    about = store.newest_complete(built[1], NAME).manifest()
    assert about.base["sha256"] == site.image_sha256
    assert about.base["signed_by"] == site.image_key.fingerprint
    assert (about.base["distribution"], about.base["release"]) == ("ubuntu", "24.04")


def test_nothing_is_left_to_do_after_the_build(built: tuple[Path, Path], inv: Inv) -> None:
    catalog, builds = built
    assert inv("plan", "--catalog", catalog, "--builds", builds, "--check").returncode == 0


def test_the_image_boots_under_uefi_and_its_driver_loads(built: tuple[Path, Path], inv: Inv) -> None:
    catalog, builds = built
    result = inv("verify", NAME, "--catalog", catalog, "--builds", builds, "--firmware", "uefi", "--json")
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert result.returncode == 0, checks
    assert "finds no GPU" in checks["driver-loads"]["detail"]
    assert checks["cloud-init"]["passed"] is True


def refused(site: Site, inv: Inv, folder: Path) -> str:
    """What the operator reads when a build is refused for its base, of which nothing is kept."""
    builds = folder / "builds"
    result = inv("build", NAME, "--catalog", images_yaml(site, folder), "--builds", builds)
    assert result.returncode == 3, result.stderr
    assert [path for path in builds.rglob("*") if path.is_file() and path.stat().st_size > 10_000] == []
    assert store.builds(builds, NAME) == []
    return result.stderr


def test_an_image_that_was_tampered_with_is_refused_and_not_cached(site: Site, inv: Inv, tmp_path: Path) -> None:
    content = bytearray(cloud_image.squashfs(site.tree).read_bytes())
    content[-1] ^= 1
    site.server.on(f"/{cloud_image.NAME}.squashfs", web_server.instead(bytes(content)))
    assert site.image_sha256 in refused(site, inv, tmp_path)


def test_checksums_that_were_tampered_with_are_refused(site: Site, inv: Inv, tmp_path: Path) -> None:
    forged = f"{'0' * 64} *{cloud_image.NAME}.squashfs\n".encode()
    site.server.on("/SHA256SUMS$", web_server.instead(forged))
    assert "changed after it was signed" in refused(site, inv, tmp_path)
