"""Which image properties does Nova understand, and which does a guest need?

The names, types and allowed words are in properties.yaml, from Nova's own nova/objects/image_meta.py. Glance takes
any property, and Nova drops what it does not know without a word: a property that does not mean what it says is found
here, before anything is built, or not at all.
"""

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from pipelines import tables

RESERVED = "gpu_image_"  # the identity that publish.py gives an image
ARCHITECTURES: Mapping[str, str] = {"amd64": "x86_64", "arm64": "aarch64"}  # ours → Glance's and Nova's
_NOVAS = ("hw_", "img_", "os_")  # what begins so and is not known is a mistake
_MACHINES = {"x86_64": r"q35|pc|pc-q35-[\w.]+|pc-i440fx-[\w.]+", "aarch64": r"virt|virt-[\w.]+"}
_TYPES = {
    "boolean": (r"true|false", "is neither true nor false"),
    "integer": (r"[0-9]{1,9}", "is no whole number"),
    "uuid": (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "is no UUID"),
    "text": (r"[^\x00-\x1f]{1,255}", "is empty, too long (255 at most) or more than one line"),
    "hw_mem_page_size": (r"small|any|large|[0-9]+([KMG]B)?", "is neither small, any, large nor a size in KiB"),
}
_ON = ("yes", "true")

Properties = Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A property that is wrong, and what to write instead."""

    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    """properties.yaml: the allowed words of each enum, the other names by type, and the names that are refused."""

    words: Mapping[str, Sequence[str]]
    types: Mapping[str, str]
    legacy: Mapping[str, str]
    snapshot: Sequence[str]

    def names(self) -> list[str]:
        return [*self.words, *self.types]


@cache
def _known() -> _Known:
    raw = tables.read("properties")
    types = {name: kind for kind in ("boolean", "integer", "uuid", "text") for name in raw[kind]}
    return _Known(words=raw["enum"], types=types, legacy=raw["legacy"], snapshot=raw["snapshot"])


def derive(
    *, distribution: str, version: str, architecture: str, gpu: bool, packages: Collection[str]
) -> dict[str, str]:
    """The properties that follow from a variant, as Glance will hold them (strings).

    A GPU is a PCIe device with large BARs, hence q35 and UEFI; our own builds always have an ESP.
    """
    derived = {
        "os_type": "linux",
        "os_distro": distribution,
        "os_version": version,
        "os_admin_user": distribution,
        "architecture": ARCHITECTURES[architecture],
        "hw_rng_model": "virtio",
        "hw_disk_bus": "scsi",
        "hw_scsi_model": "virtio-scsi",
        "hw_video_model": "virtio",
    }
    if gpu:
        machine = "q35" if architecture == "amd64" else "virt"
        derived |= {"hw_machine_type": machine, "hw_firmware_type": "uefi", "hw_vif_multiqueue_enabled": "true"}
    if "qemu-guest-agent" in packages:
        derived["hw_qemu_guest_agent"] = "yes"
    return derived


def derive_imported(*, os_type: str, distribution: str, version: str, architecture: str, gpu: bool) -> dict[str, str]:
    """The properties that follow from what its maker says is in a ready image.

    From os_type windows Nova makes the Hyper-V enlightenments. Some of NVIDIA's drivers for Windows, and GeForce
    drivers before 465, refuse to work in a virtual machine that they can see ("Error 43"). Windows 11 asks for a
    TPM 2.0.
    """
    derived = derive(distribution=distribution, version=version, architecture=architecture, gpu=gpu, packages=())
    if os_type == "linux":
        return derived
    derived |= {
        "os_type": "windows",
        "os_distro": "windows",
        "os_admin_user": "Administrator",
        "hw_machine_type": "q35" if architecture == "amd64" else "virt",
        "hw_firmware_type": "uefi",
        "hw_vif_model": "virtio",
        "img_hide_hypervisor_id": "true",
    }
    if re.match(r"11\b", version):
        derived |= {"hw_tpm_model": "tpm-crb", "hw_tpm_version": "2.0"}
    return derived


def check(
    properties: Properties, *, modules_signed: bool = True, packages: Collection[str] | None = None
) -> list[Fault]:
    """All that is wrong with the properties of one image, each alone and together.

    `modules_signed`: the driver, where there is one, is signed by a key that guests trust: the distribution's, or the
    site's own; not by DKMS's throw-away key. `packages`: what is asked for in the image; None where that is not known
    (an imported image).
    """
    alone = check_each(properties)
    return alone or [fault for rule in _RULES for fault in rule(properties, modules_signed, packages)]


def check_each(properties: Mapping[str, str | None]) -> list[Fault]:
    """Unknown names, wrong types and wrong words; None (a property that is taken away) has any type."""
    checked = ((name, _name_fault(name) or _value_fault(name, value)) for name, value in properties.items())
    return [Fault(name=name, what=what) for name, what in checked if what]


def _name_fault(name: str) -> str | None:
    if _is_known(name):
        return None
    if name.startswith("trait:"):
        return "a trait is upper case; write it like trait:CUSTOM_GPU_H100"
    if name.startswith(RESERVED):
        return f"{RESERVED}… is the pipeline's own; write another prefix, such as mycompany."
    if name in _known().snapshot:
        return "Nova marks snapshots with this, and the image would be taken for one; remove it"
    if name in _known().legacy:
        return f"this is an older name; write {_known().legacy[name]}"
    close = difflib.get_close_matches(name, _known().names(), n=1)
    meant = f"did you mean {close[0]}?" if close else f"one of your own needs a prefix: mycompany.{name}"
    return f"Nova knows no such property; {meant}"


def _is_known(name: str) -> bool:
    """Nova's and Glance's names, traits, and one's own: those under a prefix that is not Nova's."""
    if name in _known().words or name in _known().types or re.fullmatch(r"trait:[A-Z0-9_]+", name):
        return True
    if name.startswith(_NOVAS):
        return bool(re.fullmatch(r"hw_numa_(cpus|mem)\.\d+", name))
    return bool(re.fullmatch(r"[a-z0-9_]+\.[\w.-]+", name)) and not name.startswith(RESERVED)


def _value_fault(name: str, value: str | None) -> str | None:
    words, kind = _known().words.get(name), _known().types.get(name, "text")
    if value is None:
        return None
    if words is not None:
        return None if value in words else f"{_quoted(value)} is not one of: {', '.join(words)}"
    if name.startswith("trait:"):
        return None if value == "required" else f"{_quoted(value)} does nothing in an image; write required"
    pattern, otherwise = _TYPES[name if name in _TYPES else kind]
    return None if re.fullmatch(pattern, value) else f"{_quoted(value)} {otherwise}"


def _quoted(value: str) -> str:
    return f'"{value}"'


def _secure_boot(properties: Properties, modules_signed: bool, _: Collection[str] | None) -> Iterator[Fault]:
    wish = properties.get("os_secure_boot")
    if wish not in ("required", "optional"):
        return
    if properties.get("hw_firmware_type") != "uefi":
        yield Fault(name="os_secure_boot", what=f"{wish} needs UEFI; write hw_firmware_type: uefi")
    if properties.get("architecture") == "x86_64" and "q35" not in properties.get("hw_machine_type", ""):
        yield Fault(name="os_secure_boot", what=f"{wish} needs the q35 machine; write hw_machine_type: q35")
    if not modules_signed:
        what = (
            f"{wish} is impossible: DKMS signs the driver's modules with a throw-away key that no guest trusts, "
            "and a kernel under Secure Boot rejects them; write disabled, remove it, or sign with your own key, "
            "under `secrets`"
        )
        yield Fault(name="os_secure_boot", what=what)


def _guest_agent(properties: Properties, _: bool, packages: Collection[str] | None) -> Iterator[Fault]:
    agent = properties.get("hw_qemu_guest_agent") in _ON
    if agent and packages is not None and "qemu-guest-agent" not in packages:
        yield Fault(name="hw_qemu_guest_agent", what="the agent is not in the image; add qemu-guest-agent to packages")
    if properties.get("os_require_quiesce") in _ON and not agent:
        what = "only the QEMU guest agent can quiesce; add qemu-guest-agent to packages, which sets hw_qemu_guest_agent"
        yield Fault(name="os_require_quiesce", what=what)


def _disk(properties: Properties, _: bool, __: Collection[str] | None) -> Iterator[Fault]:
    model = properties.get("hw_scsi_model")
    if properties.get("hw_disk_bus") == "scsi" and model != "virtio-scsi":
        yield Fault(name="hw_scsi_model", what="disks on the scsi bus need the guest's driver; write virtio-scsi")


def _machine(properties: Properties, _: bool, __: Collection[str] | None) -> Iterator[Fault]:
    machine, architecture = properties.get("hw_machine_type"), properties.get("architecture", "")
    if machine and not re.fullmatch(_MACHINES.get(architecture, ".*"), machine):
        usual = "q35" if architecture == "x86_64" else "virt"
        yield Fault(name="hw_machine_type", what=f"{architecture} has no machine {_quoted(machine)}; write {usual}")
    if properties.get("hw_viommu_model") == "intel" and "q35" not in (machine or ""):
        yield Fault(name="hw_viommu_model", what="intel needs the q35 machine; write hw_machine_type: q35")


def _belongs_together(properties: Properties, _: bool, __: Collection[str] | None) -> Iterator[Fault]:
    if properties.get("hw_firmware_stateless") == "true" and properties.get("hw_firmware_type") != "uefi":
        yield Fault(name="hw_firmware_stateless", what="only UEFI has a state; write hw_firmware_type: uefi")
    if "hw_tpm_model" in properties and "hw_tpm_version" not in properties:
        yield Fault(
            name="hw_tpm_model", what='Nova adds a TPM only for hw_tpm_version; write it too, for example "2.0"'
        )
    bits = "hw_maxphysaddr_bits" in properties
    if bits != (properties.get("hw_maxphysaddr_mode") == "emulate"):
        name = "hw_maxphysaddr_bits" if bits else "hw_maxphysaddr_mode"
        yield Fault(name=name, what="hw_maxphysaddr_bits and hw_maxphysaddr_mode: emulate need each other")


_Rule = Callable[[Properties, bool, Collection[str] | None], Iterator[Fault]]
_RULES: Sequence[_Rule] = (_secure_boot, _guest_agent, _disk, _machine, _belongs_together)
