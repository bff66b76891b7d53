"""Is it good? Every check is seen failing on a real, small image that is broken in one way."""

import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.artifacts.manifest import Verification
from pipelines.artifacts.store import Build
from pipelines.catalog.driver import Driver, NvidiaRepository
from pipelines.catalog.variant import Base, Variant
from pipelines.diskimage import filesystem, gpt, qemu
from pipelines.util.errors import HostError, Interrupted, ProgramError, VerifyError
from pipelines.verify import boot_report, kernel_driver, sealing
from pipelines.verify import check as verify_check
from pipelines.verify.verifier import DRIVER_CHECKS, identity, packages, verify
from tests.support.small_image import (
    BUILT,
    DRIVER,
    GRUB_MENU,
    INITRAMFS,
    KERNEL,
    LIBRARIES,
    MODULES,
    PRIVATE_KEY,
    SIZE,
    VARIANT,
    Guest,
    Link,
    driver_module,
    finished,
    initramfs,
    manifest,
    package,
    record,
    run,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
GUEST_CHECKS = {
    "identity": identity,
    "packages": packages,
    **dict(kernel_driver.CHECKS),
    **dict(kernel_driver.DRIVER_CHECKS),
    **dict(sealing.CHECKS),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a good build; its raw disk is disk.raw."""
    root = tmp_path_factory.mktemp("good")
    Guest().build(root)
    return root


@pytest.fixture
def good(made: Path, tmp_path: Path) -> Build:
    """A good build of one's own."""
    folder = tmp_path / "build"
    shutil.copytree(next(made.glob("debian-cuda/*")), folder)
    return Build(folder=folder, variant="debian-cuda", build_id=folder.name, state="complete")


def rebuilt(made: Path, tmp_path: Path, change: Callable[[Path], None]) -> Build:
    """A build whose raw disk was changed."""
    raw, folder = tmp_path / "disk.raw", tmp_path / "build"
    run("cp", "--sparse=always", str(made / "disk.raw"), str(raw))
    change(raw)
    folder.mkdir()
    return finished(folder, raw)


def failed(verification: Verification) -> dict[str, str]:
    return {check.name: check.detail for check in verification.checks if check.passed is False}


def said(name: str, guest: Guest, folder: Path, variant: Variant = VARIANT) -> str:
    """What a check says about a guest that it must refuse."""
    found = examined(name, guest, folder, variant)
    assert found.passed is False, found
    return found.detail


def examined(name: str, guest: Guest, folder: Path, variant: Variant = VARIANT) -> verify_check.Check:
    raw = guest.disk(folder)
    root = gpt.partition_table(raw).partitions[-1]
    with filesystem.opened(raw, root, "ext4") as files:
        subject = verify_check.Guest(manifest=manifest(), variant=variant, disk=raw, files=files)
        return verify_check.carried_out(name, GUEST_CHECKS[name], subject)


def patch(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as target:
        target.seek(offset)
        target.write(content)


# The verification as a whole


def test_a_good_build_passes_every_check(good: Build) -> None:
    verification = verify(good, VARIANT, NOW)
    assert failed(verification) == {}
    assert verification.passed
    # Modules that the build compiles, and no key of the site's to sign them with.
    undecided = [check.name for check in verification.checks if check.passed is None]
    assert undecided == ["distribution-modules", "module-signatures"]


def test_the_result_is_written_beside_the_manifest(good: Build) -> None:
    verification = verify(good, VARIANT, NOW)
    assert good.verification() == verification
    assert verification.checked_at == "2026-11-22T12:00:00Z"


def test_verifying_leaves_nothing_in_the_builds_folder(good: Build) -> None:
    before = {path.name for path in good.folder.iterdir()}
    verify(good, VARIANT, NOW)
    assert {path.name for path in good.folder.iterdir()} == before | {"verify.json"}


def test_one_fault_fails_one_check(tmp_path: Path) -> None:
    guest = Guest()
    guest.files["/tmp/left"] = "x"
    assert failed(verify(guest.build(tmp_path), VARIANT, NOW)) == {"temporary-files": "/tmp/left was left behind"}


def test_without_a_driver_its_checks_are_not_applicable(good: Build) -> None:
    verification = verify(good, replace(VARIANT, driver=None), NOW)
    assert {check.name for check in verification.checks if check.passed is None} == {name for name, _ in DRIVER_CHECKS}


def test_a_boot_adds_its_checks_to_the_result(good: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "qemu-system-x86_64"
    fake.write_text("#!/bin/sh\necho the fake starts nothing >&2; exit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    qemu.kvm_works.cache_clear()
    results = {firmware: verify(good, VARIANT, NOW, firmware=firmware) for firmware in ("uefi", "bios")}
    written = good.verification()
    qemu.kvm_works.cache_clear()
    for result in results.values():
        assert "the fake starts nothing" in failed(result)["boot-reached"]
        assert set(failed(result)) == set(boot_report.CHECK_NAMES)
    # The image asks for UEFI: what another firmware makes of it is reported, and decides nothing.
    assert written is not None
    assert written.passed


def test_a_boot_as_the_image_asks_for_decides(good: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "qemu-system-x86_64"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    qemu.kvm_works.cache_clear()
    result = verify(good, VARIANT, NOW, firmware="uefi")
    qemu.kvm_works.cache_clear()
    assert good.verification() == result
    assert not result.passed


def test_a_missing_manifest_is_an_error(good: Build) -> None:
    (good.folder / "manifest.json").unlink()
    with pytest.raises(VerifyError, match="is missing"):
        verify(good, VARIANT, NOW)


def test_checks_that_cannot_be_carried_out_have_failed(good: Build) -> None:
    everything = {check.name for check in verify(good, VARIANT, NOW).checks}
    good.image().write_bytes(b"no image")
    verification = verify(good, VARIANT, NOW)
    assert {check.name for check in verification.checks} == everything
    assert "could not be checked" in failed(verification)["driver-modules"]


def test_a_missing_tool_is_the_hosts_fault_and_not_the_builds(
    good: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify(good, VARIANT, NOW)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="qemu-img is not installed") as caught:
        verify(good, VARIANT, NOW)
    assert caught.value.remedy == "apt-get install qemu-utils"
    verification = good.verification()
    assert verification is not None
    assert verification.passed


def test_a_full_disk_is_the_hosts_fault_and_not_the_builds(good: Build, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=64M", "tmpfs", str(full))
    try:
        shutil.copytree(good.folder, full / good.build_id)
        (full / "filler").write_bytes(bytes(shutil.disk_usage(full).free))
        build = replace(good, folder=full / good.build_id)
        with pytest.raises(HostError, match="No space left on device") as caught:
            verify(build, VARIANT, NOW)
        assert build.verification() is None
    finally:
        run("umount", str(full))
    assert caught.value.exit_code == 6


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        ProgramError(("qemu-img", "convert"), 1, "qemu-img: error while writing: No space left on device\nmore"),
        VerifyError("the root file system cannot be read: dump: No space left on device while writing file"),
        VerifyError("the root file system cannot be read: mount: failed to setup loop device for /proc/1/fd/3."),
        PermissionError(errno.EACCES, "Permission denied"),
    ],
)
def test_a_check_that_this_host_prevents_has_no_result(error: Exception) -> None:
    def prevented(_: object) -> verify_check.Outcome:
        raise error

    with pytest.raises(HostError):
        verify_check.carried_out("any", prevented, object())


def test_an_interrupt_is_no_result_of_a_check() -> None:
    def interrupted(_: object) -> verify_check.Outcome:
        raise Interrupted(15)

    with pytest.raises(Interrupted):
        verify_check.carried_out("any", interrupted, object())


def test_a_check_that_raises_has_failed(tmp_path: Path) -> None:
    guest = Guest()
    guest.files["/etc/gpu-image.json"] = "not JSON"
    assert said("identity", guest, tmp_path).startswith("could not be checked: ")


# The file


def test_a_changed_image_is_not_the_one_that_was_built(good: Build) -> None:
    patch(good.image(), good.image().stat().st_size - 1, b"X")
    assert "the manifest says" in failed(verify(good, VARIANT, NOW))["image-digest"]


def test_a_truncated_image_is_refused_by_its_size(good: Build) -> None:
    with good.image().open("r+b") as image:
        image.truncate(100_000)
    assert failed(verify(good, VARIANT, NOW))["image-digest"].startswith("100000 bytes, the manifest says ")


def test_an_image_of_another_format_is_refused(good: Build) -> None:
    good.image().write_bytes(bytes(2**20))
    assert failed(verify(good, VARIANT, NOW))["format"] == "it is raw, the manifest says qcow2"


def test_an_image_with_a_backing_file_is_refused(made: Path, good: Build) -> None:
    good.image().unlink()
    run("qemu-img", "create", "-f", "qcow2", "-b", str(made / "disk.raw"), "-F", "raw", str(good.image()))
    assert "needs the backing file" in failed(verify(good, VARIANT, NOW))["format"]


def test_a_damaged_qcow2_structure_is_found(good: Build) -> None:
    # The refcount table's offset is at byte 48 of the header; the table is emptied.
    table = int.from_bytes(good.image().read_bytes()[48:56], "big")
    patch(good.image(), table, bytes(64))
    record(good.folder, good.image())
    assert "corrupted clusters" in failed(verify(good, VARIANT, NOW))["qemu-img-check"]


def test_a_disk_of_another_size_than_declared_is_refused(good: Build) -> None:
    run("qemu-img", "resize", str(good.image()), "1G")
    problems = failed(verify(good, VARIANT, NOW))
    assert f"{2**30} bytes, images.yaml says {SIZE}" in problems["virtual-size"]
    assert "there is no backup GPT header" in problems["partition-table"]


# The disk


def test_a_damaged_backup_table_is_found(made: Path, tmp_path: Path) -> None:
    build = rebuilt(made, tmp_path, lambda raw: patch(raw, SIZE - 512 + 20, b"XX"))
    assert failed(verify(build, VARIANT, NOW)) == {"partition-table": "the backup GPT header has a wrong checksum"}


def test_a_damaged_primary_table_is_found(made: Path, tmp_path: Path) -> None:
    build = rebuilt(made, tmp_path, lambda raw: patch(raw, 1024 + 60, b"XX"))
    problem = "the primary GPT's partition entries have a wrong checksum"
    assert failed(verify(build, VARIANT, NOW)) == {"partition-table": problem}


def test_a_root_that_is_not_last_is_refused(made: Path, tmp_path: Path) -> None:
    build = rebuilt(made, tmp_path, lambda raw: run("sfdisk", "-q", "--part-type", str(raw), "3", "L"))
    assert "BIOS boot, ESP and root were expected" in failed(verify(build, VARIANT, NOW))["partition-table"]


@pytest.mark.parametrize("name", ["EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/grubx64.efi", "EFI/debian/grub.cfg"])
def test_an_esp_without_one_of_its_files_is_refused(made: Path, tmp_path: Path, name: str) -> None:
    build = rebuilt(made, tmp_path, lambda raw: run("mdel", "-i", f"{raw}@@{2 * 2**20}", f"::{name}"))
    assert failed(verify(build, VARIANT, NOW))["esp"].upper() == f"/{name} IS MISSING".upper()


def test_a_grub_menu_on_the_esp_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.esp["EFI/debian/grub.cfg"] = "echo hello\n"
    assert "loads no menu" in failed(verify(guest.build(tmp_path), VARIANT, NOW))["esp"]


def test_a_disk_without_partitions_fails_all_that_is_inside(made: Path, tmp_path: Path) -> None:
    def wipe(raw: Path) -> None:
        patch(raw, 512, bytes(512))
        patch(raw, SIZE - 512, bytes(512))

    problems = failed(verify(rebuilt(made, tmp_path, wipe), VARIANT, NOW))
    assert (
        problems["partition-table"] == problems["kernel"] == ("could not be checked: there is no GUID partition table")
    )


# The guest: kernel and driver


def test_an_identity_of_another_build_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.files["/etc/gpu-image.json"] = json.dumps({"variant": "debian-cuda", "build_id": "other", "kernel": KERNEL})
    assert "build_id is 'other'" in said("identity", guest, tmp_path)


def test_an_identity_with_another_toolkit_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.files["/etc/gpu-image.json"] = str(guest.files["/etc/gpu-image.json"]).replace('"cuda": ""', '"cuda": "12.4"')
    assert said("identity", guest, tmp_path) == "cuda is '12.4', the manifest says ''"


def test_a_manifest_with_another_packages_version_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.packages["bash"] = package("bash", "5.3-1", "install ok installed")
    assert said("packages", guest, tmp_path) == "bash is 5.3-1, the manifest says 5.2-1"


def test_debians_open_modules_are_found_under_debians_name(tmp_path: Path) -> None:
    guest = Guest()
    guest.files = {
        path.replace("/nvidia-current", "/nvidia-current-open"): text.replace("nvidia-current", "nvidia-current-open")
        if isinstance(text, str)
        else text
        for path, text in guest.files.items()
    }
    assert examined("driver-modules", guest, tmp_path).passed
    (tmp_path / "dkms").mkdir()
    assert examined("dkms", guest, tmp_path / "dkms").passed


def test_a_menu_that_boots_another_kernel_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.files["/boot/grub/grub.cfg"] = GRUB_MENU.replace(KERNEL, "6.1.0-1-amd64")
    assert "GRUB's first entry boots /boot/vmlinuz-6.1.0-1-amd64" in said("kernel", guest, tmp_path)


def test_a_default_that_is_not_the_first_entry_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.files["/boot/grub/grub.cfg"] = GRUB_MENU.replace("default=0", 'default="1"')
    assert "GRUB's default entry is '1'" in said("kernel", guest, tmp_path)


@pytest.mark.parametrize("path", [f"/boot/vmlinuz-{KERNEL}", INITRAMFS, f"/usr{MODULES}/modules.dep"])
@pytest.mark.parametrize("empty", [True, False])
def test_a_kernel_that_lacks_a_part_is_refused(tmp_path: Path, path: str, empty: bool) -> None:
    guest = Guest()
    del guest.files[path]
    if empty:
        guest.files[path] = ""
    assert f"{path.removeprefix('/usr')} is missing or empty" in said("kernel", guest, tmp_path)


def test_a_second_kernel_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.files["/usr/lib/modules/6.1.0-1-amd64/modules.dep"] = "x"
    assert said("kernel", guest, tmp_path) == "6.1.0-1-amd64 is another kernel's"


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        (driver_module(kernel="6.1.0-1-amd64"), f"is built for kernel 6.1.0-1-amd64, not for {KERNEL}"),
        (driver_module(version="535.1"), f"is version 535.1, the driver is {DRIVER}"),
        (driver_module(licence="Dual MIT/GPL"), "is open, the manifest says proprietary"),
        (b"\x7fELF broken", "could not be checked: this is no 64-bit little-endian ELF file"),
    ],
)
def test_a_module_that_does_not_fit_is_refused(tmp_path: Path, module: bytes, problem: str) -> None:
    guest = Guest()
    guest.files[f"/usr{MODULES}/updates/dkms/nvidia-current.ko.xz"] = module
    assert problem in said("driver-modules", guest, tmp_path)


@pytest.mark.parametrize(
    ("driver", "problem"),
    [
        (Driver(source="local", path=Path("/x"), version="550.163.02"), "images.yaml says 550.163.02"),
        (Driver(source="nvidia-repo", branch=580), "images.yaml asks for branch 580"),
        (Driver(source="archive", modules="open"), "the modules are proprietary, images.yaml asks for open"),
    ],
)
def test_another_driver_than_the_declared_one_is_refused(tmp_path: Path, driver: Driver, problem: str) -> None:
    repository = NvidiaRepository(keyring_sha256="0" * 64)
    declared = replace(VARIANT, driver=driver, nvidia_repository=repository)
    assert problem in said("driver-modules", Guest(), tmp_path, declared)


def test_a_module_that_modprobe_cannot_find_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.files[f"/usr{MODULES}/modules.dep"] = "updates/dkms/nvidia-current.ko.xz:\n"
    assert said("driver-modules", guest, tmp_path) == (
        "modules.dep does not list updates/dkms/nvidia-current-uvm.ko.xz"
    )


def test_a_missing_uvm_module_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    del guest.files[f"/usr{MODULES}/updates/dkms/nvidia-current-uvm.ko.xz"]
    assert said("driver-modules", guest, tmp_path) == f"there is no module nvidia-uvm in {MODULES}"


def test_a_driver_that_dkms_does_not_call_installed_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    del guest.files[f"/var/lib/dkms/nvidia-current/kernel-{KERNEL}-x86_64"]
    assert "is not marked as installed" in said("dkms", guest, tmp_path)


def test_an_installed_module_that_dkms_did_not_build_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.files[f"{BUILT}/nvidia-current.ko.xz"] = driver_module(version="other")
    assert said("dkms", guest, tmp_path) == f"{BUILT}/nvidia-current.ko.xz is not what is installed in /lib/modules"


def test_a_guest_without_dkms_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.files = {path: content for path, content in guest.files.items() if not path.startswith("/var/lib/dkms")}
    assert "DKMS knows no NVIDIA module" in said("dkms", guest, tmp_path)


def test_a_dkms_that_builds_nothing_for_a_new_kernel_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.files["/etc/dkms/no-autoinstall"] = ""
    assert "/etc/dkms/no-autoinstall keeps it from building" in said("dkms", guest, tmp_path)


def test_removed_headers_are_found_even_when_the_link_remains(tmp_path: Path) -> None:
    guest = Guest()
    guest.packages[f"linux-headers-{KERNEL}"] = package(f"linux-headers-{KERNEL}", "1", "deinstall ok config-files")
    assert said("headers", guest, tmp_path) == f"linux-headers-{KERNEL} is not installed"


def test_headers_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    guest = Guest()
    del guest.files[f"/usr/src/linux-headers-{KERNEL}/Makefile"]
    assert "leads to no headers" in said("headers", guest, tmp_path)


def test_a_library_package_of_another_version_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.packages["libcuda1"] = package("libcuda1", "535.1-1")
    assert said("user-space", guest, tmp_path) == f"libcuda1 is 535.1-1, the driver is {DRIVER}"


def test_a_library_file_of_another_version_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.files[f"{LIBRARIES}/libcuda.so.535.1"] = guest.files.pop(f"{LIBRARIES}/libcuda.so.{DRIVER}")
    assert "libcuda.so.535.1 is not of version" in said("user-space", guest, tmp_path)


def test_a_guest_without_nvidia_smi_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    del guest.files["/usr/bin/nvidia-smi"]
    assert said("user-space", guest, tmp_path) == "/usr/bin/nvidia-smi is missing, or leads nowhere"


def test_nouveau_without_a_blacklist_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.files["/etc/nvidia/blacklist.conf"] = "# blacklist nouveau\n"
    assert "nouveau is not blacklisted" in said("nouveau", guest, tmp_path)


def test_nouveau_in_the_initramfs_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.files[INITRAMFS] = initramfs("init", f"usr/lib/modules/{KERNEL}/kernel/drivers/gpu/drm/nouveau/nouveau.ko.xz")
    assert said("nouveau", guest, tmp_path) == "nouveau is in the initramfs"


def test_a_package_that_is_not_held_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.packages["libcuda1"] = package("libcuda1", status="install ok installed")
    assert said("holds", guest, tmp_path) == "libcuda1 is not held"


@pytest.mark.parametrize(
    "name", ["cuda-toolkit-12-8", "libcudnn9-cuda-12", "libnccl2", "nvidia-container-toolkit", "libnvidia-container1"]
)
def test_what_belongs_to_the_driver_and_has_a_version_of_its_own_is_held_too(tmp_path: Path, name: str) -> None:
    guest = Guest()
    guest.packages[name] = package(name, "12.8-1", "install ok installed")
    assert said("holds", guest, tmp_path) == f"{name} is not held"


def test_the_user_space_of_a_vgpu_guest_is_one_package(tmp_path: Path) -> None:
    guest = Guest()
    for name in ("libcuda1", "libnvidia-ml1", "nvidia-smi"):
        del guest.packages[name]
    guest.packages["nvidia-linux-grid-550"] = package("nvidia-linux-grid-550", DRIVER)
    assert examined("user-space", guest, tmp_path).passed


# The guest: traces


@pytest.mark.parametrize(
    ("check", "path", "content", "problem"),
    [
        ("private-keys", "/root/key.pem", b"x" * 5000 + PRIVATE_KEY, "there is a private key in /root/key.pem"),
        ("private-keys", "/var/lib/dkms/mok.key", "DER", "/var/lib/dkms/mok.key is a signing key"),
        ("host-keys", "/etc/ssh/ssh_host_ed25519_key", "x", "would be the same on every server"),
        ("machine-id", "/etc/machine-id", "0123456789abcdef0123456789abcdef\n", "/etc/machine-id is 0123456789abcdef"),
        ("machine-id", "/var/lib/dbus/machine-id", "0123", "/var/lib/dbus/machine-id is a copy of its own"),
        ("logins", "/etc/shadow", "root:$6$salt$hash:20000::::::\n", "root has a password"),
        ("logins", "/etc/shadow", "root::20000::::::\n", "root needs no password"),
        ("logins", "/home/debian/.ssh/authorized_keys", "ssh-ed25519 AAAA\n", "authorized_keys lets somebody in"),
        (
            "package-sources",
            "/etc/apt/sources.list",
            "deb [trusted=yes] http://10.0.0.1/debian trixie main\n",
            "10.0.0.1",
        ),
        ("package-sources", "/etc/apt/sources.list.d/x.sources", "Types: deb\nURIs: http://10.0.0.1/d\n", "10.0.0.1"),
        (
            "package-sources",
            "/etc/cloud/cloud.cfg.d/x.cfg",
            "apt:\n  primary:\n    - uri: http://10.0.0.1/d\n",
            "10.0.0.1",
        ),
        ("proxy", "/etc/apt/apt.conf.d/60proxy", 'Acquire::http::Proxy "http://10.0.0.1:3128";\n', "sets an apt proxy"),
        ("proxy", "/etc/environment", "https_proxy=http://10.0.0.1\n", "/etc/environment sets https_proxy"),
        ("proxy", "/etc/profile.d/x.sh", "export HTTP_PROXY=http://10.0.0.1\n", "/etc/profile.d/x.sh sets HTTP_PROXY"),
        ("resolver", "/etc/resolv.conf", "nameserver 10.0.0.2\n", "names the server 10.0.0.2"),
        ("resolver", "/etc/resolv.conf", Link("/etc/resolv.builder"), "leads to /etc/resolv.builder"),
        ("resolver", "/etc/.resolv.conf.systemd-resolved.bak", "nameserver 10.0.0.2\n", "bak names a server"),
        ("dib-traces", "/usr/sbin/update-initramfs", Link("/bin/true"), "still put aside"),
        ("dib-traces", "/etc/kernel/install.d/50-dracut.install", Link("/dev/null"), "still put aside"),
        ("dib-traces", "/usr/local/bin/guest-os", "x", "guest-os is diskimage-builder's"),
        ("dib-traces", "/usr/share/pkg-map/gpt-disk", "x", "/usr/share/pkg-map is diskimage-builder's"),
        ("dib-traces", "/etc/dib-manifests/dib_environment", "A=b", "/etc/dib-manifests is diskimage-builder's"),
        ("dib-traces", "/usr/local/bin/dib-run-parts", "x", "/usr/local/bin/dib-run-parts is diskimage-builder's"),
        ("temporary-files", "/var/tmp/left", "x", "/var/tmp/left was left behind"),
        ("package-cache", "/var/cache/apt/archives/x.deb", "x", "x.deb is cached"),
        ("package-cache", "/var/lib/apt/lists/partial/x_Packages", "x", "x_Packages is cached"),
        ("logs", "/var/log/apt/history.log", "Start-Date", "/var/log/apt/history.log has content"),
        ("random-seed", "/var/lib/systemd/random-seed", "x", "would be the same on every server"),
    ],
)
def test_a_trace_of_the_builder_is_found(
    tmp_path: Path, check: str, path: str, content: bytes | str | Link, problem: str
) -> None:
    guest = Guest()
    guest.files[path] = content
    assert problem in said(check, guest, tmp_path)


def test_each_key_is_found_once_wherever_a_block_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "_BLOCK", 128)
    (tmp_path / "disk").write_bytes(b"x" * 90 + PRIVATE_KEY + b"x" * 500 + PRIVATE_KEY)
    assert list(sealing._private_keys(tmp_path / "disk")) == [90, 590 + len(PRIVATE_KEY)]


def test_a_private_key_in_free_space_is_found(made: Path, tmp_path: Path) -> None:
    build = rebuilt(made, tmp_path, lambda raw: patch(raw, SIZE - 2**20, PRIVATE_KEY))
    assert "free space of the disk" in failed(verify(build, VARIANT, NOW))["private-keys"]


def test_a_program_that_reads_keys_is_no_key(tmp_path: Path) -> None:
    guest = Guest()
    guest.files["/usr/bin/ssh"] = b"\0-----BEGIN OPENSSH PRIVATE KEY-----\n\0-----END OPENSSH PRIVATE KEY-----\n\0"
    assert examined("private-keys", guest, tmp_path).passed


def test_an_apt_setting_in_a_comment_is_no_proxy(tmp_path: Path) -> None:
    guest = Guest()
    guest.files["/etc/apt/apt.conf.d/10example"] = '// Acquire::http::Proxy "http://10.0.0.1";\n'
    assert examined("proxy", guest, tmp_path).passed


def test_the_declared_guest_mirror_is_allowed_and_another_is_not(tmp_path: Path) -> None:
    base = Base(distribution="debian", release="trixie", guest_mirror="http://mirror.example/debian")
    variant = replace(VARIANT, base=base)
    guest = Guest()
    guest.files["/etc/apt/sources.list"] = (
        "deb http://mirror.example/debian trixie main\ndeb http://10.0.0.1/debian trixie main\n"
    )
    assert said("package-sources", guest, tmp_path, variant) == "/etc/apt/sources.list has http://10.0.0.1/debian"
