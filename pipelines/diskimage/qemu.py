"""Virtual machines in QEMU: the command line of one as Nova would start it, and a probe of this host's KVM."""

import functools
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipelines.diskimage import uefi_variables
from pipelines.util import process
from pipelines.util.errors import HostError

Firmware = Literal["bios", "uefi", "secure"]

KVM = ("-accel", "kvm", "-cpu", "host")
EMULATION = ("-accel", "tcg,thread=multi", "-cpu", "max")

_OVMF = Path("/usr/share/OVMF")
_CODE = {"uefi": "OVMF_CODE_4M.fd", "secure": "OVMF_CODE_4M.ms.fd"}
_VARIABLES = {"uefi": "OVMF_VARS_4M.fd", "secure": "OVMF_VARS_4M.ms.fd"}
_PROBE_SECONDS = 5.0
_PROBE_PASSED = 99
# kvm_probe.S, assembled.
_PROBE = bytes.fromhex(
    "fa31c08ed88ec08ed0dbe3bf0010b90018fcf3abc70600100320c70600200330c7060030830066b8200600000f22e066b8001000000f22d8"
    "66b9800000c00f32660d000100000f30660f0116787c66b8110000800f22c0ea5c7c08000f57c0b031e6f4f4ebfd66900000000000000000"
    "00000000009a20000f00687c0000"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """A virtual machine. `type` is Nova's hw_machine_type, `disk_bus` its hw_disk_bus (scsi or virtio)."""

    type: str
    firmware: Firmware
    disk_bus: str
    accelerator: tuple[str, ...]
    memory: int = 2048
    processors: int = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Media:
    """Its files: a qcow2 overlay, the seed, where its console and its report go, UEFI's variables (None for BIOS)."""

    overlay: Path
    seed: Path
    console: Path
    report: Path
    variables: Path | None


def firmware_of(properties: dict[str, str]) -> Firmware:
    """The firmware that an image's properties ask Nova for."""
    if properties.get("hw_firmware_type") != "uefi":
        return "bios"
    return "secure" if properties.get("os_secure_boot") == "required" else "uefi"


@functools.cache
def kvm_works() -> bool:
    """Whether this host's KVM really runs code: with broken nested virtualisation, /dev/kvm exists and even starts."""
    program = _program()
    with tempfile.TemporaryDirectory() as scratch:
        sector = Path(scratch, "probe.raw")
        sector.write_bytes(_PROBE.ljust(510, b"\0") + b"\x55\xaa")
        return probe(program, sector, KVM, Path(scratch, "log"))


def probe(program: str, sector: Path, accelerator: tuple[str, ...], log: Path) -> bool:
    """Whether a boot sector runs to its end under an accelerator, within a few seconds."""
    machine = ("-machine", "pc", *accelerator, "-m", "16", "-nodefaults", "-display", "none", "-no-reboot")
    end = ("-device", "isa-debug-exit,iobase=0xf4,iosize=1")
    child = process.start([program, *machine, *end, "-drive", f"if=ide,format=raw,file={_quoted(sector)}"], log=log)
    try:
        deadline = time.monotonic() + _PROBE_SECONDS
        while child.poll() is None and time.monotonic() < deadline:
            if "internal error" in log.read_text(encoding="utf-8", errors="replace"):
                break
            time.sleep(0.05)
        return child.poll() == _PROBE_PASSED
    finally:
        process.stop(child, grace=1.0)


def accelerator() -> tuple[str, ...]:
    """KVM where it works, else software emulation."""
    return KVM if kvm_works() else EMULATION


def command(machine: Machine, media: Media) -> tuple[str, ...]:
    """The argv that boots `media`; it ends when the guest powers off, or would reboot.

    The network is QEMU's own, without a way out: a guest waits for an address, and must need nothing else.
    """
    secure = machine.firmware == "secure"
    return (
        _program(),
        *("-machine", machine.type + (",smm=on" if secure else "")),
        *machine.accelerator,
        *("-m", str(machine.memory), "-smp", str(machine.processors)),
        *("-nodefaults", "-display", "none", "-no-reboot"),
        *_firmware(machine.firmware, media.variables),
        *_disk(machine.disk_bus, media.overlay),
        *("-drive", f"if=none,id=seed,format=raw,readonly=on,file={_quoted(media.seed)}"),
        *("-device", "virtio-blk-pci,drive=seed"),
        *("-device", "virtio-rng-pci"),
        *("-nic", "user,model=virtio-net-pci,restrict=on"),
        *("-chardev", f"file,id=console,path={_quoted(media.console)}", "-serial", "chardev:console"),
        *("-device", "virtio-serial-pci", "-chardev", f"file,id=report,path={_quoted(media.report)}"),
        *("-device", "virtserialport,chardev=report,name=gpu-image"),
    )


def missing_firmware(firmware: Firmware) -> Path | None:
    """A file of OVMF that the firmware needs and this host lacks; QEMU has its own BIOS."""
    names = () if firmware == "bios" else (_CODE[firmware], _VARIABLES[firmware])
    return next((_OVMF / name for name in names if not (_OVMF / name).exists()), None)


def own_variables(firmware: Firmware, folder: Path, certificate: bytes | None) -> Path | None:
    """A copy of UEFI's variables for one machine, which writes into it; None for BIOS.

    Under Secure Boot a site's certificate (DER) is enrolled in it, as a user would with MokManager.
    """
    if firmware == "bios":
        return None
    if (missing := missing_firmware(firmware)) is not None:
        raise HostError(f"{missing} is missing", remedy="apt-get install ovmf")
    variables = Path(shutil.copyfile(_OVMF / _VARIABLES[firmware], folder / "variables.fd"))
    if firmware == "secure" and certificate is not None:
        uefi_variables.enroll(variables, certificate)
    return variables


def _program() -> str:
    return process.require("qemu-system-x86_64", "qemu-system-x86")


def _firmware(firmware: Firmware, variables: Path | None) -> tuple[str, ...]:
    if firmware == "bios" or variables is None:
        return ()
    locked = ("-global", "driver=cfi.pflash01,property=secure,value=on") if firmware == "secure" else ()
    code = f"if=pflash,format=raw,unit=0,readonly=on,file={_OVMF / _CODE[firmware]}"
    return (*locked, "-drive", code, "-drive", f"if=pflash,format=raw,unit=1,file={_quoted(variables)}")


def _disk(bus: str, overlay: Path) -> tuple[str, ...]:
    drive = ("-drive", f"if=none,id=root,format=qcow2,cache=unsafe,discard=unmap,file={_quoted(overlay)}")
    if bus == "scsi":
        return (*drive, "-device", "virtio-scsi-pci", "-device", "scsi-hd,drive=root,bootindex=1")
    return (*drive, "-device", "virtio-blk-pci,drive=root,bootindex=1")


def _quoted(path: Path) -> str:
    """A path in one of QEMU's option lists, where a comma is written twice."""
    return str(path).replace(",", ",,")
