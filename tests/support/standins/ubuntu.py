"""Packages of Ubuntu's repository and of NVIDIA's for it, under their own names.

Beside these packages the test double of Ubuntu's repository has Debian's, unchanged: a name that both have is Debian's
package, a name that only Ubuntu has is a metapackage here that depends on Debian's.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.support.standins import driver
from tests.support.standins.deb import Deb

BRANCH = 580
ARCHIVE_VERSION = f"{driver.VERSION}-0ubuntu0.24.04.2"
REPOSITORY_VERSION = f"{driver.VERSION}-0ubuntu1"
_KERNEL_VERSION = "6.8.0-79.79"
# What our elements read of a build of Ubuntu with the driver as precompiled or DKMS packages.
ENVIRONMENT = {
    "DISTRO_NAME": "ubuntu",
    "DIB_RELEASE": "noble",
    "DIB_KERNEL_FLAVOUR": "generic",
    "DIB_KERNEL_HEADERS": "1",
    "DIB_NVIDIA_MODULES": "open",
    "DIB_NVIDIA_BRANCH": "580",
    "DIB_NVIDIA_VERSION": driver.VERSION,
    "DIB_NVIDIA_DESKTOP": "0",
    "DIB_NVIDIA_SIGNER": "Canonical Ltd. Kernel Module Signing",
}
# Ubuntu's kernel packages → Debian's.
_KERNELS = {
    "linux-image-generic": "linux-image-amd64",
    "linux-headers-generic": "linux-headers-amd64",
    "linux-image-virtual": "linux-image-amd64",
    "linux-headers-virtual": "linux-headers-amd64",
    "linux-image-generic-hwe-24.04": "linux-image-amd64",
    "linux-headers-generic-hwe-24.04": "linux-headers-amd64",
}


def archive_packages() -> tuple[Deb, ...]:
    """Ubuntu's own: kernels, and the driver's server branch."""
    kernels = [driver.metapackage(name, _KERNEL_VERSION, debians) for name, debians in _KERNELS.items()]
    return (
        *kernels,
        *_server_driver(),
        driver.program_package("nvidia-modprobe", ARCHIVE_VERSION, "nvidia-modprobe"),
        fabric_manager(ARCHIVE_VERSION),
    )


def repository_packages() -> tuple[Deb, ...]:
    """NVIDIA's: the driver under the names of NVIDIA's installation guide (nvidia-smi is among the libraries).

    The toolkit, cuDNN, NCCL and the container toolkit are names and versions alone: a compiler has no small stand-in.
    """
    suffix, same = f"-{BRANCH}", f"(= {REPOSITORY_VERSION})"
    common = f"nvidia-kernel-common{suffix}"
    libraries = driver.library_package(f"libnvidia-compute{suffix}", REPOSITORY_VERSION, "libcuda", "libnvidia-ml")
    sources = _modules(suffix, REPOSITORY_VERSION, dkms="nvidia")
    compute = f"libnvidia-compute{suffix} {same}, nvidia-persistenced, nvidia-modprobe"
    return (
        Deb(name=common, version=REPOSITORY_VERSION),
        replace(libraries, files={**libraries.files, "/usr/bin/nvidia-smi": driver.text("nvidia-smi")}),
        *sources,
        *(
            driver.program_package(name, REPOSITORY_VERSION, name)
            for name in ("nvidia-persistenced", "nvidia-modprobe")
        ),
        driver.metapackage("nvidia-open", REPOSITORY_VERSION, f"nvidia-dkms{suffix}-open {same}, {compute}"),
        driver.metapackage("cuda-drivers", REPOSITORY_VERSION, f"nvidia-dkms{suffix} {same}, {compute}"),
        fabric_manager(REPOSITORY_VERSION),
        *(_pinning(pinned) for pinned in (str(BRANCH), driver.VERSION)),
        *(Deb(name=name, version=version) for name, version in _CUDA.items()),
    )


_CUDA = {
    "cuda-toolkit-12-8": "12.8.1-1",
    "libcudnn9-cuda-12": "9.10.2.21-1",
    "libcudnn9-dev-cuda-12": "9.10.2.21-1",
    "libnccl2": "2.27.3-1+cuda12.9",
    "libnccl-dev": "2.27.3-1+cuda12.9",
    "nvidia-container-toolkit": "1.17.8-1",
}


def keyring_package(keyring: Path, url: str) -> Deb:
    """cuda-keyring as NVIDIA makes it: the key, the source and the pin, for the repository at `url`."""
    return Deb(
        name="cuda-keyring",
        version="1.1-1",
        architecture="all",
        files={
            "/usr/share/keyrings/cuda-archive-keyring.gpg": keyring.read_bytes(),
            "/etc/apt/sources.list.d/cuda-ubuntu2404-x86_64.list": (
                f"deb [signed-by=/usr/share/keyrings/cuda-archive-keyring.gpg] {url} /\n"
            ),
            "/etc/apt/preferences.d/cuda-repository-pin-600": (
                "Package: *\nPin: release l=NVIDIA CUDA\nPin-Priority: 600\n"
            ),
        },
    )


def fabric_manager(version: str) -> Deb:
    """The fabric manager, which must have the driver's version exactly."""
    files = {
        "/usr/bin/nv-fabricmanager": driver.text("nv-fabricmanager"),
        "/usr/lib/systemd/system/nvidia-fabricmanager.service": driver.text("nvidia-fabricmanager.service"),
        "/usr/share/nvidia/nvswitch/fabricmanager.cfg": "DAEMONIZE=1\n",
    }
    return Deb(name=f"nvidia-fabricmanager-{BRANCH}", version=version, files=files)


def _server_driver() -> tuple[Deb, ...]:
    """The server branch as Ubuntu cuts it: libraries, nvidia-smi and the persistence daemon apart."""
    suffix, version = f"-{BRANCH}-server", ARCHIVE_VERSION
    same, libraries = f"(= {version})", f"libnvidia-compute{suffix} (= {version})"
    return (
        Deb(name=f"nvidia-kernel-common{suffix}", version=version),
        driver.library_package(f"libnvidia-compute{suffix}", version, "libcuda", "libnvidia-ml"),
        driver.program_package(f"nvidia-utils{suffix}", version, "nvidia-smi", Depends=libraries),
        driver.program_package(f"nvidia-compute-utils{suffix}", version, "nvidia-persistenced", Depends=libraries),
        *_modules(suffix, version, dkms="nvidia-srv"),
        *(
            driver.metapackage(
                f"nvidia-headless-no-dkms{suffix}{kind}", version, f"{libraries}, nvidia-kernel-common{suffix} {same}"
            )
            for kind in ("", "-open")
        ),
    )


def _modules(suffix: str, version: str, *, dkms: str) -> Iterator[Deb]:
    """The source of either kind of modules; one of them can be installed."""
    for modules, kind in (("open", "-open"), ("proprietary", "")):
        yield driver.source_package(
            f"nvidia-dkms{suffix}{kind}",
            version,
            modules=modules,
            dkms=dkms,
            Depends=f"dkms, gcc, make, nvidia-kernel-common{suffix} (= {version})",
            Provides="nvidia-dkms-kernel",
            Conflicts="nvidia-dkms-kernel",
        )


def _pinning(pinned: str) -> Deb:
    """NVIDIA's package that keeps a guest on a branch, or on one version."""
    name = f"nvidia-driver-pinning-{pinned}"
    text = f"Package: *nvidia* cuda-drivers*\nPin: version {pinned}*\nPin-Priority: 1000\n"
    return Deb(name=name, version=f"{pinned}-1", architecture="all", files={f"/etc/apt/preferences.d/{name}": text})
