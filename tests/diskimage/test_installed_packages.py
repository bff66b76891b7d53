"""Packages and checks of a guest of Red Hat's family, with a database that real rpm made."""

import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.catalog.base import Base
from pipelines.catalog.driver import Driver, NvidiaRepository
from pipelines.catalog.variant import Variant
from pipelines.diskimage import filesystem, gpt, installed_packages
from pipelines.diskimage.installed_packages import Package
from pipelines.verify import check, verifier
from tests.support.small_image import VARIANT, Guest, Link, driver_module, initramfs, manifest
from tests.support.standins import rpm
from tests.support.standins.rpm import Rpm

pytestmark = pytest.mark.slow

KERNEL = "5.14.0-570.12.1.el9_6.x86_64"
ROCKY = replace(
    VARIANT,
    base=Base(distribution="rocky", release="9", source="cloud-image", path=Path("/r.qcow2"), signature="none"),
    driver=Driver(source="nvidia-repo", branch=580, modules="open"),
    nvidia_repository=NvidiaRepository(keyring_sha256="0" * 64),
)
CHECKS = dict((*verifier.GUEST_CHECKS, *verifier.DRIVER_CHECKS))
DRIVER = "580.95.05"
MADE = replace(manifest(), kernel=KERNEL, driver={"version": DRIVER, "modules": "open"})
MODULES = f"/usr/lib/modules/{KERNEL}"
BUILT = f"/var/lib/dkms/nvidia-open/{DRIVER}"
ENTRY = f"title Rocky Linux\nlinux /boot/vmlinuz-{KERNEL}\ninitrd /boot/initramfs-{KERNEL}.img\n"
MENU = f"set default=0\nblscfg\nmenuentry 'rocky' {{\n    linux /boot/vmlinuz-{KERNEL} root=LABEL=img-rootfs ro\n}}\n"
REPOSITORIES = (
    "[baseos]\nname=BaseOS\nmirrorlist=https://mirrors.rockylinux.org/mirrorlist?repo=BaseOS-$releasever\n"
    "[old]\nbaseurl=http://10.0.0.1/old\nenabled=0\n"
)


def packages(driver: str = DRIVER) -> tuple[Rpm, ...]:
    number, _, release = KERNEL.removesuffix(".x86_64").partition("-")
    kernels = (Rpm(name=name, version=number, release=release) for name in ("kernel-core", "kernel-devel"))
    drivers = (
        Rpm(name=name, version=driver, release="1.el9", epoch=3)
        for name in ("kmod-nvidia-open-dkms", "nvidia-driver-cuda", "nvidia-driver-cuda-libs", "libnvidia-ml")
    )
    return (*kernels, *drivers, Rpm(name="bash", version="5.1.8"))


def lock(package: Rpm) -> str:
    """A package's line in versionlock.list."""
    return f"{package.name}-{package.epoch}:{package.version}-{package.release}.*\n"


def database(folder: Path, installed: Iterable[Rpm]) -> bytes:
    """The database of a root in which rpm has installed packages."""
    files = rpm.build(installed, folder / "packages")
    argv = ["rpm", "--root", folder / "root", "--dbpath", "/var/lib/rpm", "--install", "--nodeps", "--nosignature"]
    subprocess.run([*argv, "--force-debian", *files], check=True, capture_output=True)
    return (folder / "root/var/lib/rpm/rpmdb.sqlite").read_bytes()


@pytest.fixture(scope="module")
def good_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return database(tmp_path_factory.mktemp("rpm"), packages())


@pytest.fixture
def guest(good_database: bytes) -> Guest:
    """A Rocky guest in which everything fits."""
    files: dict[str, bytes | str | Link] = {
        "/lib": Link("usr/lib"),
        "/usr/lib/sysimage/rpm/rpmdb.sqlite": good_database,
        "/etc/dnf/plugins/versionlock.list": "# Added\n" + "".join(lock(package) for package in packages()[:-1]),
        "/etc/yum.repos.d/rocky.repo": REPOSITORIES,
        "/etc/dnf/dnf.conf": "[main]\ngpgcheck=1\n",
        "/etc/modprobe.d/nouveau.conf": "blacklist nouveau\n",
        "/boot/grub2/grub.cfg": MENU,
        "/boot/grub2/grubenv": "# GRUB Environment Block\n####",
        "/boot/loader/entries/gpu-image.conf": ENTRY,
        f"/boot/vmlinuz-{KERNEL}": b"kernel",
        f"/boot/initramfs-{KERNEL}.img": initramfs("init"),
        f"{MODULES}/modules.dep": "extra/nvidia.ko.xz:\nextra/nvidia-uvm.ko.xz:\n",
        f"{MODULES}/build": Link(f"/usr/src/kernels/{KERNEL}"),
        f"/usr/src/kernels/{KERNEL}/Makefile": "",
        f"/var/lib/dkms/nvidia-open/kernel-{KERNEL}-x86_64": Link(f"{DRIVER}/{KERNEL}/x86_64"),
        "/usr/bin/nvidia-smi": b"program",
    }
    for name in ("nvidia", "nvidia-uvm"):
        module = driver_module(kernel=KERNEL, version=DRIVER, licence="Dual MIT/GPL")
        files[f"{MODULES}/extra/{name}.ko.xz"] = files[f"{BUILT}/{KERNEL}/x86_64/module/{name}.ko.xz"] = module
    for name in ("libcuda", "libnvidia-ml"):
        files[f"/usr/lib64/{name}.so.{DRIVER}"] = b"library"
        files[f"/usr/lib64/{name}.so.1"] = Link(f"{name}.so.{DRIVER}")
    return Guest(files=files, packages={})


def examined(name: str, guest: Guest, folder: Path, variant: Variant = ROCKY) -> check.Check:
    raw = guest.disk(folder)
    with filesystem.opened(raw, gpt.partition_table(raw).partitions[-1], "ext4") as files:
        subject = check.Guest(manifest=MADE, variant=variant, disk=raw, files=files)
        return check.carried_out(name, CHECKS[name], subject)


def refused(name: str, guest: Guest, folder: Path, variant: Variant = ROCKY) -> str:
    found = examined(name, guest, folder, variant)
    assert found.passed is False, found
    return found.detail


def test_rpms_database_is_read_with_epochs_and_locks(guest: Guest, tmp_path: Path) -> None:
    raw = guest.disk(tmp_path)
    with filesystem.opened(raw, gpt.partition_table(raw).partitions[-1], "ext4") as files:
        found = installed_packages.installed(files)
    assert found["nvidia-driver-cuda"] == Package(version=f"3:{DRIVER}-1.el9", held=True)
    assert found["nvidia-driver-cuda"].upstream == DRIVER
    assert found["bash"] == Package(version="5.1.8-1", held=False)
    assert len(found) == len(packages())


def test_the_older_place_of_the_database_is_known(guest: Guest, tmp_path: Path) -> None:
    guest.files["/var/lib/rpm/rpmdb.sqlite"] = guest.files.pop("/usr/lib/sysimage/rpm/rpmdb.sqlite")
    assert examined("user-space", guest, tmp_path).passed


def test_a_guest_without_any_database_is_refused(guest: Guest, tmp_path: Path) -> None:
    del guest.files["/usr/lib/sysimage/rpm/rpmdb.sqlite"]
    assert "neither /var/lib/dpkg/status nor " in refused("holds", guest, tmp_path)


@pytest.mark.parametrize(
    "name",
    ["kernel", "driver-modules", "dkms", "headers", "user-space", "nouveau", "holds", "package-sources", "proxy"],
)
def test_a_good_guest_passes(guest: Guest, tmp_path: Path, name: str) -> None:
    found = examined(name, guest, tmp_path)
    assert found.passed, found.detail


def test_a_driver_package_of_another_version_is_refused(guest: Guest, tmp_path: Path) -> None:
    guest.files["/usr/lib/sysimage/rpm/rpmdb.sqlite"] = database(tmp_path, packages(driver="535.1"))
    assert "nvidia-driver-cuda is 3:535.1-1.el9" in refused("user-space", guest, tmp_path)


def test_a_lock_on_another_version_holds_nothing(guest: Guest, tmp_path: Path) -> None:
    locks = guest.files["/etc/dnf/plugins/versionlock.list"]
    assert isinstance(locks, str)
    guest.files["/etc/dnf/plugins/versionlock.list"] = locks.replace(
        f"nvidia-driver-cuda-3:{DRIVER}", "nvidia-driver-cuda-3:535.1"
    )
    assert refused("holds", guest, tmp_path) == "nvidia-driver-cuda is not held"


def test_removed_headers_are_found(guest: Guest, tmp_path: Path) -> None:
    without = [package for package in packages() if package.name != "kernel-devel"]
    guest.files["/usr/lib/sysimage/rpm/rpmdb.sqlite"] = database(tmp_path, without)
    assert refused("headers", guest, tmp_path) == "kernel-devel is not installed"


@pytest.mark.parametrize(
    ("path", "content", "problem"),
    [
        ("/boot/loader/entries/old.conf", "linux /boot/vmlinuz-5.14.0-1\n", "old.conf boots another kernel"),
        ("/boot/grub2/grubenv", "# GRUB\nsaved_entry=old\n", "grubenv names another default entry"),
        ("/boot/grub2/grub.cfg", "", "/boot/grub2/grub.cfg boots no kernel"),
        (f"/boot/initramfs-{KERNEL}.img", "", f"initramfs-{KERNEL}.img is missing or empty"),
        ("/boot/vmlinuz-0-rescue-0123", "x", "vmlinuz-0-rescue-0123 belongs to another kernel"),
    ],
)
def test_a_guest_that_might_boot_something_else_is_refused(
    guest: Guest, tmp_path: Path, path: str, content: str, problem: str
) -> None:
    guest.files[path] = content
    assert problem in refused("kernel", guest, tmp_path)


@pytest.mark.parametrize(
    ("name", "trace", "problem"),
    [
        ("package-sources", {"/etc/yum.repos.d/x.repo": "[x]\nbaseurl=http://10.0.0.1/x\n"}, "has http://10.0.0.1/x"),
        ("package-sources", {"/etc/yum.repos.d/x.repo": "[x]\nmetalink=https://evilrockylinux.org/x\n"}, "evil"),
        ("proxy", {"/etc/dnf/dnf.conf": "[main]\nproxy=http://10.0.0.1:3128\n"}, "dnf.conf sets a dnf proxy"),
        ("package-cache", {"/var/cache/dnf/baseos/x.rpm": "x"}, "/var/cache/dnf/baseos/x.rpm is cached"),
        ("subscription", {"/etc/pki/consumer/cert.pem": "x"}, "/etc/pki/consumer/cert.pem comes from the build"),
        ("subscription", {"/var/lib/dnf/history.sqlite": "x"}, "/var/lib/dnf/history.sqlite comes from the build"),
        ("dib-traces", {"/etc/dib-manifests/dib-manifest-rpm-image": "x"}, "belongs to diskimage-builder"),
    ],
)
def test_a_trace_of_the_builder_is_found(
    guest: Guest, tmp_path: Path, name: str, trace: dict[str, str], problem: str
) -> None:
    guest.files |= trace
    assert problem in refused(name, guest, tmp_path)


def test_a_distributions_own_repositories_are_no_trace_of_the_builder(guest: Guest, tmp_path: Path) -> None:
    assert ROCKY.base is not None
    almalinux = replace(ROCKY, base=replace(ROCKY.base, distribution="almalinux"))
    assert "has https://mirrors.rockylinux.org" in refused("package-sources", guest, tmp_path, almalinux)
    own = "[baseos]\nmirrorlist=https://mirrors.almalinux.org/mirrorlist/$releasever/baseos\n"
    guest.files["/etc/yum.repos.d/rocky.repo"] = own
    (tmp_path / "almalinux").mkdir()
    found = examined("package-sources", guest, tmp_path / "almalinux", almalinux)
    assert found.passed, found.detail


def test_a_guest_with_a_mirror_knows_no_other(guest: Guest, tmp_path: Path) -> None:
    assert ROCKY.base is not None
    variant = replace(ROCKY, base=replace(ROCKY.base, guest_mirror="https://mirror.example/rocky"))
    assert "has https://mirrors.rockylinux.org" in refused("package-sources", guest, tmp_path, variant)


def test_nvidias_own_repository_is_beside_the_mirror(guest: Guest, tmp_path: Path) -> None:
    assert ROCKY.base is not None
    variant = replace(ROCKY, base=replace(ROCKY.base, guest_mirror="https://mirror.example/rocky"))
    guest.files["/etc/yum.repos.d/rocky.repo"] = "[baseos]\nbaseurl=https://mirror.example/rocky/9/BaseOS\n"
    nvidia = "https://developer.download.nvidia.com/compute/cuda/repos/rhel9/x86_64"
    guest.files["/etc/yum.repos.d/nvidia-cuda.repo"] = f"[nvidia-cuda]\nbaseurl={nvidia}\n"
    found = examined("package-sources", guest, tmp_path, variant)
    assert found.passed, found.detail
