"""Which image properties mean what they say."""

import pytest

from pipelines.glance import properties
from pipelines.glance.properties import check, check_each, derive

GPU = {"hw_machine_type": "q35", "hw_firmware_type": "uefi", "architecture": "x86_64"}


def derived(**changes: object) -> dict[str, str]:
    usual: dict[str, object] = {
        "distribution": "debian",
        "version": "13",
        "architecture": "amd64",
        "gpu": True,
        "packages": (),
    }
    return derive(**(usual | changes))  # type: ignore[arg-type]


def faults(found: dict[str, str], **context: object) -> list[str]:
    return [str(fault) for fault in check(found, **context)]  # type: ignore[arg-type]


# --- What a guest needs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distribution", ["debian", "ubuntu"])
@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
@pytest.mark.parametrize("gpu", [True, False])
@pytest.mark.parametrize("packages", [(), ("qemu-guest-agent",)])
def test_what_we_derive_is_right_by_our_own_rules(
    distribution: str, architecture: str, gpu: bool, packages: tuple[str, ...]
) -> None:
    found = derived(distribution=distribution, architecture=architecture, gpu=gpu, packages=packages)
    assert faults(found, modules_signed=not gpu, packages=packages) == []


def test_every_guest_gets_its_system_and_virtio_devices() -> None:
    assert derived(gpu=False) == {
        "architecture": "x86_64",
        "hw_disk_bus": "scsi",
        "hw_rng_model": "virtio",
        "hw_scsi_model": "virtio-scsi",
        "hw_video_model": "virtio",
        "os_admin_user": "debian",
        "os_distro": "debian",
        "os_type": "linux",
        "os_version": "13",
    }


def test_a_gpu_guest_gets_pcie_and_uefi_but_no_secure_boot() -> None:
    found = derived()
    assert (found["hw_machine_type"], found["hw_firmware_type"]) == ("q35", "uefi")
    assert found["hw_vif_multiqueue_enabled"] == "true"
    assert "os_secure_boot" not in found


def test_the_guest_agent_is_claimed_only_when_it_is_installed() -> None:
    assert "hw_qemu_guest_agent" not in derived()
    assert derived(packages=("qemu-guest-agent",))["hw_qemu_guest_agent"] == "yes"


# --- Each property alone --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hw_disk_bus", "virtio"),
        ("img_hide_hypervisor_id", "true"),
        ("hw_cpu_cores", "4"),
        ("hw_numa_cpus.0", "0-3"),
        ("hw_numa_cpus.0", "0-3,^1"),
        ("hw_numa_cpus.1", "2"),
        ("hw_cpu_realtime_mask", "^0-1"),
        ("hw_cpu_realtime_mask", "2, 4 - 7, ^5"),
        ("hw_numa_mem.1", "2048"),
        ("hw_mem_page_size", "2048"),
        ("trait:CUSTOM_GPU_H100", "required"),
        ("mycompany.team", "anything at all"),
        ("os_require_quiesce", "yes"),
        ("hw_pci_numa_affinity_policy", "socket"),
    ],
)
def test_what_nova_understands_is_accepted(name: str, value: str) -> None:
    assert check_each({name: value}) == []


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("hw_firmwre_type", "uefi", "did you mean hw_firmware_type?"),
        ("colour", "blue", "mycompany.colour"),
        ("hw_mycompany.x", "1", "Nova does not know this property"),
        ("gpu_image_id", "x", "the pipeline's own"),
        ("gpu_image_x.y", "x", "the pipeline's own"),
        ("image_type", "snapshot", "Nova marks snapshots"),
        ("vm_mode", "hvm", "write hw_vm_mode"),
        ("trait:custom_gpu", "required", "upper case"),
        ("trait:CUSTOM_GPU", "forbidden", "write required"),
        ("img_hide_hypervisor_id", "maybe", "neither true nor false"),
        ("img_hide_hypervisor_id", "True", "neither true nor false"),
        ("hw_cpu_cores", "four", "not a whole number"),
        ("hw_numa_mem.0", "2GiB", "not a whole number"),
        ("hw_cpu_cores", "-1", "not a whole number"),
        ("hw_numa_cpus.0", "abc", "write it like 0-3,^1"),
        ("hw_numa_cpus.0", "3-0", "write it like 0-3,^1"),
        ("hw_numa_cpus.0", "^0-1", "without a processor"),
        ("hw_cpu_realtime_mask", "abc", "write it like 0-3,^1"),
        ("hw_cpu_realtime_mask", "0-1;2", "write it like 0-3,^1"),
        ("hw_cpu_realtime_mask", ",", "write it like 0-3,^1"),
        ("hw_firmware_type", "UEFI", "not one of: uefi, bios"),
        ("hw_mem_page_size", "huge", "neither small, any, large"),
        ("hw_ephemeral_encryption_secret_uuid", "x", "not a UUID"),
        ("os_distro", "", "empty"),
        ("mycompany.team", "a\nb", "more than one line"),
    ],
)
def test_what_nova_would_drop_or_misread_is_refused(name: str, value: str, message: str) -> None:
    [found] = check_each({name: value})
    assert (found.name, message in found.what) == (name, True)


def test_a_property_that_is_taken_away_still_needs_a_known_name() -> None:
    assert check_each({"hw_video_model": None}) == []
    assert len(check_each({"hw_vidio_model": None})) == 1


# --- Properties together --------------------------------------------------------------------------------------------


def test_secure_boot_with_signed_modules_uefi_and_q35_is_accepted() -> None:
    assert faults(GPU | {"os_secure_boot": "required"}, modules_signed=True) == []


def test_secure_boot_may_be_disabled_anywhere() -> None:
    assert faults({"os_secure_boot": "disabled"}, modules_signed=False) == []


@pytest.mark.parametrize("requested", ["required", "optional"])
def test_secure_boot_is_refused_while_only_dkms_signs_the_modules(requested: str) -> None:
    [found] = faults(GPU | {"os_secure_boot": requested}, modules_signed=False)
    assert "throwaway key" in found


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (GPU | {"os_secure_boot": "required", "hw_firmware_type": "bios"}, "write hw_firmware_type: uefi"),
        (GPU | {"os_secure_boot": "optional", "hw_machine_type": "pc"}, "write hw_machine_type: q35"),
        ({"os_require_quiesce": "yes"}, "only the QEMU guest agent can quiesce"),
        ({"os_require_quiesce": "yes", "hw_qemu_guest_agent": "no"}, "only the QEMU guest agent can quiesce"),
        ({"hw_disk_bus": "scsi"}, "write virtio-scsi"),
        ({"hw_disk_bus": "scsi", "hw_scsi_model": "lsilogic"}, "write virtio-scsi"),
        ({"architecture": "x86_64", "hw_machine_type": "virt"}, 'x86_64 has no machine "virt"; write q35'),
        ({"architecture": "aarch64", "hw_machine_type": "q35"}, 'aarch64 has no machine "q35"; write virt'),
        ({"architecture": "x86_64", "hw_machine_type": "q53"}, "write q35"),
        ({"hw_viommu_model": "intel"}, "write hw_machine_type: q35"),
        ({"hw_firmware_stateless": "true"}, "write hw_firmware_type: uefi"),
        ({"hw_tpm_model": "tpm-crb"}, "hw_tpm_version"),
        ({"hw_maxphysaddr_bits": "46"}, "need each other"),
        ({"hw_maxphysaddr_mode": "emulate"}, "need each other"),
        (GPU | {"hw_cdrom_bus": "ide"}, "no IDE; write sata"),
        ({"hw_disk_bus": "ide", "hw_machine_type": "virt", "architecture": "aarch64"}, "no IDE; write scsi"),
        ({"architecture": "x86_64", "hw_architecture": "aarch64"}, "remove hw_architecture"),
        ({"architecture": "aarch64", "hw_firmware_type": "bios"}, "aarch64 has no BIOS"),
        ({"architecture": "x86_64", "hw_viommu_model": "smmuv3"}, "write intel, virtio or auto"),
        ({"architecture": "x86_64", "hw_viommu_model": "auto", "hw_machine_type": "pc"}, "write hw_machine_type: q35"),
        ({"hw_mem_encryption": "true"}, "write hw_firmware_type: uefi"),
        (GPU | {"hw_mem_encryption": "true", "hw_machine_type": "pc"}, "write hw_machine_type: q35"),
        ({"architecture": "aarch64", "hw_mem_encryption": "true", "hw_firmware_type": "uefi"}, "not aarch64"),
        ({"hw_cpu_policy": "shared", "hw_cpu_thread_policy": "isolate"}, "write hw_cpu_policy: dedicated"),
        ({"hw_cpu_policy": "shared", "hw_cpu_realtime_mask": "^0"}, "write hw_cpu_policy: dedicated"),
        ({"hw_cpu_thread_policy": "require", "trait:HW_CPU_HYPERTHREADING": "required"}, "remove one of them"),
        ({"hw_cpu_sockets": "4", "hw_cpu_max_sockets": "2"}, "more than hw_cpu_max_sockets: 2"),
        ({"hw_numa_nodes": "0"}, "write 1 or more"),
        ({"hw_numa_nodes": "1", "hw_numa_cpus.0": "0-3"}, "hw_numa_mem.0"),
        ({"hw_numa_nodes": "2", "hw_numa_cpus.0": "0-3", "hw_numa_mem.0": "2048"}, "numbered 0 to 1"),
        ({"hw_numa_cpus.1": "0-3", "hw_numa_mem.1": "2048"}, "numbered 0 to 0"),
        ({"hw_tpm_model": "tpm-crb", "hw_tpm_version": "1.2"}, 'write "2.0"'),
        ({"hw_vif_multiqueue_enabled": "true", "hw_vif_model": "e1000"}, "e1000 has one queue"),
        ({"hw_redirected_usb_ports": "2"}, "write hw_usb_model: qemu-xhci"),
        ({"img_hide_hypervisor_id": "true", "img_hv_type": "vmware"}, "vmware cannot be hidden"),
        ({"img_hv_type": "kvm", "hw_vm_mode": "xen"}, "write hvm"),
        ({"img_signature": "c2ln"}, "a signature has four parts"),
    ],
)
def test_properties_that_contradict_each_other_are_refused(found: dict[str, str], message: str) -> None:
    [fault] = faults(found)
    assert message in fault


@pytest.mark.parametrize(
    "found",
    [
        {"hw_cpu_thread_policy": "isolate"},  # the flavor may pin
        {"hw_cpu_policy": "dedicated", "hw_cpu_thread_policy": "isolate", "hw_cpu_realtime_mask": "^0"},
        {"hw_cpu_sockets": "2", "hw_cpu_max_sockets": "2", "hw_cpu_cores": "8"},
        {"hw_mem_page_size": "large", "hw_numa_nodes": "2"},
        {"hw_numa_cpus.0": "0", "hw_numa_mem.0": "1024", "hw_numa_cpus.1": "1", "hw_numa_mem.1": "1024"},
        GPU | {"hw_mem_encryption": "true", "hw_viommu_model": "virtio", "hw_cdrom_bus": "sata"},
        {"architecture": "aarch64", "hw_machine_type": "virt", "hw_viommu_model": "smmuv3"},
        {"img_hide_hypervisor_id": "true", "img_hv_type": "kvm", "hw_vm_mode": "hvm"},
        {"hw_tpm_model": "tpm-crb", "hw_tpm_version": "2.0", "hw_vif_model": "e1000"},
        GPU | {"hw_machine_type": "pc"},  # OVMF starts on it too, without Secure Boot
    ],
)
def test_properties_that_work_together_are_accepted(found: dict[str, str]) -> None:
    assert faults(found) == []


@pytest.mark.parametrize("machine", ["q35", "pc", "pc-q35-9.2", "pc-i440fx-jammy-hpb", "pc-q35-noble-v2"])
def test_machine_types_with_versions_are_accepted(machine: str) -> None:
    assert faults({"architecture": "x86_64", "hw_machine_type": machine}) == []


def test_an_agent_that_is_not_in_the_image_is_refused() -> None:
    [found] = faults({"hw_qemu_guest_agent": "yes"}, packages=("htop",))
    assert "add qemu-guest-agent to packages" in found
    assert faults({"hw_qemu_guest_agent": "yes"}, packages=None) == []


def test_no_property_has_two_types() -> None:
    known = properties._known()
    assert not set(known.words) & set(known.types)
    assert not (set(known.words) | set(known.types)) & set(known.legacy)
