"""Verification of a finished build: the list of its checks, and its verify.json.

The checks run offline, without booting the image or (but for xfs) mounting it; on request it is booted as well.
"""

import ssl
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from pipelines.artifacts.manifest import Check, Manifest, Verification
from pipelines.artifacts.store import Build
from pipelines.catalog.variant import Variant
from pipelines.diskimage import filesystem, gpt, qemu, qemu_img
from pipelines.diskimage.qemu import Firmware
from pipelines.util import files as util_files
from pipelines.util import times
from pipelines.util.errors import PipelineError
from pipelines.verify import (
    boot,
    boot_report,
    disk,
    first_boot,
    identity,
    image_file,
    imported,
    kernel,
    kernel_driver,
    module_signatures,
    sealing,
)
from pipelines.verify.check import Guest, Outcome, carried_out, not_carried_out, raise_for_host
from pipelines.verify.disk import Disk
from pipelines.verify.image_file import Image

FILE_CHECKS = image_file.CHECKS
DISK_CHECKS = disk.CHECKS
GUEST_CHECKS = (*identity.CHECKS, *kernel.CHECKS, *sealing.CHECKS)
DRIVER_CHECKS = (*kernel_driver.CHECKS, *module_signatures.CHECKS, *first_boot.CHECKS)

_NOT_OURS = "not checked: the publisher of an imported image is responsible for its content"
_NO_DRIVER = "this image has no GPU driver"
_NO_PROBE = "not booted: the probe that would report does not run in an imported image"


def verify(build: Build, variant: Variant, now: datetime, *, firmware: Firmware | None = None) -> Verification:
    """Check a complete build and write its verify.json; with `firmware`, boot it too.

    A check that fails, or that cannot be carried out, is in the result and raises nothing. VerifyError when the
    build's manifest is missing or corrupt. HostError, and no verify.json, when this host is the reason: its disk is
    full, or a program is missing. A boot with a firmware that the image's properties do not ask for is in the result
    alone: it decides nothing about a release.
    """
    recorded = build.manifest()
    image = Image(path=build.image(), artifact=recorded.artifact, variant=variant)
    try:
        checks = (*_of_file(image), *_of_content(image, recorded))
        booted = () if firmware is None else _of_boot(image, recorded, build.folder, firmware)
        result = Verification(
            variant=build.variant,
            build_id=build.build_id,
            checked_at=times.utc(now),
            checks=(*checks, *booted),
        )
        decides = firmware == qemu.firmware_of(dict(variant.properties))
        util_files.write_json(build.folder / "verify.json", result if decides else replace(result, checks=checks))
    except (PipelineError, OSError) as error:
        raise_for_host(error)
        raise
    return result


def _of_file(image: Image) -> list[Check]:
    return [carried_out(name, judge, image) for name, judge in FILE_CHECKS]


def _of_content(image: Image, recorded: Manifest) -> list[Check]:
    """The checks of what is in the file. What cannot be opened fails all the checks that needed it."""
    names = [name for name, _ in (*DISK_CHECKS, *GUEST_CHECKS, *DRIVER_CHECKS)]
    if image.variant.kind == "import":
        return [carried_out("import-boot-loader", _boot_loader, image), *_same(names, None, _NOT_OURS)]
    checks: list[Check] = []
    try:
        with qemu_img.raw(image.path) as raw:
            table = gpt.partition_table(raw)
            checks += _of_disk(image.variant, raw, table)
            with filesystem.opened(raw, _root(table), image.variant.disk.filesystem) as files:
                checks += _of_guest(Guest(manifest=recorded, variant=image.variant, disk=raw, files=files))
    except (PipelineError, OSError, ValueError) as error:
        raise_for_host(error)
        done = {check.name for check in checks}
        checks += _same([name for name in names if name not in done], False, not_carried_out(error))
    return checks


def _of_disk(variant: Variant, raw: Path, table: gpt.PartitionTable) -> list[Check]:
    if variant.base is None:
        raise ValueError("the variant has no base, so its distribution and architecture are unknown")
    subject = Disk(path=raw, table=table, base=variant.base)
    return [carried_out(name, judge, subject) for name, judge in DISK_CHECKS]


def _of_guest(guest: Guest) -> list[Check]:
    checks = [carried_out(name, judge, guest) for name, judge in GUEST_CHECKS]
    if guest.variant.gpu:
        return checks + [carried_out(name, judge, guest) for name, judge in DRIVER_CHECKS]
    return checks + _same([name for name, _ in DRIVER_CHECKS], None, _NO_DRIVER)


def _of_boot(image: Image, recorded: Manifest, folder: Path, firmware: Firmware) -> tuple[Check, ...]:
    if image.variant.kind == "import":
        return (Check(name="boot-reached", passed=None, detail=_NO_PROBE),)
    return boot.boot(image.path, expectation=_expectation(recorded, image.variant), firmware=firmware, folder=folder)


def _boot_loader(image: Image) -> Outcome:
    with qemu_img.raw(image.path) as raw:
        return imported.boot_loader(raw, image.variant)


def _same(names: Iterable[str], passed: bool | None, detail: str) -> list[Check]:
    return [Check(name=name, passed=passed, detail=detail) for name in names]


def _root(table: gpt.PartitionTable) -> gpt.Partition:
    if not table.partitions:
        raise ValueError("the disk has no partitions")
    return table.partitions[-1]


def _expectation(recorded: Manifest, variant: Variant) -> boot_report.Expectation:
    properties, certificate = variant.properties, recorded.driver.get("certificate")
    return boot_report.Expectation(
        kernel=recorded.kernel,
        architecture=properties.get("architecture", "x86_64"),
        driver=recorded.driver.get("version", "") if variant.gpu else "",
        virtual_size=recorded.artifact.virtual_size,
        machine=properties.get("hw_machine_type", "pc"),
        disk_bus=properties.get("hw_disk_bus", "virtio"),
        modules_signed=variant.signed_modules,
        gpu_check="gpu-check" in variant.elements,
        certificate=ssl.PEM_cert_to_DER_cert(certificate) if certificate else None,
    )
