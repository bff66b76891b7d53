"""The main job with the real diskimage-builder, driver, QEMU, Keystone and Glance."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.artifacts import store
from pipelines.devcloud import manager
from pipelines.glance import client
from pipelines.release import cloud_images
from tests.support.command_line import Inv
from tests.support.paths import BUILDS, PROJECT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

Real = Callable[[str], store.Build]


def left_on_the_host(builds: Path) -> list[str]:
    """Mounts, loop devices, processes and temporary trees of builds below a folder."""
    mounted = Path("/proc/mounts").read_text().splitlines()
    # Another test may be making its test doubles beside the builds at this moment.
    mounts = [line for line in mounted if f"{builds}/" in line and f"{builds}/.standins/" not in line]
    loops = subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout.splitlines()
    found = subprocess.run(
        ["pgrep", "-fa", f"disk-image-create.*{builds}/"], capture_output=True, text=True, check=False
    )
    trees = [str(path) for path in builds.glob("*/*/scratch")]
    return [*mounts, *(loop for loop in loops if str(builds) in loop), *found.stdout.splitlines(), *trees]


def checks(inv: Inv, name: str, *arguments: str) -> tuple[int, dict[str, bool | None], dict[str, str]]:
    result = inv("verify", name, "--json", *arguments)
    found = json.loads(result.stdout)["checks"]
    passed = {check["name"]: check["passed"] for check in found}
    return result.returncode, passed, {check["name"]: check["detail"] for check in found}


def test_a_small_image_is_built_for_real_and_is_good(real: Real, inv: Inv) -> None:
    made = real("debian-base")
    code, passed, details = checks(inv, "debian-base")
    assert [name for name, good in passed.items() if good is False] == [], details
    assert code == 0
    about = made.manifest()
    assert about.kernel.startswith("6.12.")
    assert "cloud-init" in about.packages
    assert not any(package.startswith("nvidia") for package in about.packages)


def test_a_real_build_leaves_nothing_on_the_host(real: Real) -> None:
    made = real("debian-base")
    assert left_on_the_host(BUILDS) == []
    assert {path.name for path in made.folder.iterdir()} <= {
        "build.log",
        "image.qcow2",
        "manifest.json",
        "state.json",
        "sbom.cdx.json",
        "verify.json",
        *(path.name for path in made.folder.glob("console-*.log")),
    }


def test_the_kernel_contract_holds_in_the_finished_image(real: Real, inv: Inv) -> None:
    made = real("debian-cuda")
    code, passed, details = checks(inv, "debian-cuda")
    assert code == 0, details
    assert passed["driver-modules"] is True
    about = made.manifest()
    assert about.packages["nvidia-smi"].startswith(f"{about.driver['version']}-")
    assert about.driver["version"].startswith("550.")
    assert f"linux-headers-{about.kernel}" in about.packages


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_the_gpu_image_boots_and_its_driver_loads(real: Real, inv: Inv, firmware: str) -> None:
    made = real("debian-cuda")
    code, passed, details = checks(inv, "debian-cuda", "--firmware", firmware)
    assert code == 0, details
    assert passed["driver-loads"] is True
    assert passed["root-grew"] is True
    assert passed["cloud-init"] is True
    assert (made.folder / f"console-{firmware}.log").stat().st_size > 0


def test_under_secure_boot_the_image_boots_and_the_driver_is_rejected_as_expected(real: Real, inv: Inv) -> None:
    real("debian-cuda")
    code, passed, details = checks(inv, "debian-cuda", "--firmware", "secure")
    assert code == 0, details
    assert passed["boot-reached"] is True
    assert "reject" in details["driver-loads"].lower()


def test_the_image_is_released_to_a_real_glance_and_comes_back_the_same(
    real: Real, inv: Inv, roomy_cloud: manager.LocalCloud, tmp_path: Path
) -> None:
    made = real("debian-cuda").manifest()
    mine = {"OS_CLIENT_CONFIG_FILE": str(renamed(roomy_cloud.clouds_file, tmp_path))}
    first = inv("upload", "--cloud", "proving-ground", "--only", "debian-cuda", **mine)
    assert first.returncode == 0, first.stderr
    listed = json.loads(inv("status", "--cloud", "proving-ground", "--only", "debian-cuda", "--json", **mine).stdout)
    (row,) = listed
    assert (row["variant"], row["state"], row["build_id"]) == ("debian-cuda", "current", made.build_id)
    cloud = client.connect("local", file=roomy_cloud.clouds_file)
    (image,) = cloud_images.current(cloud, "debian-cuda")
    assert image.properties["hw_firmware_type"] == "uefi"
    assert image.properties["gpu_image_sha256"] == made.artifact.sha256
    with (tmp_path / "again.qcow2").open("wb") as sink:
        cloud.download(image.id, sink)
    with (tmp_path / "again.qcow2").open("rb") as source:
        assert hashlib.file_digest(source, "sha256").hexdigest() == made.artifact.sha256
    second = inv("upload", "--cloud", "proving-ground", "--only", "debian-cuda", **mine)
    assert second.returncode == 0
    assert (
        json.loads(inv("status", "--cloud", "proving-ground", "--only", "debian-cuda", "--json", **mine).stdout)
        == listed
    )
    assert inv("plan", "--cloud", "proving-ground", "--only", "debian-cuda", "--check", **mine).returncode == 0


def renamed(clouds_file: Path, folder: Path) -> Path:
    """The local cloud as an operator would have one, in a clouds.yaml and under a name of its own."""
    import yaml

    local = yaml.safe_load(clouds_file.read_text())["clouds"]["local"]
    path = folder / "clouds.yaml"
    path.write_text(yaml.safe_dump({"clouds": {"proving-ground": local}}))
    return path


@pytest.mark.parametrize("phase", ["root.d/08-debootstrap", "install.d/01-package-installs"])
def test_sigterm_during_a_real_build_leaves_nothing_behind(tmp_path: Path, phase: str) -> None:
    builds = tmp_path / "builds"
    argv = [sys.executable, "-m", "invoke", "--search-root", PROJECT, "build", "debian-base", "--builds", builds]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        deadline = time.monotonic() + 300
        while not any(f"{phase}\n" in log.read_text() for log in builds.glob("*/*/build.log")):
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.5)
        time.sleep(3)  # well inside the phase, with its mounts and programs
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=60) == 143
    assert left_on_the_host(builds) == []


def test_a_dead_mirror_ends_a_real_build_with_its_name_and_the_remedy(inv: Inv, tmp_path: Path) -> None:
    images = tmp_path / "images.yaml"
    images.write_text(
        "version: 1\nimages:\n  plain:\n    base: {distribution: debian, release: trixie}\n    disk: {size: 4GiB}\n"
        "    environment: {DIB_DISTRIBUTION_MIRROR: 'http://127.0.0.1:9/debian'}\n"
    )
    result = inv("build", "plain", "--catalog", images, "--builds", tmp_path / "builds")
    assert result.returncode == 3
    assert "08-debootstrap" in result.stderr
    assert "127.0.0.1:9" in result.stderr
    assert "mirror failed" in result.stderr
    assert left_on_the_host(tmp_path) == []
