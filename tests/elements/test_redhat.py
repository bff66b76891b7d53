"""guest-os and the phases of Red Hat's family, with real dnf and rpm."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support.chroot import Chroot
from tests.support.host_phases import assembled, output, run_on_host
from tests.support.paths import ELEMENTS
from tests.support.standins import keys, rocky, rpm
from tests.support.standins.keys import Key
from tests.support.standins.rpm import Rpm

pytestmark = pytest.mark.slow

FAMILY = ELEMENTS / "redhat-family"
OLD, NEW = "5.14.0-427.el9", "5.14.0-1427.el9"  # in this order for rpm, and in the other as text
INSTALL = "rpm --install --force-debian --nosignature"  # Debian's rpm wants to be told that this is meant
LIBRARY = "/usr/lib64/libcuda.so.580.95.05"


def cuda(version: str, **fields: str) -> Rpm:
    files = {f"/usr/lib64/libcuda.so.{version}": "library"}
    return Rpm(name="nvidia-driver-cuda", version=version, release="1.el9", epoch=3, files=files, fields=fields)


def kernel_core(version: str) -> Rpm:
    number, _, release = version.partition("-")
    modules = f"/lib/modules/{version}.x86_64"
    files = {f"{modules}/vmlinuz": "kernel", f"{modules}/modules.dep": "", f"{modules}/config": "CONFIG_X=y\n"}
    return Rpm(name="kernel-core", version=number, release=release, files=files)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return keys.make(tmp_path_factory.mktemp("key"), "A vendor <vendor@example.org>")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, key: Key) -> Path:
    """Repositories: `vendor` has two drivers as streams of a module, `mirror` is laid out as Rocky's."""
    root = tmp_path_factory.mktemp("site")
    drivers = (cuda("580.95.05"), cuda("590.48.01"))
    tool = Rpm(name="tool", version="2.0", architecture="noarch")
    built = rpm.build((*drivers, tool), root / "packages")
    streams = "".join(
        rpm.module("nvidia-driver", stream, [package])
        for stream, package in (("580-open", drivers[0]), ("open-dkms", drivers[1]))
    )
    rpm.publish(root / "vendor", built, key, modules=streams)
    rpm.publish(root / "unsigned", built)
    rpm.publish(root / "epel", rpm.build(rocky.epel_packages(), root / "packages"), key)
    extras = rpm.build([rocky.epel_release(f"file://{root}/epel", key)], root / "packages")
    kernels = rpm.build([kernel_core(OLD), kernel_core(NEW)], root / "packages")
    rocky.mirror(root / "mirror", "9", (*kernels, built[2]), key, extras=extras)
    return root


@pytest.fixture
def guest(tmp_path: Path, key: Key) -> Chroot:
    """A guest that knows no repository, and trusts the key."""
    chroot = Chroot(tmp_path)
    chroot.commands("redhat-family")
    chroot.file("/usr/lib/os-release", rocky.os_release("9"))
    chroot.file("/etc/dnf/vars/releasever", "9")
    chroot.file("/etc/dnf/plugins/local.conf", "[main]\nenabled=0\n")  # Debian turns it on
    chroot.file("/etc/yum.repos.d/.there")
    chroot.file("/etc/pki/rpm-gpg/RPM-GPG-KEY-Rocky-9", key.armored.decode())
    return chroot


def printed(guest: Chroot, script: str, **environment: str) -> list[str]:
    """What commands print in a guest, all of them successful."""
    result = ran(guest, script, **environment)
    assert result.returncode == 0, result.stdout
    return [line for line in result.stdout.splitlines() if not line.startswith("kernel left")]


def ran(guest: Chroot, script: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(f"set -euo pipefail\n{script}\n")
        file.flush()
        return guest.run(Path(file.name), DIB_RELEASE="9", **environment)


def phase(guest: Chroot, name: str) -> str:
    """The shell that runs one of the family's phases."""
    guest.copy(FAMILY / name, f"/root/{name}")
    return f"/root/{name} > /root/log 2>&1 || {{ cat /root/log; exit 1; }}\n"


def repository(url: str, name: str = "vendor", more: str = "") -> str:
    gpg = "gpgcheck=1\ngpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-Rocky-9\n"
    return f"[{name}]\nname={name}\nbaseurl=file://{url}\n{gpg}{more}\n"


def test_the_newest_kernel_is_rpms_newest_and_an_older_one_goes_with_its_files(guest: Chroot, site: Path) -> None:
    packages = " ".join(str(path) for path in sorted((site / "packages").glob("kernel-core-*")))
    script = f"{INSTALL} {packages}\ntouch /boot/vmlinuz-{OLD}.x86_64 /boot/initramfs-{OLD}.x86_64.img\n"
    script += f"guest-os newest-kernel\nguest-os kernel-package {NEW}.x86_64\n"
    script += f"guest-os remove-kernel {OLD}.x86_64 2> /dev/null\n"
    script += "rpm --query kernel-core\nls /lib/modules\nfind /boot -name '*el9*'"
    newest = f"{NEW}.x86_64"
    assert printed(guest, script) == [newest, "kernel-core", f"kernel-core-{newest}", newest]


def test_a_package_of_a_branch_stays_when_it_is_held_and_another_is_upgraded(guest: Chroot, site: Path) -> None:
    guest.file("/etc/yum.repos.d/vendor.repo", repository(f"{site}/vendor", more="module_hotfixes=1"))
    older = rpm.build([Rpm(name="tool", version="1.0", architecture="noarch")], site / "older")[0]
    script = f"{INSTALL} {older}\nguest-os install-packages 'nvidia-driver-cuda=580.*' 2> /dev/null\n"
    script += "guest-os hold-packages '^(kernel|nothing)|nvidia' 2> /dev/null\nguest-os held-packages\n"
    script += "install-packages -u > /dev/null 2>&1\nrpm --query --queryformat '%{VERSION}\\n' nvidia-driver-cuda tool"
    assert printed(guest, script) == ["nvidia-driver-cuda", "580.95.05", "2.0"]


def test_a_file_is_of_its_package_and_a_strangers_of_none(guest: Chroot, site: Path) -> None:
    package = site / f"packages/{cuda('580.95.05').filename}"
    script = f"{INSTALL} {package}\nguest-os package-of {LIBRARY}\nguest-os package-name {package}\n"
    script += f"guest-os package-architecture {package}\n! guest-os package-of /etc/hostname"
    about = "nvidia-driver-cuda 580.95.05"
    assert printed(guest, script) == [about, about, "amd64", "No package owns /etc/hostname"]


def test_a_stream_offers_its_own_versions_alone(guest: Chroot, site: Path) -> None:
    guest.file("/etc/yum.repos.d/vendor.repo", repository(f"{site}/vendor"))
    script = (
        "guest-os enable-stream nvidia-driver:580-open 2> /dev/null\nguest-os package-versions nvidia-driver-cuda\n"
    )
    script += (
        "guest-os enable-stream nvidia-driver:open-dkms 2> /dev/null\nguest-os package-versions nvidia-driver-cuda"
    )
    assert printed(guest, script) == ["3:580.95.05-1.el9", "3:590.48.01-1.el9"]


def test_a_repository_for_some_packages_gives_no_others(guest: Chroot, site: Path) -> None:
    add = f"guest-os add-repository 'NVIDIA CUDA' file://{site}/unsigned /etc/pki/rpm-gpg/RPM-GPG-KEY-Rocky-9"
    script = f"{add} only 'nvidia-*' 'cuda*'\ndnf --quiet repoquery --queryformat '%{{name}}' | sort -u\n"
    script += f"{add} prefer 'nvidia-*'\ndnf --quiet repoquery --queryformat '%{{name}}' | sort -u"
    assert printed(guest, script) == ["nvidia-driver-cuda", "nvidia-driver-cuda", "tool"]


def test_an_unsigned_package_is_refused(guest: Chroot, site: Path) -> None:
    guest.file("/etc/yum.repos.d/vendor.repo", repository(f"{site}/unsigned"))
    result = ran(guest, "guest-os install-packages tool")
    assert result.returncode != 0
    assert "is not signed" in result.stdout


def test_the_build_uses_its_mirror_and_the_guest_keeps_its_own_repositories(guest: Chroot, site: Path) -> None:
    own = repository("/nowhere", "baseos")
    guest.file("/etc/yum.repos.d/rocky.repo", own)
    script = phase(guest, "pre-install.d/04-choose-repositories") + "guest-os package-versions tool\n"
    script += phase(guest, "finalise.d/80-restore-repositories")
    script += "ls /etc/yum.repos.d\ncat /etc/yum.repos.d/rocky.repo"
    mirror = {"DIB_DISTRIBUTION_MIRROR": f"file://{site}/mirror", "DIB_GUEST_MIRROR": ""}
    assert printed(guest, script, **mirror) == ["0:2.0-1", "rocky.repo", *own.splitlines()]


def test_a_guest_with_a_mirror_keeps_that_instead(guest: Chroot, site: Path) -> None:
    guest.file("/etc/yum.repos.d/rocky.repo", repository("/nowhere", "baseos"))
    script = phase(guest, "pre-install.d/04-choose-repositories") + phase(guest, "finalise.d/80-restore-repositories")
    script += "ls /etc/yum.repos.d\ngrep baseurl /etc/yum.repos.d/*"
    mirrors = {"DIB_DISTRIBUTION_MIRROR": f"file://{site}/mirror", "DIB_GUEST_MIRROR": "https://mirror.example/rocky/"}
    urls = [f"https://mirror.example/rocky/9/{name}/$basearch/os/" for name in ("BaseOS", "AppStream", "CRB", "extras")]
    assert printed(guest, script, **mirrors) == ["gpu-image.repo", *(f"baseurl={url}" for url in urls)]


def test_a_base_without_repositories_is_refused_with_the_remedy(guest: Chroot) -> None:
    script = phase(guest, "pre-install.d/04-choose-repositories")
    result = ran(guest, script, DIB_DISTRIBUTION_MIRROR="", DIB_GUEST_MIRROR="")
    assert result.returncode != 0
    assert "base.guest_mirror" in result.stdout


def test_dkms_comes_from_epel_where_no_other_repository_has_it(guest: Chroot, site: Path) -> None:
    script = phase(guest, "pre-install.d/04-choose-repositories") + phase(guest, "pre-install.d/20-find-dkms")
    script += "ls /etc/yum.repos.d\nguest-os install-packages dkms 2> /dev/null\nrpm --query dkms"
    mirror = {"DIB_DISTRIBUTION_MIRROR": f"file://{site}/mirror", "DIB_GUEST_MIRROR": "", "DIB_KERNEL_HEADERS": "1"}
    assert printed(guest, script, **mirror) == ["aside", "epel.repo", "gpu-image.repo", "dkms-1.0-1.noarch"]


def test_without_a_driver_epel_stays_away(guest: Chroot, site: Path) -> None:
    script = phase(guest, "pre-install.d/04-choose-repositories") + phase(guest, "pre-install.d/20-find-dkms")
    mirror = {"DIB_DISTRIBUTION_MIRROR": f"file://{site}/mirror", "DIB_GUEST_MIRROR": "", "DIB_KERNEL_HEADERS": "0"}
    assert printed(guest, script + "ls /etc/yum.repos.d", **mirror) == ["aside", "gpu-image.repo"]


def test_the_package_list_is_that_of_rpm(guest: Chroot, site: Path) -> None:
    guest.program("dnf", "true")
    script = f"{INSTALL} {site}/packages/nvidia-driver-cuda-580*.rpm {site}/packages/tool-*.rpm\n"
    script += phase(guest, "finalise.d/90-list-packages") + "cat /root/dib-manifest-rpm-image"
    listed = json.loads("".join(printed(guest, script, DIB_MANIFEST_IMAGE_DIR="/root", IMAGE_NAME="/builds/image")))
    found = {package["package"]: package["version"] for package in listed["packages"]}
    assert found == {"nvidia-driver-cuda": "3:580.95.05-1.el9", "tool": "2.0-1"}


def test_a_kernel_is_a_boot_entry_and_later_ones_get_the_same_options(guest: Chroot) -> None:
    guest.program("grub2-editenv", 'echo "# GRUB Environment Block" > "$1"')
    guest.file("/boot/loader/entries/0123-5.14.0-1.conf", "linux /vmlinuz-5.14.0-1\n")
    guest.file("/boot/grub2/grubenv", "saved_entry=0123-5.14.0-1\n")
    script = f"guest-os configure-boot {NEW} 'root=LABEL=img-rootfs ro console=ttyS0'\n"
    script += "cat /boot/loader/entries/* /etc/kernel/cmdline /boot/grub2/grubenv"
    lines = printed(guest, script)
    assert "blscfg" in lines
    assert f"linux /boot/vmlinuz-{NEW}" in lines
    assert f"initrd /boot/initramfs-{NEW}.img" in lines
    assert "options root=LABEL=img-rootfs ro console=ttyS0" in lines
    assert "root=LABEL=img-rootfs ro console=ttyS0" in lines
    assert not any("5.14.0-1" in line and NEW not in line for line in lines)


def test_a_kernel_compiled_by_another_gcc_gets_that_toolset(guest: Chroot) -> None:
    guest.file("/boot/config-5.14.0", "CONFIG_GCC_VERSION=110500\n")
    guest.program("gcc", "echo 13")
    guest.program("install-packages", 'echo "installing $*" >&2')
    lines = printed(guest, "guest-os module-compiler 5.14.0")
    assert lines == ["installing gcc-toolset-11-gcc", "/opt/rh/gcc-toolset-11/root/usr/bin/gcc"]
    guest.program("gcc", "echo 11")
    assert printed(guest, "guest-os module-compiler 5.14.0") == ["gcc"]


def test_a_kernel_that_is_only_beside_its_modules_is_put_into_boot(guest: Chroot) -> None:
    guest.file("/lib/modules/5.14.0/vmlinuz", "kernel")
    guest.file("/lib/modules/5.14.0/config", "CONFIG_X=y")
    guest.program("depmod", 'touch "/lib/modules/$1/modules.dep"')
    assert printed(
        guest,
        phase(guest, "install.d/40-place-kernel") + "cat /boot/{vmlinuz,config}-5.14.0; ls /lib/modules/*/modules.dep",
    ) == ["kernelCONFIG_X=y/lib/modules/5.14.0/modules.dep"]


# The disk and what is sealed


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree as Red Hat's family has it, with a file that SELinux knows."""
    root = tmp_path / "tree"
    for name in ("shimx64.efi", "grubx64.efi", "mmx64.efi", "shimaa64.efi", "grubaa64.efi", "mmaa64.efi"):
        (root / "boot/efi/EFI/redhat").mkdir(parents=True, exist_ok=True)
        (root / "boot/efi/EFI/redhat" / name).write_text(name)
    (root / "boot/efi/EFI/redhat/grub.cfg").write_text("search --fs-uuid 1234\n")
    (root / "boot/grub2/i386-pc").mkdir(parents=True)
    (root / "boot/grub2/i386-pc/boot.img").write_bytes(b"\xeb\x63\x90".ljust(512, b"\0"))
    (root / "boot/grub2/i386-pc/core.img").write_bytes(b"\x52".ljust(40000, b"\1"))
    (root / "etc").mkdir()
    (root / "etc/shadow").write_text("root:!::\n")
    os.setxattr(root / "etc/shadow", "security.selinux", b"system_u:object_r:shadow_t:s0\0")
    return root


def esp(disk: Path, path: str) -> str:
    return output("mtype", "-i", f"{disk}@@2M", f"::{path}")


def test_the_esp_has_red_hats_signed_files_twice_and_our_menu(tmp_path: Path, tree: Path) -> None:
    result = assembled(tmp_path, tree, DISTRO_NAME="rhel")
    assert result.returncode == 0, result.stdout
    disk = tmp_path / "disk.raw"
    assert esp(disk, "/EFI/BOOT/BOOTX64.EFI") == esp(disk, "/EFI/redhat/shimx64.efi") == "shimx64.efi"
    assert esp(disk, "/EFI/BOOT/grubx64.efi") == esp(disk, "/EFI/redhat/grubx64.efi") == "grubx64.efi"
    assert "configfile ($root)/boot/grub2/grub.cfg" in esp(disk, "/EFI/redhat/grub.cfg")


def test_an_arm_machine_has_uefi_alone(tmp_path: Path, tree: Path) -> None:
    subprocess.run(["rm", "-rf", tree / "boot/grub2/i386-pc"], check=True)
    result = assembled(tmp_path, tree, DISTRO_NAME="rhel", ARCH="arm64")
    assert result.returncode == 0, result.stdout
    disk = tmp_path / "disk.raw"
    partitions = json.loads(output("sfdisk", "--json", disk))["partitiontable"]["partitions"]
    assert [partition["name"] for partition in partitions] == ["esp", "root"]
    assert partitions[-1]["type"] == "B921B045-1DF0-41C3-AF44-4C6F280D3FAE"
    assert esp(disk, "/EFI/BOOT/BOOTAA64.EFI") == "shimaa64.efi"


@pytest.mark.parametrize("file_system", ["ext4", "xfs"])
def test_labels_reach_the_disk(tmp_path: Path, tree: Path, file_system: str) -> None:
    result = assembled(
        tmp_path, tree, DISTRO_NAME="rhel", DIB_GPT_DISK_ROOT_FSTYPE=file_system, DIB_GPT_DISK_ROOT_LABEL="root"
    )
    assert result.returncode == 0, result.stdout
    script = (
        f"mount -o ro,loop,offset={130 * 2**20} {tmp_path}/disk.raw /mnt && "
        '/usr/bin/python3 -c \'import os; print(os.getxattr("/mnt/etc/shadow", "security.selinux"))\''
    )
    assert "shadow_t" in output("unshare", "--mount", "sh", "-c", script)


REDHAT_TRACES = (
    "etc/yum.repos.d/redhat.repo",
    "var/cache/dnf/baseos/packages/x.rpm",
    "var/lib/dnf/history.sqlite",
    "etc/pki/consumer/key.pem",
    "etc/pki/entitlement/1.pem",
    "var/lib/rhsm/cache/x.json",
    "etc/insights-client/machine-id",
)


def test_sealing_takes_dnfs_traces_and_the_subscription(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    kept = ("etc/yum.repos.d/rocky.repo", "var/lib/dnf/modules/x", "etc/dnf/plugins/versionlock.list", "etc/machine-id")
    for name in (*REDHAT_TRACES, *kept, "var/log/x", "var/tmp/x", "tmp/x", "run/x", "root/x", "home/x"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("text")
    run_on_host(
        FAMILY.parent / "seal-guest/cleanup.d/95-seal-tree", TMP_MOUNT_PATH=tree, TMP_HOOKS_PATH=tmp_path / "hooks"
    )
    assert [name for name in REDHAT_TRACES if (tree / name).exists()] == []
    assert [name for name in kept if not (tree / name).exists()] == []
