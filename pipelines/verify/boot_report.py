"""Checks of what a booted guest reported."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipelines.artifacts.manifest import Check
from pipelines.diskimage.qemu import Firmware
from pipelines.util import units

CHECK_NAMES = (
    *("boot-reached", "boot-firmware", "cloud-init", "root-grew", "services"),
    *("kernel-running", "driver-loads", "unsigned-refused", "gpu-check"),
)
_SLACK = 2 * 2**20  # bytes that may stay free behind the root partition: GPT's backup, alignment
_GPU_CHECK_NO_GPU = 3  # gpu-check's exit code for it, in its README
_FIRMWARES = {"bios": (False, False), "uefi": (True, False), "secure": (True, True)}
_WORDS = {(False, False): "BIOS", (True, False): "UEFI", (True, True): "UEFI with Secure Boot"}


_NO_GPU = "No such device"
_NOT_TRUSTED = ("Key was rejected by service", "Required key not available")
# EPERM alone has many reasons; this one the kernel logs (security_locked_down in its module loader).
_LOCKED_DOWN, _LOCKDOWN_SAYS = "Operation not permitted", "unsigned module loading is restricted"


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """What an image should be from inside. `kernel` and `driver` are versions, empty where none is declared;
    `virtual_size` is in bytes.

    `architecture`, `machine` and `disk_bus` are Glance's architecture, hw_machine_type and hw_disk_bus.
    `modules_signed`: by a key that the guest trusts, so that Secure Boot accepts them; where that is the site's own,
    `certificate` (DER) is what its owners enroll. `gpu_check`: whether the image is to have that command.
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


def judged(run: Run, expectation: Expectation, firmware: Firmware) -> tuple[Check, ...]:
    """The checks that follow from a boot."""
    report = run.report
    how = "software emulation" if run.emulated else "KVM"
    if report is None:
        last = " | ".join(run.last_lines) or "(nothing)"
        said = f"no report after {run.seconds:.0f} s under {how}; the console's last lines: {last}"
        unknown = [Check(name=name, passed=False, detail="the guest did not report") for name in CHECK_NAMES[1:]]
        return (Check(name="boot-reached", passed=False, detail=said), *unknown)
    return (
        Check(name="boot-reached", passed=True, detail=f"reported after {run.seconds:.0f} s under {how}"),
        _firmware(report, firmware),
        _cloud_init(report),
        _root_grew(report, expectation),
        _services(report),
        _kernel_running(report, expectation),
        *_driver(report, expectation, firmware),
        _gpu_check(report, expectation),
    )


def _firmware(report: Mapping[str, Any], firmware: Firmware) -> Check:
    said = report.get("firmware", {})
    found = (bool(said.get("uefi")), bool(said.get("secure_boot")))
    asked = _FIRMWARES[firmware]
    detail = _WORDS.get(found, "unknown") + ("" if found == asked else f", {_WORDS[asked]} was asked for")
    return Check(name="boot-firmware", passed=found == asked, detail=detail)


def _cloud_init(report: Mapping[str, Any]) -> Check:
    said = report.get("cloud_init", {})
    problems = [str(error) for error in said.get("errors", [said.get("unknown", "it did not say")])]
    if "NoCloud" not in str(said.get("datasource")):
        problems.append(f"its data source is {said.get('datasource')}, NoCloud was offered")
    warnings = f", {len(said['warnings'])} warnings: {said['warnings'][0]}" if said.get("warnings") else ""
    detail = "; ".join(problems) or f"finished without errors{warnings}"
    return Check(name="cloud-init", passed=not problems, detail=detail)


def _root_grew(report: Mapping[str, Any], expectation: Expectation) -> Check:
    said = report.get("root", {})
    if "unknown" in said or not said:
        return Check(name="root-grew", passed=False, detail=f"not known: {said.get('unknown', 'it did not say')}")
    problems = []
    if said["disk"] <= expectation.virtual_size:
        problems.append(f"the disk has {units.size(said['disk'])}, more was offered")
    if said["disk"] - said["partition_end"] > _SLACK:
        problems.append(f"the root partition ends at {units.size(said['partition_end'])} of {units.size(said['disk'])}")
    if said["filesystem"] < said["partition"] * 0.9:
        problems.append(f"the file system has {units.size(said['filesystem'])} of {units.size(said['partition'])}")
    fine = f"{units.size(said['filesystem'])} of a disk of {units.size(said['disk'])}"
    return Check(name="root-grew", passed=not problems, detail="; ".join(problems) or fine)


def _services(report: Mapping[str, Any]) -> Check:
    said = report.get("services", {})
    problems = [f"{unit} failed" for unit in said.get("failed", [f"unknown ({said.get('unknown', 'it did not say')})"])]
    return Check(name="services", passed=not problems, detail="; ".join(problems) or "none failed")


def _kernel_running(report: Mapping[str, Any], expectation: Expectation) -> Check:
    running = report.get("kernel", "unknown")
    if not expectation.kernel:
        return Check(name="kernel-running", passed=None, detail=f"{running}; none is declared")
    detail = running if running == expectation.kernel else f"{running} runs, the manifest says {expectation.kernel}"
    return Check(name="kernel-running", passed=running == expectation.kernel, detail=str(detail))


def _driver(report: Mapping[str, Any], expectation: Expectation, firmware: Firmware) -> tuple[Check, Check]:
    if not expectation.driver:
        none = Check(name="driver-loads", passed=None, detail="this image has no GPU driver")
        return none, replace(none, name="unsigned-refused")
    enforced = firmware == "secure"
    return (
        driver_loads(report, enforced=enforced, signed=expectation.modules_signed),
        unsigned_refused(report, enforced=enforced),
    )


def _gpu_check(report: Mapping[str, Any], expectation: Expectation) -> Check:
    """On a machine without a GPU, the image's own gpu-check says just that."""
    said = report.get("gpu_check", {})
    if "returncode" not in said:
        return Check(name="gpu-check", passed=False, detail=f"not known: {said.get('unknown', 'it did not say')}")
    returncode = said["returncode"]
    if returncode is None:
        missing = "the element gpu-check is asked for, and there is no /usr/bin/gpu-check"
        passed, detail = (False, missing) if expectation.gpu_check else (None, "this image has no gpu-check")
        return Check(name="gpu-check", passed=passed, detail=detail)
    told = said["errors"] or said["output"]
    passed = returncode == _GPU_CHECK_NO_GPU and '"verdict": "no GPU"' in said["output"]
    detail = "says that there is no GPU" if passed else f"ended with {returncode} without a GPU here: {told}"
    return Check(name="gpu-check", passed=passed, detail=detail)


def driver_loads(report: Mapping[str, Any], *, enforced: bool, signed: bool) -> Check:
    """Without a GPU the driver must load, find no device and say so; where Secure Boot is enforced only if signed."""
    said = report.get("driver", {})
    output = _output(said)
    if enforced and not signed:
        rejected = _refused(said)
        why = "rejected under Secure Boot, as expected: signed only by DKMS's throw-away key" if rejected else ""
        passed, detail = rejected, why or f"Secure Boot did not reject a module that nothing vouches for: {output}"
    elif said.get("returncode") == 0:
        # This machine has none: an `install` line of modprobe.d, for example, ends well and loads nothing.
        passed, detail = False, "modprobe ends well, and without a GPU NVIDIA's driver never does: it was not loaded"
    else:
        no_gpu = [line for line in output.splitlines() if _NO_GPU in line]
        everything = " | ".join([*output.splitlines(), *said.get("kernel_log", [])])
        passed = bool(no_gpu)
        detail = f"loads, and finds no GPU: {no_gpu[0]}" if passed else f"does not load: {everything}"
    return Check(name="driver-loads", passed=passed, detail=detail)


def unsigned_refused(report: Mapping[str, Any], *, enforced: bool) -> Check:
    """Under Secure Boot the kernel refuses a module of the driver from which the signature was taken."""
    if not enforced:
        return Check(name="unsigned-refused", passed=None, detail="only Secure Boot refuses modules")
    said = report.get("unsigned", {})
    refused = _refused(said)
    detail = f"{said.get('module', 'a module')} without its signature: {_output(said)}"
    return Check(name="unsigned-refused", passed=refused, detail=detail)


def _refused(said: Mapping[str, Any]) -> bool:
    output = _output(said)
    locked_down = _LOCKED_DOWN in output and any(_LOCKDOWN_SAYS in line for line in said.get("kernel_log", []))
    return locked_down or any(words in output for words in _NOT_TRUSTED)


def _output(said: Mapping[str, Any]) -> str:
    return str(said.get("output", said.get("unknown", "it did not say")))
