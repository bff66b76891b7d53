"""Do the elements' phases do what they guarantee, and fail when they cannot?"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from pipelines import disk as disk_module
from tests.elements.chroot import Chroot

ELEMENTS = Path(__file__).parent.parent.parent / "elements"
CONTRACT = ELEMENTS / "nvidia-driver/post-install.d/90-check-kernel-contract"
KERNEL = "6.12.1-amd64"
VERSION = "550.163.01"


@pytest.fixture
def chroot(tmp_path: Path) -> Chroot:
    return Chroot(tmp_path)


@pytest.fixture
def guest(chroot: Chroot) -> Chroot:
    """A guest in which the kernel contract holds."""
    updates = f"/lib/modules/{KERNEL}/updates/dkms"
    modules = ("nvidia-current", "nvidia-current-uvm", "nvidia-current-modeset")
    for module in modules:
        chroot.file(f"{updates}/{module}.ko", f"vermagic={KERNEL} SMP\nversion={VERSION}\n")
    listed = "".join(f"updates/dkms/{module}.ko:\n" for module in modules)
    chroot.file(f"/lib/modules/{KERNEL}/modules.dep", listed)
    chroot.file(f"/lib/modules/{KERNEL}/build/include/there")
    chroot.file(f"/usr/lib/x86_64-linux-gnu/libcuda.so.{VERSION}")
    chroot.file(f"/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.{VERSION}")
    chroot.file("/usr/bin/nvidia-smi")
    chroot.program("dkms", f"echo 'nvidia-current/{VERSION}, {KERNEL}, x86_64: installed'")
    chroot.program("modinfo", 'sed -n "s/^$2=//p" "$3"')
    chroot.program("ldconfig", "echo '\tlibcuda.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcuda.so.1'")
    chroot.program(
        "dpkg-query",
        f'case $1 in --search) echo "nvidia-smi: /usr/bin/nvidia-smi";; *) echo -n "{VERSION}-2+deb13u1";; esac',
    )
    chroot.program("apt-mark", f"printf 'linux-image-{KERNEL}\\nnvidia-kernel-dkms\\n'")
    return chroot


def test_the_contract_holds_for_a_good_guest(guest: Chroot) -> None:
    result = guest.run(CONTRACT, DIB_NVIDIA_MODULES="proprietary")
    assert result.returncode == 0, result.stdout
    assert f"Kernel contract holds: kernel {KERNEL}, NVIDIA {VERSION}" in result.stdout


def broken(guest: Chroot) -> str:
    result = guest.run(CONTRACT, DIB_NVIDIA_MODULES="proprietary")
    assert result.returncode != 0, result.stdout
    return result.stdout


def test_a_module_for_another_kernel_breaks_it(guest: Chroot) -> None:
    guest.file(f"/lib/modules/{KERNEL}/updates/dkms/nvidia-current.ko", f"vermagic=6.18.44 SMP\nversion={VERSION}\n")
    assert f"was built for 6.18.44, the guest boots {KERNEL}" in broken(guest)


def test_a_module_of_another_version_breaks_it(guest: Chroot) -> None:
    guest.file(f"/lib/modules/{KERNEL}/updates/dkms/nvidia-current.ko", f"vermagic={KERNEL} SMP\nversion=535.1\n")
    assert "has version 535.1" in broken(guest)


def test_modules_that_dkms_built_and_did_not_install_break_it(guest: Chroot) -> None:
    guest.program("dkms", f"echo 'nvidia-current/{VERSION}, {KERNEL}, x86_64: built'")
    assert "dkms does not say installed" in broken(guest)


def test_no_modules_at_all_break_it(guest: Chroot) -> None:
    guest.program("dkms", "true")
    assert "dkms knows no NVIDIA module" in broken(guest)


def test_a_module_that_depmod_does_not_list_breaks_it(guest: Chroot) -> None:
    guest.file(f"/lib/modules/{KERNEL}/modules.dep", "")
    assert "modules.dep does not list" in broken(guest)


def test_an_nvidia_smi_of_another_version_breaks_it(guest: Chroot) -> None:
    guest.program(
        "dpkg-query", 'case $1 in --search) echo "nvidia-smi: /usr/bin/nvidia-smi";; *) echo -n "535.309-1";; esac'
    )
    assert f"nvidia-smi is 535.309-1, the modules are {VERSION}" in broken(guest)


def test_a_driver_that_is_not_held_breaks_it(guest: Chroot) -> None:
    guest.program("apt-mark", "true")
    assert f"linux-image-{KERNEL} is not held" in broken(guest)


def test_missing_cuda_libraries_break_it(guest: Chroot) -> None:
    guest.program("ldconfig", "true")
    assert "libcuda.so.1 is not where programs look for it" in broken(guest)


def test_a_failed_compilation_fails_the_build_and_shows_dkms_own_log(chroot: Chroot) -> None:
    chroot.file(f"/lib/modules/{KERNEL}/modules.dep")
    chroot.file(
        f"/usr/src/nvidia-current-{VERSION}/dkms.conf", f'PACKAGE_NAME="nvidia-current"\nPACKAGE_VERSION="{VERSION}"\n'
    )
    chroot.file(f"/var/lib/dkms/nvidia-current/{VERSION}/build/make.log", "error: implicit declaration of function\n")
    chroot.file(f"/boot/config-{KERNEL}", "CONFIG_GCC_VERSION=140200\n")
    chroot.program("dkms", "exit 10")
    result = chroot.run(ELEMENTS / "nvidia-driver/post-install.d/50-compile-modules", ARCH="amd64")
    assert result.returncode != 0
    assert "implicit declaration of function" in result.stdout
    assert f"does not compile for kernel {KERNEL}" in result.stdout


def test_modules_are_compiled_for_the_target_and_without_dibs_arch(chroot: Chroot) -> None:
    chroot.file(f"/lib/modules/{KERNEL}/modules.dep")
    chroot.file(
        f"/usr/src/nvidia-current-{VERSION}/dkms.conf", f'PACKAGE_NAME="nvidia-current"\nPACKAGE_VERSION="{VERSION}"\n'
    )
    chroot.file(f"/boot/config-{KERNEL}", "CONFIG_GCC_VERSION=140200\n")
    chroot.program("dkms", 'echo "dkms $* ARCH=${ARCH:-unset} CC=$CC"')
    result = chroot.run(ELEMENTS / "nvidia-driver/post-install.d/50-compile-modules", ARCH="amd64")
    assert f"dkms install -m nvidia-current -v {VERSION} -k {KERNEL} ARCH=unset CC=gcc-14" in result.stdout
    assert result.returncode == 0


def test_a_kernel_that_gcc_did_not_build_is_refused(chroot: Chroot) -> None:
    chroot.file(f"/lib/modules/{KERNEL}/modules.dep")
    chroot.file(f"/boot/config-{KERNEL}", 'CONFIG_CC_VERSION_TEXT="clang 19"\nCONFIG_GCC_VERSION=0\n')
    result = chroot.run(ELEMENTS / "driver-prerequisites/install.d/60-check-compiler")
    assert result.returncode != 0
    assert "not built by gcc but by: clang 19" in result.stdout


def test_an_older_kernel_of_the_base_image_goes(chroot: Chroot) -> None:
    for kernel in ("6.8.0-1", KERNEL):
        chroot.file(f"/lib/modules/{kernel}/modules.dep")
        chroot.file(f"/boot/vmlinuz-{kernel}")
    chroot.program("linux-version", f"case $1 in list) ;; sort) cat > /dev/null; echo {KERNEL};; esac")
    chroot.program("dpkg-query", "echo linux-image-6.8.0-1")
    chroot.program("apt-get", 'echo "apt-get $*"')
    result = chroot.run(ELEMENTS / "target-kernel/install.d/50-keep-one-kernel", DIB_KERNEL_HEADERS="0")
    assert result.returncode == 0, result.stdout
    assert "purge linux-image-6.8.0-1" in result.stdout
    assert [line for line in result.stdout.splitlines() if "kernel left" in line] == [f"kernel left: {KERNEL}"]


def test_missing_headers_are_said_before_anything_is_compiled(chroot: Chroot) -> None:
    chroot.file(f"/lib/modules/{KERNEL}/modules.dep")
    chroot.file(f"/boot/vmlinuz-{KERNEL}")
    chroot.program("linux-version", f"[ $1 = list ] || cat > /dev/null; echo {KERNEL}")
    result = chroot.run(ELEMENTS / "target-kernel/install.d/50-keep-one-kernel", DIB_KERNEL_HEADERS="1")
    assert result.returncode != 0
    assert f"headers of kernel {KERNEL} are not installed" in result.stdout


def test_an_ubuntu_driver_without_its_branch_is_refused(chroot: Chroot) -> None:
    chroot.program("pkg-map", "echo nvidia-dkms-@BRANCH@-server-open; echo nvidia-utils-@BRANCH@-server")
    chroot.program("install-packages", 'echo "installing $*"')
    script = ELEMENTS / "nvidia-driver/install.d/70-install-driver"
    common = {"DISTRO_NAME": "ubuntu", "DIB_NVIDIA_MODULES": "open"}
    refused = chroot.run(script, DIB_NVIDIA_BRANCH="", **common)
    assert refused.returncode != 0
    assert "driver.branch" in refused.stdout
    assert (
        "installing nvidia-dkms-580-server-open nvidia-utils-580-server"
        in chroot.run(script, DIB_NVIDIA_BRANCH="580", **common).stdout
    )


HOST_TRACES = (
    "etc/apt/sources.list.d/default.list",
    "etc/apt/sources.list.d/.list",
    "etc/apt/apt.conf.d/60img-build-proxy",
    "var/lib/apt/lists/mirror_dists_InRelease",
    "var/cache/apt/archives/gcc.deb",
    "etc/dib-manifests/dib_environment",
    "lib/diskimage-builder/elements-functions",
    "usr/local/bin/install-packages",
    "etc/resolv.conf",
    "etc/.resolv.conf.systemd-resolved.bak",
    "var/lib/dbus/machine-id",
    "etc/ssh/ssh_host_rsa_key",
    "etc/ssh/ssh_host_rsa_key.pub",
    "var/lib/systemd/random-seed",
    "var/log/apt/term.log",
    "tmp/leftover",
    "var/tmp/leftover",
    "run/systemd/resolve/stub-resolv.conf",
    "root/.bash_history",
)


def test_sealing_takes_every_trace_of_the_build_and_keeps_the_rest(tmp_path: Path) -> None:
    tree, hooks = tmp_path / "tree", tmp_path / "hooks"
    for name in (*HOST_TRACES, "etc/machine-id", "etc/ssh/sshd_config", "home/user/keep", "usr/local/bin/keep"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("text")
    (hooks / "bin").mkdir(parents=True)
    (hooks / "bin/install-packages").write_text("")
    run_on_host(ELEMENTS / "seal-guest/cleanup.d/95-seal-tree", TMP_MOUNT_PATH=tree, TMP_HOOKS_PATH=hooks)
    assert [name for name in HOST_TRACES if (tree / name).exists()] == []
    assert (tree / "etc/machine-id").read_text() == ""
    assert all((tree / name).exists() for name in ("etc/ssh/sshd_config", "home/user/keep", "usr/local/bin/keep"))


def test_sealing_gives_a_guest_with_resolved_its_stub(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for folder in ("var/log", "var/tmp", "tmp", "run", "root", "home", "etc", "usr/lib/systemd"):
        (tree / folder).mkdir(parents=True)
    (tree / "usr/lib/systemd/systemd-resolved").write_text("")
    (tree / "etc/resolv.conf").write_text("nameserver 10.0.0.1\n")
    run_on_host(ELEMENTS / "seal-guest/cleanup.d/95-seal-tree", TMP_MOUNT_PATH=tree, TMP_HOOKS_PATH=tmp_path)
    assert os.readlink(tree / "etc/resolv.conf") == "../run/systemd/resolve/stub-resolv.conf"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The least that a disk is assembled from."""
    root = tmp_path / "tree"
    for name in (
        "usr/lib/shim/shimx64.efi.signed",
        "usr/lib/shim/mmx64.efi",
        "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
        "etc/hostname",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    grub = root / "boot/grub/i386-pc"
    grub.mkdir(parents=True)
    (grub / "boot.img").write_bytes(b"\xeb\x63\x90".ljust(512, b"\0"))
    (grub / "core.img").write_bytes(b"\x52".ljust(40000, b"\1"))
    return root


def assembled(tmp_path: Path, tree: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "host-bin").symlink_to(ELEMENTS / "gpt-disk/host-bin")
    defaults = {
        "DIB_GPT_DISK_SIZE": "2G",
        "DIB_GPT_DISK_ROOT_FSTYPE": "ext4",
        "DIB_GPT_DISK_ROOT_LABEL": "cloudimg-rootfs",
        "DISTRO_NAME": "debian",
    }
    paths = {"TMP_IMAGE_DIR": tmp_path, "TMP_MOUNT_PATH": tree, "TMP_HOOKS_PATH": hooks}
    return run_on_host(
        ELEMENTS / "gpt-disk/cleanup.d/98-assemble-disk", check=False, **{**defaults, **paths, **environment}
    )


def test_the_disk_has_the_declared_size_and_its_root_last(tmp_path: Path, tree: Path) -> None:
    result = assembled(tmp_path, tree)
    assert result.returncode == 0, result.stdout
    disk = tmp_path / "disk.raw"
    assert disk.stat().st_size == 2 * 2**30
    table = json.loads(output("sfdisk", "--json", disk))["partitiontable"]
    assert [partition["name"] for partition in table["partitions"]] == ["bios-boot", "esp", "root"]
    assert disk_module.partition_table(disk).problems == ()


def test_both_firmwares_find_their_boot_code(tmp_path: Path, tree: Path) -> None:
    assembled(tmp_path, tree)
    disk = tmp_path / "disk.raw"
    with disk.open("rb") as image:
        first = image.read(512)
        image.seek(2**20)
        core = image.read(512)
    assert first[:3] == b"\xeb\x63\x90"
    assert int.from_bytes(first[0x5C:0x64], "little") == 2048
    assert first[510:] == b"\x55\xaa"
    assert int.from_bytes(core[500:508], "little") == 2049
    listed = output("mdir", "-b", "-s", "-i", f"{disk}@@2M", "::/")
    assert "::/EFI/BOOT/BOOTX64.EFI" in listed
    assert "::/EFI/BOOT/grubx64.efi" in listed
    assert "configfile ($root)/boot/grub/grub.cfg" in output("mtype", "-i", f"{disk}@@2M", "::/EFI/debian/grub.cfg")


def test_a_shim_behind_an_absolute_link_is_taken_from_the_guest_and_not_from_the_host(
    tmp_path: Path, tree: Path
) -> None:
    shim = tree / "usr/lib/shim"
    (shim / "shimx64.efi.signed").unlink()
    (shim / "shimx64.efi.signed").symlink_to("/etc/hostname")  # as update-alternatives does, to a file the host has
    (shim / "shimx64.efi.signed.latest").write_text("the guest's shim")
    assert assembled(tmp_path, tree).returncode == 0
    assert output("mtype", "-i", f"{tmp_path}/disk.raw@@2M", "::/EFI/BOOT/BOOTX64.EFI") == "the guest's shim"


def test_a_guest_without_a_signed_shim_is_said(tmp_path: Path, tree: Path) -> None:
    (tree / "usr/lib/shim/shimx64.efi.signed").unlink()
    (tree / "usr/lib/shim/shimx64.efi.signed").symlink_to("/etc/hostname")
    result = assembled(tmp_path, tree)
    assert result.returncode != 0
    assert "its signed boot loader is missing" in result.stdout


@pytest.mark.parametrize("file_system", ["ext4", "xfs"])
def test_the_root_file_system_has_the_tree(tmp_path: Path, tree: Path, file_system: str) -> None:
    result = assembled(tmp_path, tree, DIB_GPT_DISK_ROOT_FSTYPE=file_system, DIB_GPT_DISK_ROOT_LABEL="root-label")
    assert result.returncode == 0, result.stdout
    disk = tmp_path / "disk.raw"
    assert output("blkid", "-p", "-O", str(130 * 2**20), "-o", "value", "-s", "TYPE", disk).strip() == file_system
    mounted = f"mount -o ro,loop,offset={130 * 2**20} {disk} /mnt && cat /mnt/etc/hostname && umount /mnt"
    assert output("unshare", "--mount", "sh", "-c", mounted) == "etc/hostname"


def test_a_disk_too_small_for_its_content_is_said_with_the_remedy(tmp_path: Path, tree: Path) -> None:
    result = assembled(tmp_path, tree, DIB_GPT_DISK_SIZE="300M")
    assert result.returncode != 0
    assert "the disk of 300M leaves" in result.stdout
    assert "disk.size" in result.stdout


def output(*argv: str | Path) -> str:
    environment = os.environ | {"MTOOLS_SKIP_CHECK": "1", "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    return subprocess.run(argv, capture_output=True, text=True, check=True, env=environment).stdout


def run_on_host(script: Path, *, check: bool = True, **environment: str | Path) -> "subprocess.CompletedProcess[str]":
    values = {name: str(value) for name, value in environment.items()}
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return subprocess.run(
        ["bash", script],
        env={"PATH": path, "LC_ALL": "C", **values},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=check,
        timeout=60,
    )
