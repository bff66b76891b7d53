"""Virtual machines in QEMU: their command line, and the probe of KVM."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.diskimage import qemu

MACHINE = qemu.Machine(type="q35", firmware="bios", disk_bus="scsi", accelerator=qemu.EMULATION)
MEDIA = qemu.Media(
    overlay=Path("/w/a,b.qcow2"), seed=Path("/w/seed"), console=Path("/c"), report=Path("/r"), variables=None
)


def test_a_bios_machine_has_no_flash() -> None:
    argv = qemu.command(MACHINE, MEDIA)
    assert argv[argv.index("-machine") + 1] == "q35"
    assert not any("pflash" in argument for argument in argv)


def test_a_secure_machine_locks_its_variables() -> None:
    media = replace(MEDIA, variables=Path("/w/variables.fd"))
    argv = qemu.command(replace(MACHINE, firmware="secure"), media)
    assert argv[argv.index("-machine") + 1] == "q35,smm=on"
    assert argv[argv.index("-global") + 1] == "driver=cfi.pflash01,property=secure,value=on"
    assert any("OVMF_CODE_4M.ms.fd" in argument and "readonly=on" in argument for argument in argv)
    assert "if=pflash,format=raw,unit=1,file=/w/variables.fd" in argv


def test_the_disk_is_on_the_bus_that_nova_will_use() -> None:
    assert "scsi-hd,drive=root,bootindex=1" in qemu.command(MACHINE, MEDIA)
    assert "virtio-blk-pci,drive=root,bootindex=1" in qemu.command(replace(MACHINE, disk_bus="virtio"), MEDIA)


def test_a_comma_in_a_path_stays_in_the_path() -> None:
    assert any(argument.endswith("file=/w/a,,b.qcow2") for argument in qemu.command(MACHINE, MEDIA))


def test_the_network_leads_nowhere() -> None:
    argv = qemu.command(MACHINE, MEDIA)
    assert argv[argv.index("-nic") + 1] == "user,model=virtio-net-pci,restrict=on"


@pytest.mark.parametrize(
    ("properties", "firmware"),
    [
        ({}, "bios"),
        ({"hw_firmware_type": "uefi"}, "uefi"),
        ({"hw_firmware_type": "uefi", "os_secure_boot": "required"}, "secure"),
        ({"hw_firmware_type": "uefi", "os_secure_boot": "disabled"}, "uefi"),
    ],
)
def test_the_firmware_follows_from_the_images_properties(properties: dict[str, str], firmware: str) -> None:
    assert qemu.firmware_of(properties) == firmware


def test_the_probe_sees_an_accelerator_that_works(tmp_path: Path) -> None:
    sector = tmp_path / "sector"
    sector.write_bytes(qemu._PROBE.ljust(510, b"\0") + b"\x55\xaa")
    assert qemu.probe("qemu-system-x86_64", sector, qemu.EMULATION, tmp_path / "log")


def test_the_probe_gives_up_on_one_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "_PROBE_SECONDS", 0.5)
    sector = tmp_path / "sector"
    sector.write_bytes(b"\xeb\xfe".ljust(510, b"\0") + b"\x55\xaa")  # jmp $
    started = time.monotonic()
    assert not qemu.probe("qemu-system-x86_64", sector, qemu.EMULATION, tmp_path / "log")
    assert time.monotonic() - started < 5
