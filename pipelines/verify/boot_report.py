"""Checks of a booted guest, from what the probe inside it reported.

They include Secure Boot: modules of the driver signed with a key that the guest trusts must load, and no others.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.artifacts.manifest import Check
from pipelines.diskimage.qemu import Firmware
from pipelines.util import units
from pipelines.verify.check import Outcome, carried_out, outcome

_SLACK = 2 * 2**20  # bytes that may stay free behind the root partition: GPT's backup, alignment
_GPU_CHECK_NO_GPU = 3  # gpu-check's exit code for it, in its README
_FIRMWARES = {"bios": (False, False), "uefi": (True, False), "secure": (True, True)}
_FIRMWARE_LABELS = {(False, False): "BIOS", (True, False): "UEFI", (True, True): "UEFI with Secure Boot"}
_NO_DRIVER = "this image has no GPU driver"

_NO_GPU = "No such device"
_NOT_TRUSTED = ("Key was rejected by service", "Required key not available")
# EPERM alone has many reasons; this one the kernel logs (security_locked_down in its module loader).
_LOCKED_DOWN, _LOCKDOWN_LOGGED = "Operation not permitted", "unsigned module loading is restricted"


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """What an image should be from inside. `kernel` and `driver` are versions, empty where none is declared;
    `virtual_size` is in bytes.

    `architecture`, `machine` and `disk_bus` are Glance's architecture, hw_machine_type and hw_disk_bus.
    `modules_signed`: with a key that the guest trusts, so that Secure Boot accepts them; where that is the site's own,
    `certificate` (DER) is what the image's users enroll. `gpu_check`: whether the image should have that command.
    """

    kernel: str
    architecture: str
    driver: str
    virtual_size: int
    machine: str
    disk_bus: str
    modules_signed: bool
    gpu_check: bool
    certificate: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """How a boot went: the guest's report (None: it gave none), wall seconds, and the console's last lines."""

    report: Mapping[str, Any] | None
    seconds: float
    emulated: bool
    last_lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A guest's report, and what it is compared with."""

    sections: Mapping[str, Any]
    expectation: Expectation
    firmware: Firmware

    def section(self, name: str) -> Mapping[str, Any]:
        """A part of the report; empty when it is missing."""
        found: Mapping[str, Any] = self.sections.get(name, {})
        return found


def judged(run: Run, expectation: Expectation, firmware: Firmware) -> tuple[Check, ...]:
    """The checks of a boot."""
    how = "software emulation" if run.emulated else "KVM"
    if run.report is None:
        last = " | ".join(run.last_lines) or "(nothing)"
        detail = f"no report after {run.seconds:.0f} s under {how}; the console's last lines: {last}"
        unknown = [Check(name=name, passed=False, detail="the guest did not report") for name, _ in CHECKS]
        return (Check(name="boot-reached", passed=False, detail=detail), *unknown)
    report = Report(sections=run.report, expectation=expectation, firmware=firmware)
    reached = Check(name="boot-reached", passed=True, detail=f"reported after {run.seconds:.0f} s under {how}")
    return (reached, *(carried_out(name, judge, report) for name, judge in CHECKS))


def boot_firmware(report: Report) -> Outcome:
    """The requested firmware started the guest."""
    section = report.section("firmware")
    found = (bool(section.get("uefi")), bool(section.get("secure_boot")))
    requested = _FIRMWARES[report.firmware]
    label = _FIRMWARE_LABELS.get(found, "unknown")
    return (True, label) if found == requested else (False, f"{label}, expected {_FIRMWARE_LABELS[requested]}")


def cloud_init(report: Report) -> Outcome:
    """cloud-init read the seed and finished without errors."""
    section = report.section("cloud_init")
    problems = [str(error) for error in section.get("errors", [_unknown(section)])]
    if "NoCloud" not in str(section.get("datasource")):
        problems.append(f"its data source is {section.get('datasource')}, not NoCloud")
    warnings = section.get("warnings", [])
    counted = f"; {len(warnings)} warning{'s' if len(warnings) > 1 else ''}: {warnings[0]}" if warnings else ""
    return outcome(problems, f"finished without errors{counted}")


def root_grew(report: Report) -> Outcome:
    """The root partition and its file system fill the server's disk, which is larger than the image."""
    root = report.section("root")
    if "unknown" in root or not root:
        return False, f"unknown: {_unknown(root)}"
    sizes = {name: units.size(root[name]) for name in ("disk", "partition", "partition_end", "filesystem")}
    problems = []
    if root["disk"] <= report.expectation.virtual_size:
        problems.append(f"the disk has {sizes['disk']}, expected more than the image has")
    if root["disk"] - root["partition_end"] > _SLACK:
        problems.append(f"the root partition ends at {sizes['partition_end']} of {sizes['disk']}")
    if root["filesystem"] < root["partition"] * 0.9:
        problems.append(f"the file system has {sizes['filesystem']} of {sizes['partition']}")
    return outcome(problems, f"{sizes['filesystem']} of a disk of {sizes['disk']}")


def services(report: Report) -> Outcome:
    """No unit failed during the boot."""
    section = report.section("services")
    if "failed" not in section:
        return False, f"unknown: {_unknown(section)}"
    return outcome([f"{unit} failed" for unit in section["failed"]], "none failed")


def kernel_running(report: Report) -> Outcome:
    """The declared kernel is running."""
    running, declared = str(report.sections.get("kernel", "unknown")), report.expectation.kernel
    if not declared:
        return None, f"{running}; no kernel is declared"
    return outcome([] if running == declared else [f"{running} is running, the manifest says {declared}"], running)


def driver_loads(report: Report) -> Outcome:
    """Without a GPU the driver must load, find no device and report that; under Secure Boot only if it is signed."""
    if not report.expectation.driver:
        return None, _NO_DRIVER
    attempt = report.section("driver")
    output = _output(attempt)
    if report.firmware == "secure" and not report.expectation.modules_signed:
        if _refused(attempt):
            return True, "rejected under Secure Boot, as expected: it is signed only with DKMS's temporary key"
        return False, f"Secure Boot did not reject a module that no trusted key has signed: {output}"
    if attempt.get("returncode") == 0:
        # An `install` line in modprobe.d, for example, succeeds and loads nothing.
        return False, "modprobe succeeded without a GPU, which NVIDIA's driver never does: the driver was not loaded"
    no_gpu = [line for line in output.splitlines() if _NO_GPU in line]
    if no_gpu:
        return True, f"loads, and finds no GPU: {no_gpu[0]}"
    return False, f"does not load: {' | '.join([*output.splitlines(), *attempt.get('kernel_log', [])])}"


def unsigned_refused(report: Report) -> Outcome:
    """Under Secure Boot the kernel refuses a module of the driver whose signature was removed."""
    if not report.expectation.driver:
        return None, _NO_DRIVER
    if report.firmware != "secure":
        return None, "only Secure Boot refuses modules"
    attempt = report.section("unsigned")
    return _refused(attempt), f"{attempt.get('module', 'a module')} without its signature: {_output(attempt)}"


def gpu_check(report: Report) -> Outcome:
    """On a machine without a GPU, the image's own gpu-check reports just that."""
    section = report.section("gpu_check")
    if "returncode" not in section:
        return False, f"unknown: {_unknown(section)}"
    returncode = section["returncode"]
    if returncode is None and report.expectation.gpu_check:
        return False, "the image has the element gpu-check, but no /usr/bin/gpu-check"
    if returncode is None:
        return None, "this image has no gpu-check"
    if returncode == _GPU_CHECK_NO_GPU and '"verdict": "no GPU"' in section["output"]:
        return True, "reports that there is no GPU"
    return False, f"exit code {returncode} on a machine without a GPU: {section['errors'] or section['output']}"


CHECKS: tuple[tuple[str, Callable[[Report], Outcome]], ...] = (
    ("boot-firmware", boot_firmware),
    ("cloud-init", cloud_init),
    ("root-grew", root_grew),
    ("services", services),
    ("kernel-running", kernel_running),
    ("driver-loads", driver_loads),
    ("unsigned-refused", unsigned_refused),
    ("gpu-check", gpu_check),
)
CHECK_NAMES = ("boot-reached", *(name for name, _ in CHECKS))


def _refused(attempt: Mapping[str, Any]) -> bool:
    """Whether the kernel refused to load a module because of its signature."""
    output = _output(attempt)
    locked_down = _LOCKED_DOWN in output and any(_LOCKDOWN_LOGGED in line for line in attempt.get("kernel_log", []))
    return locked_down or any(words in output for words in _NOT_TRUSTED)


def _output(attempt: Mapping[str, Any]) -> str:
    return str(attempt.get("output", _unknown(attempt)))


def _unknown(section: Mapping[str, Any]) -> str:
    """Why a part of the report is missing."""
    return str(section.get("unknown", "the guest did not report it"))
