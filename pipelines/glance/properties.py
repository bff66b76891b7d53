"""Image properties: which ones Nova understands, and which ones a guest needs.

The names, types and allowed words are in properties.yaml, from Nova's own nova/objects/image_meta.py. Glance takes
any property, and Nova silently ignores unknown ones: a mistake is found here, before anything is built, or not at all.
"""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipelines.glance import property_conflicts
from pipelines.glance.property_conflicts import Fault, Properties
from pipelines.util import files
from pipelines.util.architecture import ARCHITECTURES

__all__ = [
    "RESERVED",
    "Fault",
    "Properties",
    "check",
    "check_each",
    "derive",
    "derive_imported",
    "is_novas",
]

RESERVED = "gpu_image_"  # the identity that a release gives an image
_PROCESSORS = "hw_numa_cpus."
_NOVAS = ("hw_", "img_", "os_")  # an unknown name with one of these prefixes is a mistake
_TYPES = {
    "boolean": (r"true|false", "is neither true nor false"),
    "integer": (r"[0-9]{1,9}", "is not a whole number"),
    "uuid": (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "is not a UUID"),
    "text": (r"[^\x00-\x1f]{1,255}", "is empty, too long (255 at most) or more than one line"),
    "hw_mem_page_size": (r"small|any|large|[0-9]+([KMG]B)?", "is neither small, any, large nor a size in KiB"),
}


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
    raw = files.read_yaml(Path(__file__).with_name("properties.yaml"))
    types = {name: kind for kind in ("boolean", "integer", "uuid", "text") for name in raw[kind]}
    return _Known(words=raw["enum"], types=types, legacy=raw["legacy"], snapshot=raw["snapshot"])


def derive(
    *, distribution: str, version: str, architecture: str, gpu: bool, packages: Collection[str]
) -> dict[str, str]:
    """The properties that follow from a variant, as Glance will have them (strings).

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
    """The properties that follow from what the catalog declares about an imported image.

    For os_type windows Nova adds the Hyper-V enlightenments. Some of NVIDIA's drivers for Windows, and GeForce drivers
    before 465, refuse to work in a virtual machine that they detect ("Error 43"). Windows 11 requires a TPM 2.0.
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
    return alone or property_conflicts.found(properties, modules_signed, packages)


def check_each(properties: Mapping[str, str | None]) -> list[Fault]:
    """Unknown names, wrong types and wrong words; None (a property that is taken away) has any type."""
    checked = ((name, _name_fault(name) or _value_fault(name, value)) for name, value in properties.items())
    return [Fault(name=name, what=what) for name, what in checked if what]


def _name_fault(name: str) -> str | None:
    if _is_known(name):
        return None
    if name.startswith("trait:"):
        return "a trait is in upper case; write it like trait:CUSTOM_GPU_H100"
    if name.startswith(RESERVED):
        return f"{RESERVED}… is the pipeline's own; write another prefix, such as mycompany."
    if name in _known().snapshot:
        return "Nova marks snapshots with this, and the image would be taken for one; remove it"
    if name in _known().legacy:
        return f"this is an older name; write {_known().legacy[name]}"
    close = difflib.get_close_matches(name, _known().names(), n=1)
    meant = f"did you mean {close[0]}?" if close else f"a property of your own needs a prefix: mycompany.{name}"
    return f"Nova does not know this property; {meant}"


def is_novas(name: str) -> bool:
    """Whether Nova (or, for a few that describe the guest, Glance) gives a name its meaning; traits included."""
    patterned = re.fullmatch(r"trait:[A-Z0-9_]+|hw_numa_(cpus|mem)\.\d+", name)
    return name in _known().words or name in _known().types or patterned is not None


def _is_known(name: str) -> bool:
    """Nova's and Glance's names, traits, and one's own: those under a prefix that is not Nova's."""
    if is_novas(name) or name.startswith((*_NOVAS, RESERVED)):
        return is_novas(name)
    return bool(re.fullmatch(r"[a-z0-9_]+\.[\w.-]+", name))


def _value_fault(name: str, value: str | None) -> str | None:
    words, kind = _known().words.get(name), _known().types.get(name, "text")
    kind = "integer" if name.startswith("hw_numa_mem.") else kind
    if value is None:
        return None
    if words is not None:
        return None if value in words else f"{_quoted(value)} is not one of: {', '.join(words)}"
    if name.startswith("trait:"):
        return None if value == "required" else f"{_quoted(value)} has no effect in an image; write required"
    if name.startswith(_PROCESSORS) or name == "hw_cpu_realtime_mask":
        return _processors_fault(name, value)
    pattern, otherwise = _TYPES[name if name in _TYPES else kind]
    return None if re.fullmatch(pattern, value) else f"{_quoted(value)} {otherwise}"


def _processors_fault(name: str, value: str) -> str | None:
    """Nova's sets of processors: numbers and ranges, and after ^ those that are not in it (parse_cpu_spec in Nova's
    virt/hardware.py). A mask of exceptions alone is of all processors; a node of none has no processors."""
    rules = [rule.strip() for rule in value.split(",") if rule.strip()]
    parts = [re.fullmatch(r"(\^?)([0-9]{1,5})(?: *- *([0-9]{1,5}))?", rule) for rule in rules]
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts) or any(int(part[2]) > int(part[3] or part[2]) for part in known):
        return f"{_quoted(value)} is not a set of processors; write it like 0-3,^1"
    if name.startswith(_PROCESSORS) and all(part[1] for part in known):
        return f"{_quoted(value)} leaves the node without a processor; write those that it has, like 0-3"
    return None


def _quoted(value: str) -> str:
    return f'"{value}"'
