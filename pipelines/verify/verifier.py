"""Is it good?

Checks on a finished build, offline, without booting or (but for xfs) mounting it; and, when asked, a boot. The results
are the build's verify.json.
"""

import json
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from pipelines.artifacts.manifest import Artifact, Check, Manifest, Verification
from pipelines.artifacts.store import Build
from pipelines.catalog.distributions import DISTRIBUTIONS
from pipelines.catalog.variant import Variant
from pipelines.diskimage import filesystem, gpt, installed_packages, qemu, qemu_img
from pipelines.diskimage.qemu import Firmware
from pipelines.util import files as util_files
from pipelines.util import times, units
from pipelines.util.errors import PipelineError
from pipelines.verify import boot, boot_report, first_boot, imported, kernel_driver, module_signatures, sealing
from pipelines.verify.check import Guest, Outcome, carried_out, not_carried_out, outcome, raise_for_host

# What the removable-media path and the distributions' signed GRUB are called (UEFI specification 2.10, table 3.3).
_EFI_NAMES = {"amd64": ("BOOTX64.EFI", "GRUBX64.EFI"), "arm64": ("BOOTAA64.EFI", "GRUBAA64.EFI")}
_NOT_OURS = "imported image; cannot be verified inside: its maker answers for it"
_ROOT_TYPES = {"amd64": gpt.ROOT_X86_64, "arm64": gpt.ROOT_ARM64}


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """An artifact as a file: what the manifest and the catalog say of it."""

    path: Path
    artifact: Artifact
    variant: Variant


@dataclass(frozen=True, kw_only=True, slots=True)
class Disk:
    """An artifact as a raw disk."""

    path: Path
    table: gpt.PartitionTable
    variant: Variant


def verify(build: Build, variant: Variant, now: datetime, *, firmware: Firmware | None = None) -> Verification:
    """Check a complete build and write its verify.json; with `firmware`, boot it too.

    A check that fails, or that cannot be carried out, is in the result and raises nothing. VerifyError when the
    build's manifest is missing or corrupt. HostError, and no verify.json, when this host is the reason: its disk is
    full, or a program is missing. A boot with a firmware that the image's properties do not ask for is in the result
    alone: it decides nothing about a release.
    """
    made = build.manifest()
    image = Image(path=build.image(), artifact=made.artifact, variant=variant)
    try:
        checks = [carried_out(name, judge, image) for name, judge in FILE_CHECKS]
        checks += _inside(image, made)
        booted = () if firmware is None else _boot(image, made, build.folder, firmware)
        result = Verification(
            variant=build.variant,
            build_id=build.build_id,
            checked_at=times.utc(now),
            checks=(*checks, *booted),
        )
        decides = firmware == qemu.firmware_of(dict(variant.properties))
        util_files.write_json(
            build.folder / "verify.json", result if decides else replace(result, checks=tuple(checks))
        )
    except (PipelineError, OSError) as error:
        raise_for_host(error)
        raise
    return result


def image_digest(image: Image) -> Outcome:
    """The file is the one that the build made."""
    size = image.path.stat().st_size
    if size != image.artifact.size:
        return False, f"{size} bytes, the manifest says {image.artifact.size}"
    sha256 = util_files.sha256(image.path)
    problems = [] if sha256 == image.artifact.sha256 else [f"{sha256}, the manifest says {image.artifact.sha256}"]
    return outcome(problems, f"sha256 {sha256}")


def image_format(image: Image) -> Outcome:
    """The file is of the format it claims, whole and self-contained."""
    found = qemu_img.info(image.path)
    problems = []
    if found.format != image.artifact.format:
        problems.append(f"it is {found.format}, the manifest says {image.artifact.format}")
    if found.backing_file:
        problems.append(f"it needs the backing file {found.backing_file}")
    problems += ["its dirty flag is set"] if found.dirty else []
    problems += ["it is marked as corrupt"] if found.corrupt else []
    return outcome(problems, " ".join(filter(None, (found.format, found.compression))))


def qemu_img_check(image: Image) -> Outcome:
    """The qcow2 file's own structure is sound."""
    if image.artifact.format != "qcow2":
        return True, f"{image.artifact.format} has no structure of its own"
    return outcome(qemu_img.check(image.path), "no errors")


def virtual_size(image: Image) -> Outcome:
    """The disk has the declared size, from which Glance's min_disk follows."""
    found = qemu_img.info(image.path).virtual_size
    problems = []
    if found != image.artifact.virtual_size:
        problems.append(f"{found} bytes, the manifest says {image.artifact.virtual_size}")
    if found != image.variant.disk.size:
        problems.append(f"{found} bytes, images.yaml says {image.variant.disk.size}")
    return outcome(problems, units.size(found))


def partition_table(subject: Disk) -> Outcome:
    """A sound GPT with a BIOS boot partition, an ESP and the root, which is last so that it can grow."""
    problems = list(subject.table.problems)
    parts = subject.table.partitions
    architecture = _architecture(subject.variant)
    wanted = [*([gpt.BIOS_BOOT] if architecture == "amd64" else []), gpt.ESP, _ROOT_TYPES[architecture]]
    if [part.type for part in parts] != wanted:
        expected = "BIOS boot, ESP and root" if architecture == "amd64" else "ESP and root"
        problems.append(f"{expected} were expected, there are: {', '.join(part.name for part in parts)}")
    for before, after in pairwise(parts):
        if before.start + before.size > after.start:
            problems.append(f"{before.name} reaches into {after.name}")
    if parts and parts[-1].start + parts[-1].size > subject.path.stat().st_size:
        problems.append(f"{parts[-1].name} ends behind the disk")
    return outcome(problems, f"GPT, both copies sound: {', '.join(part.name for part in parts)}")


def esp(subject: Disk) -> Outcome:
    """UEFI finds the signed shim on its removable-media path, shim finds GRUB, GRUB finds its menu."""
    partition = next((part for part in subject.table.partitions if part.type == gpt.ESP), None)
    if partition is None or subject.variant.base is None:
        return False, "there is no EFI system partition"
    shim, grub = _EFI_NAMES[_architecture(subject.variant)]
    menu = f"/EFI/{DISTRIBUTIONS[subject.variant.base.distribution].efi_vendor}/grub.cfg"
    found = {path.upper() for path in filesystem.esp_files(subject.path, partition)}
    wanted = (f"/EFI/BOOT/{shim}", f"/EFI/BOOT/{grub}", menu)
    problems = [f"{path} is missing" for path in wanted if path.upper() not in found]
    if not problems and "configfile" not in filesystem.esp_text(subject.path, partition, menu):
        problems.append(f"{menu} loads no menu from the root file system")
    return outcome(problems, ", ".join(wanted))


def identity(guest: Guest) -> Outcome:
    """/etc/gpu-image.json in the guest says what the manifest says."""
    text = guest.files.text("/etc/gpu-image.json")
    if text is None:
        return False, "/etc/gpu-image.json is missing"
    said, made = json.loads(text), guest.manifest
    expected = {"variant": made.variant, "build_id": made.build_id, "kernel": made.kernel}
    expected |= {"driver": made.driver.get("version", ""), "modules": made.driver.get("modules", "")}
    expected |= {"cuda": made.cuda.get("toolkit", "")}
    wrong = {key: value for key, value in expected.items() if said.get(key) != value}
    problems = [f"{key} is {said.get(key)!r}, the manifest says {value!r}" for key, value in wrong.items()]
    return outcome(problems, f"{made.variant} {made.build_id}")


def packages(guest: Guest) -> Outcome:
    """The manifest's packages, from which updates are planned, are the guest's."""
    listed = {name.split(":")[0]: version for name, version in guest.manifest.packages.items()}
    found = {name: package.version for name, package in installed_packages.installed(guest.files).items()}
    differ = sorted(name for name in listed.keys() | found.keys() if listed.get(name) != found.get(name))
    problems = [f"{name} is {found.get(name)}, the manifest says {listed.get(name)}" for name in differ]
    return outcome(problems, f"{len(found)}, as in the manifest")


FILE_CHECKS: tuple[tuple[str, Callable[[Image], Outcome]], ...] = (
    ("image-digest", image_digest),
    ("format", image_format),
    ("qemu-img-check", qemu_img_check),
    ("virtual-size", virtual_size),
)
DISK_CHECKS: tuple[tuple[str, Callable[[Disk], Outcome]], ...] = (
    ("partition-table", partition_table),
    ("esp", esp),
)
GUEST_CHECKS = (("identity", identity), ("packages", packages), *kernel_driver.CHECKS, *sealing.CHECKS)
DRIVER_CHECKS = (
    *kernel_driver.DRIVER_CHECKS,
    ("distribution-modules", module_signatures.distribution_modules),
    ("module-signatures", module_signatures.module_signatures),
    *first_boot.CHECKS,
)


def _inside(image: Image, made: Manifest) -> list[Check]:
    """The checks of what is in the file. What cannot be opened fails all the checks that needed it."""
    disk_names, guest_names = [name for name, _ in DISK_CHECKS], [name for name, _ in (*GUEST_CHECKS, *DRIVER_CHECKS)]
    if image.variant.kind == "import":
        return [_boot_loader(image), *_same([*disk_names, *guest_names], None, _NOT_OURS)]
    checks: list[Check] = []
    try:
        with qemu_img.raw(image.path) as raw:
            table = gpt.partition_table(raw)
            subject = Disk(path=raw, table=table, variant=image.variant)
            checks += [carried_out(name, judge, subject) for name, judge in DISK_CHECKS]
            with filesystem.opened(raw, _root(table), image.variant.disk.filesystem) as files:
                checks += _in_guest(Guest(manifest=made, variant=image.variant, disk=raw, files=files))
    except (PipelineError, OSError, ValueError) as error:
        raise_for_host(error)
        done = {check.name for check in checks}
        missing = [name for name in (*disk_names, *guest_names) if name not in done]
        checks += _same(missing, False, not_carried_out(error))
    return checks


def _boot_loader(image: Image) -> Check:
    """What can be said of an imported image without looking into its file systems."""

    def judge(image: Image) -> Outcome:
        with qemu_img.raw(image.path) as raw:
            return imported.boot_loader(raw, image.variant)

    return carried_out("import-boot-loader", judge, image)


def _in_guest(guest: Guest) -> list[Check]:
    checks = [carried_out(name, judge, guest) for name, judge in GUEST_CHECKS]
    if guest.variant.gpu:
        return checks + [carried_out(name, judge, guest) for name, judge in DRIVER_CHECKS]
    return checks + _same([name for name, _ in DRIVER_CHECKS], None, "this image has no GPU driver")


def _same(names: Iterable[str], passed: bool | None, detail: str) -> list[Check]:
    return [Check(name=name, passed=passed, detail=detail) for name in names]


def _root(table: gpt.PartitionTable) -> gpt.Partition:
    if not table.partitions:
        raise ValueError("the disk has no partitions")
    return table.partitions[-1]


def _architecture(variant: Variant) -> str:
    if variant.base is None:
        raise ValueError("the variant has no base, so its architecture is unknown")
    return variant.base.architecture


def _boot(image: Image, made: Manifest, folder: Path, firmware: Firmware) -> tuple[Check, ...]:
    if image.variant.kind == "import":
        return (
            Check(name="boot-reached", passed=None, detail="not booted: nothing in an imported image would report"),
        )
    return boot.boot(image.path, expectation=_expectation(made, image.variant), firmware=firmware, folder=folder)


def _expectation(made: Manifest, variant: Variant) -> boot_report.Expectation:
    properties, certificate = variant.properties, made.driver.get("certificate")
    return boot_report.Expectation(
        kernel=made.kernel,
        architecture=properties.get("architecture", "x86_64"),
        driver=made.driver.get("version", "") if variant.gpu else "",
        virtual_size=made.artifact.virtual_size,
        machine=properties.get("hw_machine_type", "pc"),
        disk_bus=properties.get("hw_disk_bus", "virtio"),
        modules_signed=variant.signed_modules,
        gpu_check="gpu-check" in variant.elements,
        certificate=ssl.PEM_cert_to_DER_cert(certificate) if certificate else None,
    )
