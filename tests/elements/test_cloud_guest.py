"""Package sources that cloud-init writes at first boot."""

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.chroot import Chroot
from tests.support.paths import ELEMENTS

PHASE = ELEMENTS / "cloud-guest/install.d/60-write-apt-template"
WRITTEN = "/etc/cloud/cloud.cfg.d/90-gpu-image-apt.cfg"


@pytest.fixture
def chroot(tmp_path: Path) -> Chroot:
    root = Chroot(tmp_path)
    root.file("/etc/cloud/cloud.cfg.d/README")
    return root


def settings(root: Chroot, tmp_path: Path, **environment: str) -> dict[str, object]:
    """What cloud-init reads about apt after the phase."""
    script = tmp_path / "phase"
    script.write_text(f"{PHASE.read_text()}\ncat {WRITTEN}\n")
    done = root.run(script, **environment)
    assert done.returncode == 0, done.stdout
    return yaml.safe_load(done.stdout.split("kernel left")[0])["apt"]


def test_a_debian_guest_gets_its_components_from_its_distributions_mirrors(chroot: Chroot, tmp_path: Path) -> None:
    asked = {"DISTRO_NAME": "debian", "DIB_DEBIAN_COMPONENTS": "main,non-free", "DIB_GUEST_MIRROR": ""}
    apt = settings(chroot, tmp_path, **asked)
    assert "deb $SECURITY $RELEASE-security main non-free" in str(apt["sources_list"])
    assert "primary" not in apt


@pytest.mark.parametrize(
    ("distribution", "security"), [("debian", "http://m.example/d-security"), ("ubuntu", "http://m.example/d")]
)
def test_a_sites_mirror_serves_updates_and_security(
    chroot: Chroot, tmp_path: Path, distribution: str, security: str
) -> None:
    apt = settings(chroot, tmp_path, DISTRO_NAME=distribution, DIB_GUEST_MIRROR="http://m.example/d")
    assert apt["primary"] == [{"arches": ["default"], "uri": "http://m.example/d"}]
    assert apt["security"] == [{"arches": ["default"], "uri": security}]


def test_an_ubuntu_guest_without_a_mirror_keeps_its_own_template(chroot: Chroot, tmp_path: Path) -> None:
    script = tmp_path / "phase"
    script.write_text(f"{PHASE.read_text()}\n[ ! -e {WRITTEN} ] && echo absent\n")
    done: subprocess.CompletedProcess[str] = chroot.run(script, DISTRO_NAME="ubuntu", DIB_GUEST_MIRROR="")
    assert "absent" in done.stdout
