"""Guests with a driver from each source, which must keep the kernel contract.

The elements' own phases, with real apt, DKMS, compiler and kernel, in a prepared tree instead of a whole build. Only
Ubuntu's and NVIDIA's packages are test doubles; their modules are compiled for the guest's kernel all the same.
"""

import lzma
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pipelines.build import element_selection
from tests.support.paths import DIB_ELEMENTS, ELEMENTS
from tests.support.signing import make_pair, signed
from tests.support.standins import driver, ubuntu, workshop
from tests.support.standins.deb import Deb
from tests.support.standins.guest import Guest
from tests.support.standins.runfile import runfile
from tests.support.standins.site import Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PHASES = ("pre-install.d", "install.d", "post-install.d")  # an initramfs, in finalise.d, is real builds' alone


@dataclass(frozen=True)
class Prepared:
    """A guest of Ubuntu's name with a kernel, its headers and compilers; the kernel's release."""

    site: Site
    kernel: str

    def guest(self, folder: Path) -> Guest:
        return workshop.guest(self.site, folder)


@pytest.fixture(scope="module")
def prepared(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    kernel = workshop.guest(site, tmp_path_factory.mktemp("look")).run("ls /lib/modules").stdout.strip()
    return Prepared(site=site, kernel=kernel)


def installed(prepared: Prepared, folder: Path, source: str, **environment: str | Path) -> Guest:
    """A guest in which a driver's source has installed, compiled and held it, and the contract was found to hold."""
    guest = prepared.guest(folder)
    guest.run("apt-get -qq update")  # as every build does, before its first package
    ours = (
        "debian-family",
        "target-kernel",
        "driver-prerequisites",
        "nvidia-driver",
        element_selection.DRIVERS[source],
    )
    elements = {name: ELEMENTS / name for name in (*ours, *(["nvidia-packages"] if source == "nvidia-repo" else []))}
    elements |= {name: DIB_ELEMENTS / name for name in ("dpkg", "pkg-map", "install-static")}
    given = {
        **ubuntu.ENVIRONMENT,
        "DIB_NVIDIA_SOURCE": source,
        **{key: str(value) for key, value in environment.items()},
    }
    result = guest.phases(elements, given, *PHASES, known=("dpkg", "pkg-map"))
    assert result.returncode == 0, result.stdout[-6000:]
    assert f"Kernel contract holds: kernel {prepared.kernel}, NVIDIA {driver.VERSION}" in result.stdout
    return guest


def identity(guest: Guest, source: str) -> object:
    """What the guest says of itself."""
    elements = {name: ELEMENTS / name for name in ("nvidia-driver", "guest-identity")}
    about = {
        **ubuntu.ENVIRONMENT,
        "DIB_NVIDIA_SOURCE": source,
        "DIB_GPU_IMAGE_VARIANT": "test",
        "DIB_GPU_IMAGE_BUILD_ID": "1",
    }
    about["DIB_MANIFEST_IMAGE_DIR"] = "/root"
    result = guest.phases(elements, about, "finalise.d", known=("nvidia-driver",))
    assert result.returncode == 0, result.stdout
    return guest.json("cat /etc/gpu-image.json")


def expected(prepared: Prepared, modules: str = "open") -> dict[str, str]:
    about = {"variant": "test", "build_id": "1", "kernel": prepared.kernel, "cuda": ""}
    return {**about, "driver": driver.VERSION, "modules": modules}


@pytest.fixture(scope="module")
def archive(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Guest:
    """A guest with the archive's driver."""
    return installed(prepared, tmp_path_factory.mktemp("archive"), "archive")


def test_the_archives_driver_keeps_the_contract(prepared: Prepared, archive: Guest) -> None:
    assert identity(archive, "archive") == expected(prepared)


@pytest.mark.parametrize("modules", ["open", "proprietary"])
def test_a_folder_of_packages_keeps_the_contract(prepared: Prepared, tmp_path: Path, modules: str) -> None:
    folder = driver.local_folder(tmp_path / "packages", modules=modules)
    guest = installed(prepared, tmp_path / "guest", "local", DIB_NVIDIA_LOCAL=folder, DIB_NVIDIA_MODULES=modules)
    assert identity(guest, "local") == expected(prepared, modules)


def test_a_runfile_keeps_the_contract(prepared: Prepared, tmp_path: Path) -> None:
    file = runfile(tmp_path / "runfile")
    guest = installed(
        prepared, tmp_path / "guest", "runfile", DIB_NVIDIA_RUNFILE=file, DIB_NVIDIA_MODULES="proprietary"
    )
    assert identity(guest, "runfile") == expected(prepared, "proprietary")
    unit = guest.run("systemctl is-enabled nvidia-persistenced; getent passwd nvidia-persistenced").stdout
    assert unit.startswith("enabled\nnvidia-persistenced:")


def test_nvidias_repository_keeps_the_contract_and_stays_known_by_its_own_address(
    prepared: Prepared, tmp_path: Path
) -> None:
    site = prepared.site
    keyring = site.folder / urlsplit(site.keyring_url).path.lstrip("/")
    mirror = {"DIB_NVIDIA_REPOSITORY": site.repository, "DIB_NVIDIA_KEYRING": keyring}
    guest = installed(prepared, tmp_path, "nvidia-repo", **mirror)
    assert identity(guest, "nvidia-repo") == expected(prepared)
    owner = guest.run("dpkg-query --show --showformat='${Version}' nvidia-dkms-580-open").stdout
    assert owner == ubuntu.REPOSITORY_VERSION
    elements = {name: ELEMENTS / name for name in ("debian-family", "nvidia-packages")}
    elements["pkg-map"] = DIB_ELEMENTS / "pkg-map"
    about = {
        **ubuntu.ENVIRONMENT,
        "DIB_NVIDIA_SOURCE": "nvidia-repo",
        **{name: str(value) for name, value in mirror.items()},
    }
    result = guest.phases(elements, about, "finalise.d", known=("debian-family", "pkg-map"))
    assert result.returncode == 0, result.stdout
    sources = guest.run("cat /etc/apt/sources.list.d/nvidia-cuda.list; ls /etc/apt/sources.list.d").stdout
    assert "https://developer.download.nvidia.com/compute/cuda/repos/ubuntu2404/x86_64 /" in sources
    assert sources.splitlines()[1:] == ["nvidia-cuda.list", "ubuntu.sources"]


def precompiled(kernel: str, modules: Mapping[str, bytes]) -> tuple[Deb, ...]:
    """Ubuntu's package of compiled modules for one kernel, and the one that follows the kernel's flavour."""
    folder = f"/usr/lib/modules/{kernel}/kernel/nvidia-580srv-open"
    name = "linux-modules-nvidia-580-server-open"
    own = Deb(
        name=f"{name}-{kernel}",
        version="6.8.0-79.79",
        files={f"{folder}/{file.removesuffix('.xz')}": content for file, content in modules.items()},
        scripts={"postinst": f"#!/bin/sh\nset -e\ndepmod -a {kernel}\n"},
    )
    return own, driver.metapackage(f"{name}-generic", "6.8.0-79.79", f"{name}-{kernel} (= 6.8.0-79.79)")


def test_modules_that_ubuntu_compiled_and_signed_keep_the_contract_without_dkms(
    prepared: Prepared, archive: Guest, tmp_path: Path
) -> None:
    pair = make_pair(tmp_path, ubuntu.ENVIRONMENT["DIB_NVIDIA_SIGNER"])
    built = archive.changes / f"usr/lib/modules/{prepared.kernel}/updates/dkms"
    modules = {path.name: signed(lzma.decompress(path.read_bytes()), pair) for path in built.iterdir()}
    prepared.site.add(*precompiled(prepared.kernel, modules))
    guest = installed(prepared, tmp_path / "guest", "precompiled")
    assert identity(guest, "precompiled") == expected(prepared)
    assert guest.run("ls /usr/src | grep nvidia; ls /var/lib/dkms").stdout.split() == []
