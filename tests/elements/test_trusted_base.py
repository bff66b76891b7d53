"""The tree made from a base image, and refusal of another image than the declared one.

The phase runs as diskimage-builder runs it on the host, with small real images of a minimal system.
"""

import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.chroot import Chroot
from tests.support.paths import ELEMENTS

pytestmark = pytest.mark.slow

ELEMENT = ELEMENTS / "trusted-base"
MIB = 2**20
X86, ARM = 62, 183
OS_RELEASE = 'ID=ubuntu\nVERSION_ID="24.04"\nVERSION_CODENAME=noble\nPRETTY_NAME="Ubuntu 24.04 LTS"\n'


def run(*argv: object) -> str:
    """Run one of the tools that make images."""
    environment = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "MTOOLS_SKIP_CHECK": "1"}
    done = subprocess.run([str(each) for each in argv], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def elf(machine: int) -> bytes:
    """The beginning of a program for a machine."""
    return b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack("<HH", 2, machine)


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A minimal Ubuntu 24.04's tree, with what is easily lost: owners, modes, links, capabilities."""
    tree = tmp_path / "system"
    for name in ("usr/bin", "usr/lib", "etc", "boot/efi", "home/someone"):
        (tree / name).mkdir(parents=True)
    (tree / "bin").symlink_to("usr/bin")
    (tree / "usr/bin/dash").write_bytes(elf(X86))
    (tree / "usr/bin/sh").symlink_to("/usr/bin/dash")  # absolute: on the host it would be the host's
    (tree / "usr/lib/os-release").write_text(OS_RELEASE)
    (tree / "etc/os-release").symlink_to("../usr/lib/os-release")
    (tree / "usr/bin/ping").write_text("ping")
    os.setxattr(tree / "usr/bin/ping", "security.capability", bytes.fromhex("0100000200200000" + "00" * 12))
    (tree / "usr/bin/su").write_text("su")
    (tree / "usr/bin/su").chmod(0o4755)
    os.chown(tree / "home/someone", 1000, 1001)
    return tree


@dataclass
class Host:
    """Where a build unpacks its base."""

    folder: Path

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    def environment(self, base: Path, **declared: str) -> dict[str, str]:
        """What diskimage-builder gives a phase on the host."""
        return {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}:/usr/sbin:/sbin",
            "TMP_HOOKS_PATH": str(ELEMENT),
            "TMP_BUILD_DIR": str(self.folder),
            "TARGET_ROOT": str(self.tree),
            "DIB_PYTHON_EXEC": sys.executable,
            "ARCH": "amd64",
            "DIB_BASE_IMAGE": str(base),
            "DIB_BASE_DISTRIBUTION": "ubuntu",
            "DIB_BASE_VERSION": "24.04",
            **declared,
        }

    def unpack(self, base: Path, **declared: str) -> "subprocess.CompletedProcess[str]":
        """Run the phase."""
        argv = [ELEMENT / "root.d/10-unpack-base"]
        environment = self.environment(base, **declared)
        return subprocess.run(
            argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60
        )

    def refuses(self, base: Path, **declared: str) -> str:
        """What it says when it fails."""
        done = self.unpack(base, **declared)
        assert done.returncode != 0, done.stdout
        assert "Remedy:" in done.stdout
        return done.stdout


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path / "build")
    made.tree.mkdir(parents=True)
    yield made
    assert str(tmp_path) not in run("losetup", "--list"), "a loop device was left behind"
    assert str(made.folder) not in Path("/proc/mounts").read_text()
    assert [path.name for path in made.folder.iterdir() if path.name.startswith("base.")] == []


def squashfs(system: Path) -> Path:
    image = system.with_suffix(".squashfs")
    run("mksquashfs", system, image, "-quiet", "-no-progress")
    return image


def tarball(system: Path) -> Path:
    image = system.with_suffix(".tar.xz")
    run("tar", "-C", system, "--xattrs", "--xattrs-include=*", "-cJf", image, ".")
    return image


def filesystem(tree: Path, image: Path, *options: str, offset: int = 0, size: int = 8) -> Path:
    """An ext4 of `size` MiB with a tree, at an offset of a file."""
    with image.open("ab") as file:
        file.truncate(max(image.stat().st_size, offset + size * MIB))
    argv = ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", *options, "-E", f"offset={offset},root_owner=0:0"]
    run(*argv, "-d", tree, image, f"{size}M")
    return image


def partitioned(system: Path, label: str = "gpt") -> Path:
    """A disk as Ubuntu's: an ESP, /boot (larger than the root here), and the root, known by labels."""
    (system / "etc/fstab").write_text(
        "LABEL=cloudimg-rootfs / ext4 discard 0 1\nLABEL=BOOT /boot ext4 defaults 0 2\n"
        "LABEL=UEFI /boot/efi vfat umask=0077 0 1\nLABEL=data /data ext4 nofail 0 2\n"
    )
    kernel = system.parent / "kernel"
    (kernel / "grub").mkdir(parents=True)
    (kernel / "vmlinuz-6.8.0-1-generic").write_text("kernel")
    image = system.with_suffix(".raw")
    image.touch()
    os.truncate(image, 40 * MIB)
    esp, linux = ("uefi", "linux") if label == "gpt" else ("ef", "83")
    table = f"label: {label}\n1MiB 4MiB {esp}\n5MiB 20MiB {linux}\n26MiB 8MiB {linux}\n"
    subprocess.run(["/usr/sbin/sfdisk", "-q", image], input=table, text=True, check=True, capture_output=True)
    filesystem(kernel, image, "-L", "BOOT", offset=5 * MIB, size=20)
    filesystem(system, image, "-L", "cloudimg-rootfs", offset=26 * MIB, size=8)
    at = f"{image}@@{MIB}"
    run("mformat", "-i", at, "-T", 4 * MIB // 512, "-v", "UEFI", "::")
    run("mmd", "-i", at, "::EFI", "::EFI/BOOT")
    (system.parent / "shim").write_text("shim")
    run("mcopy", "-i", at, system.parent / "shim", "::EFI/BOOT/BOOTX64.EFI")
    return image


def qcow2(raw: Path) -> Path:
    image = raw.with_suffix(".qcow2")
    run("qemu-img", "convert", "-c", "-O", "qcow2", raw, image)
    return image


def whole(system: Path) -> Path:
    return filesystem(system, system.with_suffix(".raw"))


def disk_in_tarball(system: Path) -> Path:
    """As Debian publishes its images."""
    raw = whole(system).rename(system.parent / "disk.raw")
    image = system.with_suffix(".tar.xz")
    run("tar", "-C", raw.parent, "-cJf", image, raw.name)
    return image


def xfs(system: Path) -> Path:
    """As Rocky's, whose root is xfs."""
    image, folder = system.with_suffix(".raw"), system.parent / "mounted"
    image.touch()
    os.truncate(image, 300 * MIB)  # the least that mkfs.xfs takes
    run("mkfs.xfs", "-q", image)
    folder.mkdir()
    run("unshare", "--mount", "sh", "-c", f"mount -o loop {image} {folder} && cp -a {system}/. {folder}")
    return image


def gpt_qcow2(system: Path) -> Path:
    return qcow2(partitioned(system))


def mbr_qcow2(system: Path) -> Path:
    return qcow2(partitioned(system, "dos"))


@pytest.mark.parametrize("made", [squashfs, tarball, whole, xfs, disk_in_tarball, partitioned, gpt_qcow2, mbr_qcow2])
def test_the_tree_is_the_bases_own(made: Callable[[Path], Path], system: Path, host: Host) -> None:
    done = host.unpack(made(system))
    assert done.returncode == 0, done.stdout
    assert (host.tree / "usr/lib/os-release").read_text() == OS_RELEASE
    assert os.readlink(host.tree / "usr/bin/sh") == "/usr/bin/dash"
    assert (host.tree / "usr/bin/su").stat().st_mode & 0o7777 == 0o4755
    someone = (host.tree / "home/someone").stat()
    assert (someone.st_uid, someone.st_gid) == (1000, 1001)
    capability = os.getxattr(system / "usr/bin/ping", "security.capability")
    assert os.getxattr(host.tree / "usr/bin/ping", "security.capability") == capability
    assert "ubuntu 24.04 for amd64, as declared" in done.stdout


@pytest.mark.parametrize("label", ["gpt", "dos"])
def test_what_the_fstab_mounts_is_put_into_its_place(label: str, system: Path, host: Host) -> None:
    done = host.unpack(qcow2(partitioned(system, label)))
    assert done.returncode == 0, done.stdout
    assert (host.tree / "boot/vmlinuz-6.8.0-1-generic").read_text() == "kernel"
    assert (host.tree / "boot/efi/EFI/BOOT/BOOTX64.EFI").read_text() == "shim"


def test_an_esp_that_the_fstab_does_not_name_is_found(system: Path, host: Host) -> None:
    image = partitioned(system)
    run("debugfs", "-w", "-R", "rm etc/fstab", f"{image}?offset={26 * MIB}")
    assert host.unpack(image).returncode == 0
    assert (host.tree / "boot/efi/EFI/BOOT/BOOTX64.EFI").exists()


def test_a_partition_that_the_fstab_needs_and_the_disk_lacks_is_refused(system: Path, host: Host) -> None:
    (system / "etc/fstab").write_text("UUID=1234 /var ext4 defaults 0 2\n")
    assert "the base image mounts UUID=1234 on /var, but does not contain it" in host.refuses(whole(system))


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("ID=debian\nVERSION_ID=13\nVERSION_CODENAME=trixie\n", "13"),
        ("ID=debian\nVERSION_ID=13\nVERSION_CODENAME=trixie\n", "trixie"),
        ('ID="rocky"\nVERSION_ID="9.6"\n', "9"),
        ('ID="almalinux"\nVERSION_ID="10.1"\n', "10"),
        ('ID="rhel"\nVERSION_ID="10.0"\n', "10"),
    ],
)
def test_releases_are_known_by_number_major_number_or_code_name(
    release: str, version: str, system: Path, host: Host
) -> None:
    (system / "usr/lib/os-release").write_text(release)
    distribution = release.partition("\n")[0].removeprefix("ID=").strip('"')
    done = host.unpack(squashfs(system), DIB_BASE_DISTRIBUTION=distribution, DIB_BASE_VERSION=version)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("declared", "complaint"),
    [
        ({"DIB_BASE_DISTRIBUTION": "debian"}, "the base image is ubuntu 24.04 noble, but debian 24.04 was declared"),
        ({"DIB_BASE_VERSION": "22.04"}, "the base image is ubuntu 24.04 noble, but ubuntu 22.04 was declared"),
        ({"ARCH": "arm64"}, "the base image is for amd64, but arm64 was declared"),
    ],
    ids=["distribution", "release", "architecture"],
)
def test_another_system_than_the_declared_one_is_refused(
    declared: dict[str, str], complaint: str, system: Path, host: Host
) -> None:
    assert complaint in host.refuses(squashfs(system), **declared)


def test_a_system_without_a_shell_is_refused(system: Path, host: Host) -> None:
    (system / "usr/bin/dash").unlink()
    assert "no /bin/sh" in host.refuses(squashfs(system))


def test_lvm_is_refused_with_the_reason(tmp_path: Path, host: Host) -> None:
    image = tmp_path / "lvm.raw"
    volume = struct.pack("<I8s32s", 32, b"LVM2 001", b"x" * 32).ljust(492, b"\0")
    checksum = zlib.crc32(volume, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    image.write_bytes(bytes(512) + b"LABELONE" + struct.pack("<QI", 1, checksum) + volume + bytes(4 * MIB))
    assert "on LVM, not supported here" in host.refuses(image)


def test_a_disk_without_a_system_is_refused_with_what_it_has(tmp_path: Path, host: Host) -> None:
    (tmp_path / "empty").mkdir()
    assert "/etc/os-release, but: ext4" in host.refuses(filesystem(tmp_path / "empty", tmp_path / "empty.raw"))


def test_an_image_of_another_format_is_refused(tmp_path: Path, host: Host) -> None:
    run("qemu-img", "create", "-q", "-f", "vmdk", tmp_path / "disk.img", "1M")
    assert "is a VMDK image" in host.refuses(tmp_path / "disk.img")


def test_a_qcow2_that_reads_a_file_of_the_host_is_refused(system: Path, host: Host) -> None:
    image = system.with_suffix(".qcow2")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", whole(system), image)
    assert "depends on another file" in host.refuses(image)


def test_a_build_that_is_killed_leaves_no_loop_device(system: Path, host: Host) -> None:
    image = whole(system)
    programs = host.folder / "bin"
    programs.mkdir()
    (programs / "tar").write_text(f"#!/bin/bash\n[[ $* != *--create* ]] || touch {host.folder}/copying\nsleep 60\n")
    (programs / "tar").chmod(0o755)
    copy = [sys.executable, ELEMENT / "host-bin/trusted-base-copy-disk", image, host.tree]
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with subprocess.Popen([*namespaces, *copy], env=host.environment(image)) as child:
        deadline = time.monotonic() + 60
        while not (host.folder / "copying").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert str(image) in run("losetup", "--list")
        child.send_signal(signal.SIGKILL)
    time.sleep(0.2)
    (host.folder / "copying").unlink()


# In the chroot.


@pytest.fixture
def chroot(tmp_path: Path) -> Chroot:
    return Chroot(tmp_path)


def sources(chroot: Chroot, text: str, file: str = "etc/apt/sources.list", **declared: str) -> str:
    """What becomes of a file of package sources."""
    chroot.file(file, text)
    done = chroot.run(ELEMENT / "pre-install.d/02-choose-sources", **declared)
    assert done.returncode == 0, done.stdout
    return done.stdout.partition(f"/{file}:\n")[2].partition("\n/etc/apt")[0]


UBUNTU = """Types: deb
URIs: http://archive.ubuntu.com/ubuntu/
Suites: noble noble-updates
Components: main universe
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg

Types: deb
URIs: http://security.ubuntu.com/ubuntu/
Suites: noble-security
Components: main universe
"""
DEBIAN = """Types: deb deb-src
URIs: mirror+file:///etc/apt/mirrors/debian.list
Suites: trixie trixie-updates
Components: main

Types: deb deb-src
URIs: mirror+file:///etc/apt/mirrors/debian-security.list
Suites: trixie-security
Components: main
"""


def test_ubuntus_sources_are_the_builds_mirror(chroot: Chroot) -> None:
    mirror = "http://127.0.0.1:8000/ubuntu"
    got = sources(
        chroot, UBUNTU, "etc/apt/sources.list.d/x.sources", DISTRO_NAME="ubuntu", DIB_DISTRIBUTION_MIRROR=mirror
    )
    assert [line for line in got.splitlines() if line.startswith("URIs")] == [f"URIs: {mirror}"] * 2
    assert "Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg" in got
    assert got.count("main universe") == 2


def test_ubuntus_older_style_too_and_no_other_sources(chroot: Chroot) -> None:
    text = (
        "deb http://eu-1.ec2.archive.ubuntu.com/ubuntu/ jammy main\n"
        "deb http://ports.ubuntu.com/ubuntu-ports jammy main\n"
        "deb https://example.org/ubuntu/ jammy main\n"
    )
    got = sources(chroot, text, DISTRO_NAME="ubuntu", DIB_DISTRIBUTION_MIRROR="http://mirror/u/")
    assert got.splitlines()[:3] == [
        "deb http://mirror/u jammy main",
        "deb http://mirror/u jammy main",
        "deb https://example.org/ubuntu/ jammy main",
    ]


def test_debians_sources_are_two_mirrors_and_the_declared_components(chroot: Chroot) -> None:
    got = sources(
        chroot,
        DEBIAN,
        "etc/apt/sources.list.d/x.sources",
        DISTRO_NAME="debian",
        DIB_DISTRIBUTION_MIRROR="http://mirror/debian",
        DIB_DEBIAN_SECURITY_MIRROR="http://mirror/debian-security/",
        DIB_DEBIAN_COMPONENTS="main,non-free",
    )
    assert [line for line in got.splitlines() if line.startswith(("URIs", "Components"))] == [
        "URIs: http://mirror/debian",
        "Components: main non-free",
        "URIs: http://mirror/debian-security",
        "Components: main non-free",
    ]


def test_debians_older_style_too(chroot: Chroot) -> None:
    text = (
        "deb http://any.debian.org/debian trixie main\ndeb http://any.debian.org/debian-security trixie-security main\n"
    )
    got = sources(
        chroot, text, DISTRO_NAME="debian", DIB_DISTRIBUTION_MIRROR="http://m/d", DIB_DEBIAN_COMPONENTS="main,contrib"
    )
    assert got.splitlines()[:2] == [
        "deb http://m/d trixie main contrib",
        "deb http://any.debian.org/debian-security trixie-security main contrib",
    ]


def test_without_a_mirror_the_bases_own_sources_stay(chroot: Chroot) -> None:
    got = sources(chroot, UBUNTU, "etc/apt/sources.list.d/x.sources", DISTRO_NAME="ubuntu")
    assert got.strip() == UBUNTU.strip()


def test_the_bases_boot_menu_is_gone_before_packages_could_renew_it(chroot: Chroot) -> None:
    chroot.file("/boot/grub/grub.cfg", "menuentry Ubuntu")
    chroot.file("/boot/grub/i386-pc/core.img", "core")
    script = (ELEMENT / "pre-install.d/03-forget-boot-menu").read_text() + "\nfind /boot/grub\n"
    path = chroot._mount.parent / "script"
    path.write_text(script)
    done = chroot.run(path)
    assert done.stdout.splitlines()[:1] == ["/boot/grub"]
    assert "core.img" not in done.stdout
