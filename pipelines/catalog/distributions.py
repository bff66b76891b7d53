"""Table of the distributions that guests are made of: all that differs between them, and what a family shares.

A new distribution is a row here, its package names in the elements' `pkg-map` files, its drivers in gpus/gpus.yaml and
the key of its cloud images in signing_keys.yaml.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Name = Literal["debian", "ubuntu", "rocky", "almalinux", "rhel"]
Feature = Literal["docker", "cuda-samples", "fabric-manager"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """What the distributions of one package manager share.

    In a guest's paths and package names, {release} stands for a kernel's release, {machine} for x86_64 or aarch64.
    `programs` are those that a build host needs for them: program, its Debian package, what it is for. `lacks` are
    features that no distribution of the family has packages for.
    """

    name: Literal["debian", "redhat"]  # in DIB's pkg-map files
    element: str
    package_format: Literal["deb", "rpm"]
    menu: str
    initramfs: str
    headers: str
    libraries: str
    programs: tuple[tuple[str, str, str], ...] = ()
    lacks: frozenset[Feature] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """A release of a distribution.

    `codename` is what package sources and DIB_RELEASE call it, `version` is its number in /etc/os-release, and
    `nvidia_repository` and `nvidia_keyring` are its folder in NVIDIA's network repository and the file there that has
    the repository's key.
    """

    codename: str
    version: str
    nvidia_repository: str
    nvidia_keyring: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
    """A distribution; its key in DISTRIBUTIONS is its ID in /etc/os-release.

    `label` is its name for people, and what apt's Release files have as Origin. `releases` are keyed as in images.yaml.
    `efi_vendor` is its folder in the ESP, `purl_vendor` the namespace of its packages' URLs. `bootstrap` is the element
    that makes a guest from packages; without one a guest starts from a cloud image. `repositories` are the domains of
    the package repositories that a guest may have in files of its own. `components` and `driver_components` are those
    of its package repository that a guest needs without and with a driver. `mirror_variable` and `security_variable`
    are DIB's own variables for mirrors of a distribution that is built from the build host's mirrors.
    """

    label: str
    family: Family
    releases: Mapping[str, Release]
    efi_vendor: str
    purl_vendor: str
    kernels: tuple[str, ...] = ("generic",)
    bootstrap: str = ""
    repositories: tuple[str, ...] = ()
    components: str = ""
    driver_components: str = ""
    mirror_variable: str = ""
    security_variable: str = ""
    lacks: frozenset[Feature] = frozenset()

    def has(self, feature: Feature) -> bool:
        """Whether the distribution's own package repository has what a feature needs."""
        return feature not in self.lacks | self.family.lacks


DEBIAN = Family(
    name="debian",
    element="debian-family",
    package_format="deb",
    menu="/boot/grub/grub.cfg",
    initramfs="/boot/initrd.img-{release}",
    headers="linux-headers-{release}",
    libraries="/usr/lib/{machine}-linux-gnu",
)
RED_HAT = Family(
    name="redhat",
    element="redhat-family",
    package_format="rpm",
    menu="/boot/grub2/grub.cfg",
    initramfs="/boot/initramfs-{release}.img",
    headers="kernel-devel",
    libraries="/usr/lib64",
    programs=(("rpm", "rpm", "the packages of a finished image"),),
    lacks=frozenset({"docker", "cuda-samples"}),
)
# NVIDIA's repositories: CUDA Installation Guide for Linux, "Network Repo Installation" of each distribution. The keys
# of rhel9 and rhel10 are those that their cuda-rhel9.repo and cuda-rhel10.repo name as gpgkey.
_CUDA_KEYRING = "cuda-keyring_1.1-1_all.deb"
_ENTERPRISE_LINUX = {
    "9": Release(codename="9", version="9", nvidia_repository="rhel9", nvidia_keyring="D42D0685.pub"),
    "10": Release(codename="10", version="10", nvidia_repository="rhel10", nvidia_keyring="CDF6BA43.pub"),
}


def _deb(codename: str, version: str, nvidia_repository: str) -> Release:
    return Release(
        codename=codename, version=version, nvidia_repository=nvidia_repository, nvidia_keyring=_CUDA_KEYRING
    )


DISTRIBUTIONS: Mapping[str, Distribution] = {
    "debian": Distribution(
        label="Debian",
        family=DEBIAN,
        releases={"bookworm": _deb("bookworm", "12", "debian12"), "trixie": _deb("trixie", "13", "debian13")},
        efi_vendor="debian",
        purl_vendor="debian",
        kernels=("generic", "cloud"),
        bootstrap="debian-minimal",
        components="main",
        driver_components="main,contrib,non-free,non-free-firmware",
        mirror_variable="DIB_DEBIAN_DISTRIBUTION_MIRROR",
        security_variable="DIB_DEBIAN_SECURITY_MIRROR",
        lacks=frozenset({"fabric-manager"}),
    ),
    "ubuntu": Distribution(
        label="Ubuntu",
        family=DEBIAN,
        releases={
            "22.04": _deb("jammy", "22.04", "ubuntu2204"),
            "24.04": _deb("noble", "24.04", "ubuntu2404"),
            "26.04": _deb("resolute", "26.04", "ubuntu2604"),
        },
        efi_vendor="ubuntu",
        purl_vendor="ubuntu",
        kernels=("generic", "cloud", "hwe"),
    ),
    "rocky": Distribution(
        label="Rocky Linux",
        family=RED_HAT,
        releases=_ENTERPRISE_LINUX,
        efi_vendor="rocky",
        purl_vendor="rocky",
        repositories=("rockylinux.org", "fedoraproject.org"),  # EPEL's is Fedora's
    ),
    "almalinux": Distribution(
        label="AlmaLinux",
        family=RED_HAT,
        releases=_ENTERPRISE_LINUX,
        efi_vendor="almalinux",
        purl_vendor="almalinux",
        repositories=("almalinux.org", "fedoraproject.org"),
    ),
    "rhel": Distribution(
        label="RHEL",
        family=RED_HAT,
        releases=_ENTERPRISE_LINUX,
        efi_vendor="redhat",
        purl_vendor="redhat",
        repositories=("redhat.com", "fedoraproject.org"),
    ),
}


def is_deb(distribution: str) -> bool:
    """Whether a distribution's packages are dpkg's; False for one that is not in the table."""
    found = DISTRIBUTIONS.get(distribution)
    return found is not None and found.family.package_format == "deb"


def version(distribution: str, release: str) -> str:
    """The number of a release as images.yaml has it; the release itself where it is not in the table."""
    found = DISTRIBUTIONS.get(distribution)
    known = found.releases.get(release) if found is not None else None
    return known.version if known is not None else release
