"""Rocky and AlmaLinux guests, built with real dnf, rpm, DKMS and dracut from packages of our own with real names."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.artifacts import store
from pipelines.build import elements as build_elements
from pipelines.diskimage import filesystem_readers, gpt, qemu_img
from tests.support.command_line import Inv
from tests.support.fakes.web_server import WebServer
from tests.support.standins import rocky, rocky_site, rocky_tree, rpm
from tests.support.standins.guest import Guest
from tests.support.standins.rocky_site import Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PHASES = ("pre-install.d", "install.d", "post-install.d")
ELEMENTS = ("trusted-base", "redhat-family", "driver-prerequisites", "nvidia-packages", "nvidia-repository")
# Of DIB's own elements, those that prepare what the guest here has already.
PREPARED = frozenset({"trusted-base", "install-bin", "install-static", "manifests", "pkg-map", "modprobe"})
CATALOG = """\
version: 1
images:
  {distribution}-cuda:
    base: {{distribution: {distribution}, release: "9", source: cloud-image, path: "{path}", signature: none}}
    disk: {{size: 6GiB, filesystem: xfs}}
    driver: {{source: nvidia-repo, branch: 580, modules: open}}
    nvidia_repository:
      url: "{repository}"
      keyring_url: "{repository}/D42D0685.pub"
      keyring_sha256: {sha256}
    environment: {{DIB_DISTRIBUTION_MIRROR: "{mirror}"}}
"""


@pytest.fixture
def server() -> Iterator[WebServer]:
    made = WebServer()
    made.start()
    yield made
    made.stop()


def guest_of(site: Site, folder: Path) -> Guest:
    """A guest with the distribution's name and the tree's packages."""
    guest = Guest(folder, rocky_tree.tree())
    release = rocky.release_package(site.release, site.mirror, rocky_site.key("rocky"), site.distribution)
    (package,) = rpm.build([release], guest.changes / "root")
    result = guest.run(f"rpm --install --nosignature /root/{package.name}\nldconfig")
    assert result.returncode == 0, result.stdout
    return guest


def built(site: Site, guest: Guest) -> "subprocess.CompletedProcess[str]":
    """Run the elements' phases in DIB's order, as a build of an image does up to the driver."""
    elements = build_elements.cumulative({"driver": ELEMENTS})["driver"]
    shutil.copy(site.key_file, site.folder / "keyring")
    environment = {
        "DIB_BASE_DISTRIBUTION": site.distribution,
        "DIB_RELEASE": site.release,
        "DIB_DISTRIBUTION_MIRROR": site.mirror,
        "DIB_GUEST_MIRROR": "",
        "DIB_NVIDIA_SOURCE": "nvidia-repo",
        "DIB_NVIDIA_MODULES": "open",
        "DIB_NVIDIA_BRANCH": "580",
        "DIB_NVIDIA_VERSION": "",
        "DIB_NVIDIA_DESKTOP": "0",
        "DIB_NVIDIA_KEYRING": str(site.folder / "keyring"),
        "DIB_NVIDIA_REPOSITORY": site.repository,
        "IMAGE_ELEMENT": " ".join(elements),
        "ELEMENTS_PATH": ":".join(sorted({str(path.parent) for path in elements.values()})),
        "IMAGE_NAME": "image",
    }
    return guest.phases(elements, environment, *PHASES, known=PREPARED)


@pytest.mark.parametrize(("distribution", "release"), [("rocky", "10"), ("almalinux", "9"), ("almalinux", "10")])
def test_with_and_without_modularity_the_driver_is_compiled_for_the_guests_kernel(
    server: WebServer, tmp_path: Path, distribution: str, release: str
) -> None:
    site = rocky_site.build(server, tmp_path / "site", release, distribution=distribution)
    guest = guest_of(site, tmp_path / "guest")
    result = built(site, guest)
    assert result.returncode == 0, result.stdout
    assert f"Kernel contract holds: kernel {rocky.kernel(release)}, NVIDIA 580.95.05 (open), 3 modules" in result.stdout
    held = guest.run("guest-os held-packages").stdout.split()
    assert {"kernel-core", "kernel-devel", "kmod-nvidia-open-dkms", "nvidia-driver-cuda", "libnvidia-ml"} <= set(held)


def test_on_rocky_9_modules_of_another_version_than_the_user_space_break_the_contract(
    server: WebServer, tmp_path: Path
) -> None:
    site = rocky_site.build(server, tmp_path / "site", "9")
    site.add_driver(rocky.driver_packages(modules_version="580.65.06"))
    result = built(site, guest_of(site, tmp_path / "guest"))
    assert result.returncode != 0
    assert "the modules are 580.65.06" in result.stdout


@pytest.mark.parametrize("distribution", ["rocky", "almalinux"])
def test_an_image_is_built_and_all_of_it_is_good(
    server: WebServer, tmp_path: Path, inv: Inv, distribution: str
) -> None:
    site = rocky_site.build(server, tmp_path / "site", "9", distribution=distribution, dkms_in_mirror=True)
    site.cloud_image(tmp_path / "image.tar")
    images = tmp_path / "images.yaml"
    images.write_text(
        CATALOG.format(
            distribution=distribution,
            path=tmp_path / "image.tar",
            mirror=site.mirror,
            repository=site.repository,
            sha256=site.key_sha256,
        )
    )
    here = ("--catalog", images, "--builds", tmp_path / "builds")
    made = inv("build", f"{distribution}-cuda", *here)
    assert made.returncode == 0, made.stderr
    checks = json.loads(inv("verify", f"{distribution}-cuda", "--json", *here).stdout)["checks"]
    assert [check for check in checks if check["passed"] is False] == []
    build = store.newest_complete(tmp_path / "builds", f"{distribution}-cuda")
    assert build.manifest().packages["nvidia-driver-cuda"] == "3:580.95.05-1.el9"
    assert f"kernel-{rocky_site.OLD_KERNEL}" not in build.manifest().packages
    assert label_of(build.image(), "etc/shadow").startswith("system_u:object_r:shadow_t")


def label_of(image: Path, path: str) -> str:
    """A file's SELinux label in an image whose root is xfs."""
    with qemu_img.raw(image) as raw:
        root = gpt.partition_table(raw).partitions[-1]
        with filesystem_readers.mounted(raw, root) as mounted:
            return os.getxattr(f"{mounted.root}/{path}", "security.selinux").decode()
