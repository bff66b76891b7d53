"""Kernel packages for every release, flavour and architecture.

DIB's own package-installs-squash says what is asked for, and DIB's own pkg-map how a release calls it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import DIB_ELEMENTS, ELEMENTS

TABLE = {
    ("debian bookworm", "generic", "amd64"): "linux-image-amd64 linux-headers-amd64",
    ("debian trixie", "generic", "amd64"): "linux-image-amd64 linux-headers-amd64",
    ("debian trixie", "generic", "arm64"): "linux-image-arm64 linux-headers-arm64",
    ("debian trixie", "cloud", "amd64"): "linux-image-cloud-amd64 linux-headers-cloud-amd64",
    ("debian trixie", "cloud", "arm64"): "linux-image-cloud-arm64 linux-headers-cloud-arm64",
    ("ubuntu jammy", "generic", "amd64"): "linux-image-generic linux-headers-generic",
    ("ubuntu noble", "cloud", "amd64"): "linux-image-virtual linux-headers-virtual",
    ("ubuntu noble", "generic", "arm64"): "linux-image-generic linux-headers-generic",
    ("ubuntu jammy", "hwe", "amd64"): "linux-image-generic-hwe-22.04 linux-headers-generic-hwe-22.04",
    ("ubuntu noble", "hwe", "arm64"): "linux-image-generic-hwe-24.04 linux-headers-generic-hwe-24.04",
    ("ubuntu resolute", "hwe", "amd64"): "linux-image-generic-hwe-26.04 linux-headers-generic-hwe-26.04",
    ("rocky 9", "generic", "amd64"): "kernel kernel-devel-matched",
    ("almalinux 9", "generic", "amd64"): "kernel kernel-devel-matched",
    ("almalinux 10", "generic", "arm64"): "kernel kernel-devel-matched",
    ("rhel 10", "generic", "arm64"): "kernel kernel-devel-matched",
}


def asked_for(folder: Path, flavour: str, architecture: str, headers: str = "1") -> list[str]:
    """The names that the element asks for, before any release's own."""
    told = {"DIB_KERNEL_FLAVOUR": flavour, "DIB_KERNEL_HEADERS": headers, "ARCH": architecture}
    squash = DIB_ELEMENTS / "package-installs/bin/package-installs-squash"
    argv = [sys.executable, squash, "--elements", "target-kernel", "--path", ELEMENTS, folder / "asked.json"]
    subprocess.run(argv, env=os.environ | told, check=True, capture_output=True)
    return [name for name, _ in json.loads((folder / "asked.json").read_text())["install.d"]["install"]]


def called(release: str, *names: str) -> str:
    distribution, number = release.split()
    argv = [sys.executable, DIB_ELEMENTS / "pkg-map/bin/pkg-map", "--pkg-map", ELEMENTS / "target-kernel/pkg-map"]
    argv += ["--distro", distribution, "--release", number, *names]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    return " ".join(result.stdout.split()) if result.returncode == 0 else "refused"


@pytest.mark.parametrize(("release", "flavour", "architecture"), TABLE)
def test_each_flavour_is_the_releases_own_kernel(tmp_path: Path, release: str, flavour: str, architecture: str) -> None:
    names = asked_for(tmp_path, flavour, architecture)
    assert called(release, *names) == TABLE[release, flavour, architecture]


@pytest.mark.parametrize(("release", "flavour"), [("debian trixie", "hwe"), ("rocky 9", "cloud"), ("rhel 10", "hwe")])
def test_a_flavour_that_a_distribution_does_not_have_has_no_name(tmp_path: Path, release: str, flavour: str) -> None:
    assert called(release, *asked_for(tmp_path, flavour, "amd64")) == "refused"


def test_without_headers_the_kernel_alone_is_asked_for(tmp_path: Path) -> None:
    assert asked_for(tmp_path, "generic", "amd64", headers="0") == ["kernel-image-generic-amd64"]
