"""Guarantees of the elements' phases, and their failures if they cannot hold them."""

import json
import os
from pathlib import Path

import pytest

from pipelines.diskimage import gpt
from tests.support.chroot import MODINFO, Chroot
from tests.support.host_phases import assembled, output, run_on_host
from tests.support.paths import ELEMENTS

CONTRACT = ELEMENTS / "nvidia-driver/post-install.d/90-check-kernel-contract"
COMPILE = ELEMENTS / "nvidia-driver/post-install.d/50-compile-modules"
USER_SPACE = ELEMENTS / "nvidia-driver/post-install.d/91-check-user-space"
KERNEL = "6.12.1-amd64"
VERSION = "550.163.01"


LIBRARIES = "/usr/lib/x86_64-linux-gnu"
MODULES = ("nvidia-current", "nvidia-current-uvm", "nvidia-current-modeset")
PROPRIETARY = {"DIB_NVIDIA_SOURCE": "archive", "DIB_NVIDIA_MODULES": "proprietary"}
PRECOMPILED = {
    "DIB_NVIDIA_SOURCE": "precompiled",
    "DIB_NVIDIA_MODULES": "open",
    "DIB_NVIDIA_SIGNER": "Canonical Ltd. Kernel Module Signing",
}


@pytest.fixture
def chroot(tmp_path: Path) -> Chroot:
    made = Chroot(tmp_path)
    made.commands("debian-family")
    made.commands("nvidia-driver")
    made.commands("target-kernel")
    return made


@pytest.fixture
def guest(chroot: Chroot) -> Chroot:
    """A guest in which the kernel contract holds, with modules that DKMS compiled."""
    chroot.program("modinfo", MODINFO)
    for name in MODULES:
        module(chroot, f"updates/dkms/{name}.ko")
    listed = "".join(f"updates/dkms/{name}.ko:\n" for name in MODULES)
    chroot.file(f"/lib/modules/{KERNEL}/modules.dep", listed)
    chroot.file(f"/lib/modules/{KERNEL}/build/include/there")
    chroot.program("dkms", f"echo 'nvidia-current/{VERSION}, {KERNEL}, x86_64: installed'")
    libraries(chroot, VERSION)
    owned(chroot, VERSION)
    chroot.program("apt-mark", f"printf 'linux-image-{KERNEL}\\nnvidia-smi\\nlibcuda1\\nlibnvidia-ml1\\n'")
    return chroot


def module(
    chroot: Chroot,
    path: str,
    *,
    kernel: str = KERNEL,
    version: str = VERSION,
    licence: str = "NVIDIA",
    signer: str = "",
) -> None:
    """A kernel module, as the test's modinfo reads it."""
    text = f"vermagic={kernel} SMP\nversion={version}\nlicense={licence}\nsigner={signer}\n"
    chroot.file(f"/lib/modules/{KERNEL}/{path}", text)


def libraries(chroot: Chroot, version: str) -> None:
    cache = []
    for name in ("libcuda", "libnvidia-ml"):
        chroot.file(f"{LIBRARIES}/{name}.so.{version}", "library")
        chroot.link(f"{LIBRARIES}/{name}.so.1", f"{name}.so.{version}")
        cache.append(f"echo '\t{name}.so.1 (libc6,x86-64) => {LIBRARIES}/{name}.so.1'")
    chroot.file("/usr/bin/nvidia-smi", "program")
    chroot.program("ldconfig", "\n".join(cache))


def owned(chroot: Chroot, smi: str) -> None:
    """dpkg-query knows which packages the driver's files are of; nvidia-smi's has a version of the test's choice."""
    chroot.program(
        "dpkg-query",
        f"""case "$*" in
        *--search*vmlinuz*) echo "linux-image-{KERNEL}: /boot/vmlinuz-{KERNEL}" ;;
        *--search*nvidia-smi*) echo "nvidia-smi: /usr/bin/nvidia-smi" ;;
        *--search*libcuda*) echo "libcuda1:amd64: {LIBRARIES}/libcuda.so.{VERSION}" ;;
        *--search*libnvidia-ml*) echo "libnvidia-ml1:amd64: {LIBRARIES}/libnvidia-ml.so.{VERSION}" ;;
        *nvidia-smi) echo "{smi}-2+deb13u1" ;;
        *linux-image*) echo "6.12.1-1" ;;
        *) echo "2:{VERSION}-2+deb13u1" ;;
        esac""",
    )
    chroot.file(f"/boot/vmlinuz-{KERNEL}", "kernel")


def test_the_contract_holds_for_a_good_guest(guest: Chroot) -> None:
    first, second = guest.run(CONTRACT, **PROPRIETARY), guest.run(USER_SPACE, **PROPRIETARY)
    assert (first.returncode, second.returncode) == (0, 0), first.stdout + second.stdout
    assert f"Kernel contract holds: kernel {KERNEL}, NVIDIA {VERSION}" in first.stdout


def broken(guest: Chroot, script: Path = CONTRACT, **environment: str) -> str:
    result = guest.run(script, **(environment or PROPRIETARY))
    assert result.returncode != 0, result.stdout
    return result.stdout


def test_a_module_for_another_kernel_breaks_it(guest: Chroot) -> None:
    module(guest, "updates/dkms/nvidia-current.ko", kernel="6.18.44")
    assert f"was built for kernel 6.18.44, but the guest boots {KERNEL}" in broken(guest)


def test_modules_of_two_versions_break_it(guest: Chroot) -> None:
    module(guest, "updates/dkms/nvidia-current.ko", version="535.1")
    assert f"must have one version, but have 2: 535.1 {VERSION}" in broken(guest)


def test_modules_of_another_version_than_dkms_has_break_it(guest: Chroot) -> None:
    guest.program("dkms", f"echo 'nvidia-current/535.1, {KERNEL}, x86_64: installed'")
    assert f"dkms has no NVIDIA module of version {VERSION}" in broken(guest)


def test_modules_of_the_other_flavour_break_it(guest: Chroot) -> None:
    module(guest, "updates/dkms/nvidia-current.ko", licence="Dual MIT/GPL")
    assert "the modules are open, but proprietary ones were requested" in broken(guest)


def test_modules_that_dkms_built_and_did_not_install_break_it(guest: Chroot) -> None:
    guest.program("dkms", f"echo 'nvidia-current/{VERSION}, {KERNEL}, x86_64: built'")
    assert "dkms does not report each module as installed" in broken(guest)


@pytest.mark.parametrize(
    "warning",
    [
        "(WARNING! Diff between built and installed module!)",
        "(Differences between built and installed modules)",
        "(Built modules are missing in the kernel modules folder)",
    ],
)
def test_a_module_that_dkms_did_not_compile_is_refused(guest: Chroot, warning: str) -> None:
    guest.program("dkms", f"echo 'nvidia-current/{VERSION}, {KERNEL}, x86_64: installed {warning}'")
    assert "dkms does not report each module as installed" in broken(guest)


def test_no_modules_at_all_break_it(guest: Chroot) -> None:
    guest.program("guest-driver-modules", "true")
    assert "too few NVIDIA modules" in broken(guest)


def test_modules_that_dkms_does_not_know_break_it(guest: Chroot) -> None:
    guest.program("dkms", "true")
    assert "dkms has no NVIDIA module" in broken(guest)


def test_a_module_that_depmod_does_not_list_breaks_it(guest: Chroot) -> None:
    guest.file(f"/lib/modules/{KERNEL}/modules.dep", "")
    assert "modules.dep does not list" in broken(guest)


def test_a_kernel_that_is_not_held_breaks_it(guest: Chroot) -> None:
    guest.program("apt-mark", "true")
    assert f"linux-image-{KERNEL} is not held" in broken(guest)


def test_the_kernels_own_drivers_for_such_cards_are_none_of_nvidias(guest: Chroot) -> None:
    module(guest, "kernel/drivers/i2c/busses/i2c-nvidia-gpu.ko", version="")
    module(guest, "kernel/drivers/platform/x86/nvidia-wmi-ec-backlight.ko", version="6.1")
    assert guest.run(CONTRACT, **PROPRIETARY).returncode == 0


def test_an_nvidia_smi_of_another_version_breaks_it(guest: Chroot) -> None:
    owned(guest, "535.309")
    assert f"nvidia-smi is from nvidia-smi 535.309, but the modules are {VERSION}" in broken(guest, USER_SPACE)


def test_a_driver_that_is_not_held_breaks_it(guest: Chroot) -> None:
    guest.program("apt-mark", "echo nvidia-smi")
    assert "libcuda1 is not held" in broken(guest, USER_SPACE)


def test_missing_cuda_libraries_break_it(guest: Chroot) -> None:
    guest.program("ldconfig", "true")
    assert "the loader does not find libcuda.so.1" in broken(guest, USER_SPACE)


def test_a_library_that_leads_to_another_version_breaks_it(guest: Chroot) -> None:
    guest.program(
        "ldconfig",
        f'for each in libcuda libnvidia-ml; do echo "\t$each.so.1 (libc6,x86-64) => {LIBRARIES}/$each.so.535.1"; done',
    )
    assert "libcuda.so.535.1, but the modules are" in broken(guest, USER_SPACE)


def test_a_driver_of_no_package_breaks_it(guest: Chroot) -> None:
    guest.program("dpkg-query", "exit 1")
    assert "/usr/bin/nvidia-smi is missing, or no package owns it" in broken(guest, USER_SPACE)


def test_a_runfiles_driver_is_of_no_package(guest: Chroot) -> None:
    guest.program("dpkg-query", "exit 1")
    result = guest.run(USER_SPACE, DIB_NVIDIA_SOURCE="runfile")
    assert result.returncode == 0, result.stdout


def test_a_runfiles_driver_without_nvidia_smi_breaks_it(guest: Chroot) -> None:
    guest.program("dpkg-query", "exit 1")
    guest.file("/usr/bin/nvidia-smi", "")
    assert "/usr/bin/nvidia-smi is missing" in broken(guest, USER_SPACE, DIB_NVIDIA_SOURCE="runfile")


@pytest.fixture
def precompiled(guest: Chroot) -> Chroot:
    """A guest in which the contract holds, with modules that Ubuntu compiled and signed."""
    names = ("nvidia", "nvidia-uvm", "nvidia-modeset")
    for name in MODULES:
        guest.remove(f"/lib/modules/{KERNEL}/updates/dkms/{name}.ko")
    for name in names:
        own = f"kernel/nvidia-580srv-open/{name}.ko"
        module(guest, own, licence="Dual MIT/GPL", signer=PRECOMPILED["DIB_NVIDIA_SIGNER"])
    listed = "".join(f"kernel/nvidia-580srv-open/{name}.ko:\n" for name in names)
    guest.file(f"/lib/modules/{KERNEL}/modules.dep", listed)
    guest.program("dkms", "exit 1")
    return guest


def test_the_contract_holds_without_dkms_for_modules_that_the_distribution_signed(precompiled: Chroot) -> None:
    result = precompiled.run(CONTRACT, **PRECOMPILED)
    assert result.returncode == 0, result.stdout


def test_a_precompiled_module_without_the_distributions_signature_breaks_it(precompiled: Chroot) -> None:
    module(precompiled, "kernel/nvidia-580srv-open/nvidia.ko", licence="Dual MIT/GPL", signer="DKMS module signing key")
    assert "is signed by DKMS module signing key" in broken(precompiled, **PRECOMPILED)


def test_a_module_beside_the_precompiled_ones_breaks_it(precompiled: Chroot) -> None:
    module(precompiled, "updates/dkms/nvidia-peermem.ko", signer=PRECOMPILED["DIB_NVIDIA_SIGNER"])
    assert "updates/dkms/nvidia-peermem.ko is not from the distribution's kernel packages" in broken(
        precompiled, **PRECOMPILED
    )


def test_precompiled_modules_are_not_taken_for_those_of_dkms(precompiled: Chroot) -> None:
    precompiled.program("dkms", "true")
    assert "dkms has no NVIDIA module" in broken(precompiled, **{**PRECOMPILED, "DIB_NVIDIA_SOURCE": "archive"})


def test_a_failed_compilation_fails_the_build_and_shows_dkms_own_log(chroot: Chroot) -> None:
    chroot.file(f"/lib/modules/{KERNEL}/modules.dep")
    chroot.file(
        f"/usr/src/nvidia-current-{VERSION}/dkms.conf", f'PACKAGE_NAME="nvidia-current"\nPACKAGE_VERSION="{VERSION}"\n'
    )
    chroot.file(f"/var/lib/dkms/nvidia-current/{VERSION}/build/make.log", "error: implicit declaration of function\n")
    chroot.file(f"/boot/config-{KERNEL}", "CONFIG_GCC_VERSION=140200\n")
    chroot.program("gcc-14", "true")
    chroot.program("dkms", "exit 10")
    result = chroot.run(COMPILE, ARCH="amd64", DIB_NVIDIA_SOURCE="archive")
    assert result.returncode != 0
    assert "implicit declaration of function" in result.stdout
    assert f"does not compile for kernel {KERNEL}" in result.stdout


def test_modules_are_compiled_for_the_target_and_without_dibs_arch(chroot: Chroot) -> None:
    chroot.file(f"/lib/modules/{KERNEL}/modules.dep")
    chroot.file(
        f"/usr/src/nvidia-current-{VERSION}/dkms.conf", f'PACKAGE_NAME="nvidia-current"\nPACKAGE_VERSION="{VERSION}"\n'
    )
    chroot.file(f"/boot/config-{KERNEL}", "CONFIG_GCC_VERSION=140200\n")
    chroot.program("gcc-14", "true")
    chroot.program("dkms", '[ $1 = status ] || echo "dkms $* ARCH=${ARCH:-unset} CC=$CC"')
    result = chroot.run(COMPILE, ARCH="amd64", DIB_NVIDIA_SOURCE="archive")
    assert f" -m nvidia-current -v {VERSION} -k {KERNEL} ARCH=unset CC=gcc-14" in result.stdout
    assert result.returncode == 0


def test_a_driver_without_its_modules_source_is_reported(chroot: Chroot) -> None:
    chroot.file(f"/lib/modules/{KERNEL}/modules.dep")
    chroot.file(f"/boot/config-{KERNEL}", "CONFIG_GCC_VERSION=140200\n")
    chroot.program("gcc-14", "true")
    result = chroot.run(COMPILE, DIB_NVIDIA_SOURCE="local")
    assert result.returncode != 0
    assert "the driver's packages do not contain the source of its modules" in result.stdout


def test_modules_that_the_distribution_compiled_are_left_as_they_are(chroot: Chroot) -> None:
    chroot.file(f"/lib/modules/{KERNEL}/modules.dep")
    chroot.file("/usr/src/nvidia-srv-580.95.05/dkms.conf", 'PACKAGE_NAME="nvidia-srv"\n')
    chroot.program("dkms", "echo compiled; exit 1")
    result = chroot.run(COMPILE, DIB_NVIDIA_SOURCE="precompiled")
    assert result.returncode == 0
    assert "compiled" not in result.stdout


def test_a_key_that_a_package_made_does_not_stay_beside_precompiled_modules(chroot: Chroot, tmp_path: Path) -> None:
    chroot.file(f"/lib/modules/{KERNEL}/modules.dep")
    chroot.file("/var/lib/shim-signed/mok/MOK.priv", "key")
    script = tmp_path / "phase"
    script.write_text(f"(\n{COMPILE.read_text()}\n)\nls -A /var/lib/shim-signed/mok\n")
    result = chroot.run(script, DIB_NVIDIA_SOURCE="precompiled")
    assert result.returncode == 0, result.stdout
    assert "MOK.priv" not in result.stdout


def test_modules_that_the_installer_has_compiled_are_not_compiled_again(chroot: Chroot) -> None:
    chroot.file(f"/lib/modules/{KERNEL}/modules.dep")
    chroot.file(f"/boot/config-{KERNEL}", "CONFIG_GCC_VERSION=140200\n")
    chroot.file(f"/usr/src/nvidia-{VERSION}/dkms.conf", f'PACKAGE_NAME="nvidia"\nPACKAGE_VERSION="{VERSION}"\n')
    chroot.program("gcc-14", "true")
    chroot.program("dkms", f'[ $1 = status ] && echo "nvidia/{VERSION}, {KERNEL}, x86_64: installed"')
    assert chroot.run(COMPILE, DIB_NVIDIA_SOURCE="runfile").returncode == 0


@pytest.mark.parametrize("wanted", [{"DIB_NVIDIA_BRANCH": "580"}, {"DIB_NVIDIA_VERSION": "550.163.02"}])
def test_a_driver_of_another_branch_or_version_breaks_it(guest: Chroot, wanted: dict[str, str]) -> None:
    assert f"the driver is {VERSION}, but" in broken(guest, **PROPRIETARY, **wanted)


def test_a_kernel_that_gcc_did_not_build_is_refused(chroot: Chroot) -> None:
    chroot.file(f"/lib/modules/{KERNEL}/modules.dep")
    chroot.file(f"/boot/config-{KERNEL}", 'CONFIG_CC_VERSION_TEXT="clang 19"\nCONFIG_GCC_VERSION=0\n')
    result = chroot.run(ELEMENTS / "driver-prerequisites/install.d/60-check-compiler")
    assert result.returncode != 0
    assert "not built with gcc, but with clang 19" in result.stdout


def test_an_older_kernel_of_the_base_image_goes(chroot: Chroot) -> None:
    for kernel in ("6.8.0-1", KERNEL):
        chroot.file(f"/lib/modules/{kernel}/modules.dep")
        chroot.file(f"/boot/vmlinuz-{kernel}")
    chroot.program("linux-version", f"case $1 in list) ;; sort) cat > /dev/null; echo {KERNEL};; esac")
    chroot.program("dpkg-query", "echo installed linux-image-6.8.0-1; echo not-installed linux-doc-6.8.0-1")
    chroot.program("apt-get", 'echo "apt-get $*"')
    result = chroot.run(ELEMENTS / "target-kernel/install.d/50-keep-one-kernel", DIB_KERNEL_HEADERS="0")
    assert result.returncode == 0, result.stdout
    assert "purge linux-image-6.8.0-1\n" in result.stdout
    assert [line for line in result.stdout.splitlines() if "kernel left" in line] == [f"kernel left: {KERNEL}"]


@pytest.mark.parametrize("flavour", ["generic", "cloud"])
def test_the_bases_kernel_of_another_flavour_goes(chroot: Chroot, flavour: str) -> None:
    kernels = {"generic": "6.12.57+deb13-amd64", "cloud": "6.12.57+deb13-cloud-amd64"}
    for kernel in kernels.values():
        chroot.file(f"/lib/modules/{kernel}/modules.dep")
        chroot.file(f"/boot/vmlinuz-{kernel}")
    chroot.program("linux-version", "case $1 in list) ls /lib/modules ;; sort) sort --version-sort ;; esac")
    chroot.program("apt-get", "true")
    phase = ELEMENTS / "target-kernel/install.d/50-keep-one-kernel"
    result = chroot.run(phase, DIB_KERNEL_HEADERS="0", DIB_KERNEL_FLAVOUR=flavour)
    assert [line for line in result.stdout.splitlines() if "kernel left" in line] == [
        f"kernel left: {kernels[flavour]}"
    ]


def test_missing_headers_are_reported_before_anything_is_compiled(chroot: Chroot) -> None:
    chroot.file(f"/lib/modules/{KERNEL}/modules.dep")
    chroot.file(f"/boot/vmlinuz-{KERNEL}")
    chroot.program("linux-version", f"[ $1 = list ] || cat > /dev/null; echo {KERNEL}")
    result = chroot.run(ELEMENTS / "target-kernel/install.d/50-keep-one-kernel", DIB_KERNEL_HEADERS="1")
    assert result.returncode != 0
    assert f"headers of kernel {KERNEL} are not installed" in result.stdout


def test_an_ubuntu_driver_without_its_branch_is_refused(chroot: Chroot) -> None:
    chroot.program("pkg-map", "echo nvidia-dkms-@BRANCH@-server-open; echo nvidia-utils-@BRANCH@-server")
    chroot.program("install-packages", 'echo "installing $*"')
    script = ELEMENTS / "nvidia-archive/install.d/70-install-driver"
    common = {"DISTRO_NAME": "ubuntu", "DIB_NVIDIA_MODULES": "open", "DIB_NVIDIA_DESKTOP": "0"}
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


def test_the_disk_has_the_declared_size_and_its_root_last(tmp_path: Path, tree: Path) -> None:
    result = assembled(tmp_path, tree)
    assert result.returncode == 0, result.stdout
    disk = tmp_path / "disk.raw"
    assert disk.stat().st_size == 2 * 2**30
    table = json.loads(output("sfdisk", "--json", disk))["partitiontable"]
    assert [partition["name"] for partition in table["partitions"]] == ["bios-boot", "esp", "root"]
    assert gpt.partition_table(disk).problems == ()


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


def test_a_sites_certificate_is_where_mokmanager_finds_it(tmp_path: Path, tree: Path) -> None:
    certificate = tree / "usr/share/gpu-image/module-signing.der"
    certificate.parent.mkdir(parents=True)
    certificate.write_text("the certificate")
    assert assembled(tmp_path, tree).returncode == 0
    found = output("mtype", "-i", f"{tmp_path}/disk.raw@@2M", "::/EFI/gpu-image/module-signing.der")
    assert found == "the certificate"


def test_a_shim_behind_an_absolute_link_is_taken_from_the_guest_and_not_from_the_host(
    tmp_path: Path, tree: Path
) -> None:
    shim = tree / "usr/lib/shim"
    (shim / "shimx64.efi.signed").unlink()
    (shim / "shimx64.efi.signed").symlink_to("/etc/hostname")  # as update-alternatives does, to a file the host has
    (shim / "shimx64.efi.signed.latest").write_text("the guest's shim")
    assert assembled(tmp_path, tree).returncode == 0
    assert output("mtype", "-i", f"{tmp_path}/disk.raw@@2M", "::/EFI/BOOT/BOOTX64.EFI") == "the guest's shim"


def test_a_guest_without_a_signed_shim_is_reported(tmp_path: Path, tree: Path) -> None:
    (tree / "usr/lib/shim/shimx64.efi.signed").unlink()
    (tree / "usr/lib/shim/shimx64.efi.signed").symlink_to("/etc/hostname")
    result = assembled(tmp_path, tree)
    assert result.returncode != 0
    assert "the signed boot loader is not in the guest" in result.stdout


@pytest.mark.parametrize("file_system", ["ext4", "xfs"])
def test_the_root_file_system_has_the_tree(tmp_path: Path, tree: Path, file_system: str) -> None:
    result = assembled(tmp_path, tree, DIB_GPT_DISK_ROOT_FSTYPE=file_system, DIB_GPT_DISK_ROOT_LABEL="root-label")
    assert result.returncode == 0, result.stdout
    disk = tmp_path / "disk.raw"
    assert output("blkid", "-p", "-O", str(130 * 2**20), "-o", "value", "-s", "TYPE", disk).strip() == file_system
    mounted = f"mount -o ro,loop,offset={130 * 2**20} {disk} /mnt && cat /mnt/etc/hostname && umount /mnt"
    assert output("unshare", "--mount", "sh", "-c", mounted) == "etc/hostname"


def test_the_disk_does_not_tell_what_a_directory_had_in_it_once(tmp_path: Path, tree: Path) -> None:
    folder = tree / "var"
    folder.mkdir()
    assembled(tmp_path, tree)
    table = output("sfdisk", "--dump", tmp_path / "disk.raw").splitlines()
    gone = [folder / f"{number:0200}" for number in range(8000)]
    for path in gone:
        path.touch()
    for path in gone:
        path.unlink()
    assert folder.stat().st_size > 2**20
    (tmp_path / "hooks/host-bin").unlink()
    (tmp_path / "hooks").rmdir()
    assembled(tmp_path, tree)
    again = output("sfdisk", "--dump", tmp_path / "disk.raw").splitlines()
    assert again[-1].split("uuid=")[0] == table[-1].split("uuid=")[0]


@pytest.mark.parametrize("file_system", ["ext4", pytest.param("xfs", marks=pytest.mark.slow)])
def test_the_space_that_a_build_takes_is_measured_and_the_tree_is_not_there_twice(
    tmp_path: Path, tree: Path, file_system: str
) -> None:
    large = tree / "var/large"
    large.parent.mkdir()
    large.write_bytes(os.urandom(100 * 2**20))
    os.sync()  # a file system may need one block more or less once it has placed what was written
    (tree / "var/again").hardlink_to(large)
    (tmp_path / "besides").write_bytes(bytes(10 * 2**20))
    assembled(tmp_path, tree, DIB_GPT_DISK_ROOT_FSTYPE=file_system, DIB_GPT_DISK_ROOT_LABEL="root-label")
    measured = json.loads((tmp_path / "scratch.json").read_text())
    disk = (tmp_path / "disk.raw").stat().st_blocks * 512
    assert measured["tree"] == int(output("du", "-sB1", tree).split()[0])
    assert measured["peak"] == pytest.approx(measured["tree"] + disk + 10 * 2**20, abs=2**20)
    assert measured["peak"] < 2.5 * measured["tree"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("disk.")] == ["disk.raw"]


def test_the_journal_takes_no_space(tmp_path: Path, tree: Path) -> None:
    assembled(tmp_path, tree)
    assert (tmp_path / "disk.raw").stat().st_blocks * 512 < 32 * 2**20
    root = f"{tmp_path / 'disk.raw'}?offset={130 * 2**20}"
    assert "Total journal size:       64M" in output("dumpe2fs", "-h", root)
    assert output("e2fsck", "-f", "-n", root)


def test_a_disk_too_small_for_its_content_is_reported_with_the_remedy(tmp_path: Path, tree: Path) -> None:
    result = assembled(tmp_path, tree, DIB_GPT_DISK_SIZE="300M")
    assert result.returncode != 0
    assert "a disk of 300M has only" in result.stdout
    assert "disk.size" in result.stdout
