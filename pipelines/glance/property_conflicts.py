"""Contradictions between image properties.

Each property may be right alone, and Nova would still refuse to create the server, or silently ignore one of them. A
conflict that depends on the flavor as well is let through: the flavor is not known here. HARDWARE stands for
nova/virt/hardware.py (https://opendev.org/openstack/nova), where Nova decides most of this.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

# Ubuntu's QEMU has names with several hyphens: pc-q35-noble-v2, pc-i440fx-jammy-hpb
_MACHINES = {"x86_64": r"q35|pc|pc-q35-[\w.-]+|pc-i440fx-[\w.-]+", "aarch64": r"virt|virt-[\w.-]+"}
_ON = ("yes", "true")
# https://docs.openstack.org/glance/latest/admin/useful-image-properties.html (hw_vm_mode)
_MODES = {"kvm": "hvm", "qemu": "hvm", "lxc": "exe", "uml": "uml"}
_SIGNATURE = tuple(f"img_signature{part}" for part in ("", "_hash_method", "_key_type", "_certificate_uuid"))

Properties = Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A property that is wrong, and what to write instead."""

    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


def found(properties: Properties, modules_signed: bool, packages: Collection[str] | None) -> list[Fault]:
    """All contradictions between properties, and with the contents of the image.

    `modules_signed`: guests trust the key that signed the driver. `packages`: those in the image, None for unknown.
    """
    faults = [fault for rule in _RULES for fault in rule(properties)]
    return [*_secure_boot(properties, modules_signed), *_guest_agent(properties, packages), *faults]


def _secure_boot(properties: Properties, modules_signed: bool) -> Iterator[Fault]:
    requested = properties.get("os_secure_boot")
    if requested not in ("required", "optional"):
        return
    if properties.get("hw_firmware_type") != "uefi":
        yield Fault(name="os_secure_boot", what=f"{requested} needs UEFI; write hw_firmware_type: uefi")
    if properties.get("architecture") == "x86_64" and "q35" not in properties.get("hw_machine_type", ""):
        yield Fault(name="os_secure_boot", what=f"{requested} needs the q35 machine; write hw_machine_type: q35")
    if not modules_signed:
        what = (
            f"{requested} is impossible: DKMS signs the driver's modules with a throwaway key that no guest trusts, "
            "and a kernel under Secure Boot rejects them; write disabled, remove it, or sign with your own key, "
            "under `secrets`"
        )
        yield Fault(name="os_secure_boot", what=what)


def _guest_agent(properties: Properties, packages: Collection[str] | None) -> Iterator[Fault]:
    agent = properties.get("hw_qemu_guest_agent") in _ON
    if agent and packages is not None and "qemu-guest-agent" not in packages:
        yield Fault(name="hw_qemu_guest_agent", what="the agent is not in the image; add qemu-guest-agent to packages")
    if properties.get("os_require_quiesce") in _ON and not agent:
        what = "only the QEMU guest agent can quiesce; add qemu-guest-agent to packages, which sets hw_qemu_guest_agent"
        yield Fault(name="os_require_quiesce", what=what)


def _disk(properties: Properties) -> Iterator[Fault]:
    model = properties.get("hw_scsi_model")
    if properties.get("hw_disk_bus") == "scsi" and model != "virtio-scsi":
        yield Fault(name="hw_scsi_model", what="disks on the scsi bus need the guest's driver; write virtio-scsi")
    # libvirt then: "IDE controllers are unsupported for this QEMU binary or machine type" (src/qemu/qemu_validate.c)
    machine = properties.get("hw_machine_type", "")
    for name in ("hw_disk_bus", "hw_cdrom_bus"):
        if properties.get(name) == "ide" and ("q35" in machine or machine.startswith("virt")):
            instead = "sata" if "q35" in machine else "scsi"
            yield Fault(name=name, what=f"the {machine} machine has no IDE; write {instead}")


def _machine(properties: Properties) -> Iterator[Fault]:
    machine, architecture = properties.get("hw_machine_type"), properties.get("architecture", "")
    if machine and not re.fullmatch(_MACHINES.get(architecture, ".*"), machine):
        usual = "q35" if architecture == "x86_64" else "virt"
        yield Fault(name="hw_machine_type", what=f'{architecture} has no machine "{machine}"; write {usual}')
    other = properties.get("hw_architecture", architecture)
    if architecture and other != architecture:  # Nova maps the one to the other (nova/objects/image_meta.py)
        what = f"architecture is {architecture}, and Nova treats both as the same property; remove hw_architecture"
        yield Fault(name="hw_architecture", what=what)
    # Its "virt" machine has no BIOS: https://www.qemu.org/docs/master/system/arm/virt.html
    if architecture == "aarch64" and properties.get("hw_firmware_type") == "bios":
        yield Fault(name="hw_firmware_type", what="aarch64 has no BIOS; write uefi")


def _viommu(properties: Properties) -> Iterator[Fault]:
    """https://docs.openstack.org/nova/latest/admin/pci-passthrough.html#virtual-iommu-support: q35, or aarch64."""
    model, machine = properties.get("hw_viommu_model"), properties.get("hw_machine_type", "")
    architecture = properties.get("architecture")
    if model == "intel" and "q35" not in machine:
        yield Fault(name="hw_viommu_model", what="intel needs the q35 machine; write hw_machine_type: q35")
    elif model == "smmuv3" and architecture == "x86_64":
        yield Fault(name="hw_viommu_model", what="only aarch64 has smmuv3; write intel, virtio or auto")
    elif model and architecture == "x86_64" and machine and "q35" not in machine:
        yield Fault(name="hw_viommu_model", what=f"{model} needs the q35 machine; write hw_machine_type: q35")


def _memory(properties: Properties) -> Iterator[Fault]:
    """HARDWARE, get_mem_encryption_constraint; https://docs.openstack.org/nova/latest/admin/sev.html."""
    if properties.get("hw_mem_encryption") == "true":
        name = "hw_mem_encryption"
        if properties.get("architecture") == "aarch64":
            yield Fault(name=name, what="only AMD's and Intel's processors have this, not aarch64; remove it")
        if properties.get("hw_firmware_type") != "uefi":
            yield Fault(name=name, what="encrypted memory needs UEFI; write hw_firmware_type: uefi")
        if "q35" not in properties.get("hw_machine_type", "q35"):
            yield Fault(name=name, what="encrypted memory needs the q35 machine; write hw_machine_type: q35")
    bits = "hw_maxphysaddr_bits" in properties
    if bits != (properties.get("hw_maxphysaddr_mode") == "emulate"):
        name = "hw_maxphysaddr_bits" if bits else "hw_maxphysaddr_mode"
        yield Fault(name=name, what="hw_maxphysaddr_bits and hw_maxphysaddr_mode: emulate need each other")


def _processors(properties: Properties) -> Iterator[Fault]:
    """HARDWARE, numa_get_constraints and _get_cpu_topology_constraints."""
    threads = "hw_cpu_thread_policy"
    if properties.get("hw_cpu_policy") == "shared":
        for name in (threads, "hw_cpu_realtime_mask"):
            if name in properties:
                yield Fault(name=name, what="this is only for pinned processors; write hw_cpu_policy: dedicated")
    if threads in properties and "trait:HW_CPU_HYPERTHREADING" in properties:
        yield Fault(name=threads, what="Nova accepts this or trait:HW_CPU_HYPERTHREADING; remove one of them")
    for part in ("sockets", "cores", "threads"):
        wanted, most = properties.get(f"hw_cpu_{part}"), properties.get(f"hw_cpu_max_{part}")
        if wanted is not None and most is not None and 0 < int(most) < int(wanted):
            yield Fault(name=f"hw_cpu_{part}", what=f"{wanted} is more than hw_cpu_max_{part}: {most} allows")


def _numa(properties: Properties) -> Iterator[Fault]:
    """HARDWARE, numa_get_constraints: either all nodes have processors and memory, or none."""
    nodes = properties.get("hw_numa_nodes")
    if nodes is not None and int(nodes) < 1:
        yield Fault(name="hw_numa_nodes", what="a server has at least one node; write 1 or more")
        return
    processors, memory = (_numbers(properties, f"hw_numa_{part}.") for part in ("cpus", "mem"))
    for mine, other, name in ((processors, memory, "mem"), (memory, processors, "cpus")):
        if lacking := sorted(mine - other):
            yield Fault(name=f"hw_numa_{name}.{lacking[0]}", what="a node needs hw_numa_cpus and hw_numa_mem; write it")
    numbers = processors | memory
    count = len(numbers) if nodes is None else int(nodes)
    if numbers and numbers != set(range(count)):
        what = f"the nodes are numbered 0 to {count - 1}, and each of them must be described, or none"
        yield Fault(name="hw_numa_nodes", what=what)


def _numbers(properties: Properties, prefix: str) -> set[int]:
    return {int(name.removeprefix(prefix)) for name in properties if name.startswith(prefix)}


def _firmware(properties: Properties) -> Iterator[Fault]:
    if properties.get("hw_firmware_stateless") == "true" and properties.get("hw_firmware_type") != "uefi":
        yield Fault(name="hw_firmware_stateless", what="only UEFI has a state; write hw_firmware_type: uefi")
    model, version = properties.get("hw_tpm_model"), properties.get("hw_tpm_version")
    if model and not version:
        what = 'Nova adds a TPM only for hw_tpm_version; write it too, for example "2.0"'
        yield Fault(name="hw_tpm_model", what=what)
    if model == "tpm-crb" and version == "1.2":  # HARDWARE, get_vtpm_constraint
        yield Fault(name="hw_tpm_version", what='tpm-crb is only for TPM 2.0; write "2.0", or hw_tpm_model: tpm-tis')


def _devices(properties: Properties) -> Iterator[Fault]:
    model = properties.get("hw_vif_model", "virtio")
    # "this enables the virtio-net multiqueue feature" (Glance's etc/metadefs/compute-libvirt-image.json)
    if properties.get("hw_vif_multiqueue_enabled") == "true" and model != "virtio":
        what = f"{model} has one queue; write hw_vif_model: virtio, or hw_vif_multiqueue_enabled: null"
        yield Fault(name="hw_vif_multiqueue_enabled", what=what)
    # https://specs.openstack.org/openstack/nova-specs/specs/2025.1/approved/libvirt-spice-direct-consoles.html
    if "hw_redirected_usb_ports" in properties and properties.get("hw_usb_model", "none") == "none":
        yield Fault(name="hw_redirected_usb_ports", what="this needs a controller; write hw_usb_model: qemu-xhci")


def _hypervisor(properties: Properties) -> Iterator[Fault]:
    kind, mode = properties.get("img_hv_type", "kvm"), properties.get("hw_vm_mode")
    # nova/virt/libvirt/driver.py: only KVM and QEMU can be hidden from a guest
    if properties.get("img_hide_hypervisor_id") == "true" and kind not in ("kvm", "qemu"):
        yield Fault(name="img_hide_hypervisor_id", what=f"{kind} cannot be hidden; remove this, or img_hv_type")
    if "img_hv_type" in properties and mode and mode != _MODES.get(kind, mode):
        yield Fault(name="hw_vm_mode", what=f"{kind} does not run {mode} guests; write {_MODES[kind]}, or remove it")


def _signature(properties: Properties) -> Iterator[Fault]:
    """https://docs.openstack.org/glance/latest/user/signature.html: with fewer than four, nothing is verified."""
    present = [name for name in _SIGNATURE if name in properties]
    if 0 < len(present) < len(_SIGNATURE):
        lacking = ", ".join(name for name in _SIGNATURE if name not in present)
        yield Fault(name=present[0], what=f"a signature has four parts; write {lacking} too")


_Rule = Callable[[Properties], Iterator[Fault]]
_RULES: Sequence[_Rule] = (
    _disk,
    _machine,
    _viommu,
    _memory,
    _processors,
    _numa,
    _firmware,
    _devices,
    _hypervisor,
    _signature,
)
