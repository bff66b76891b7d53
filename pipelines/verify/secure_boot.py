"""What does Secure Boot make of the driver?

The guest's attempts to load its modules, judged: what is signed by a key that the guest trusts must load, and nothing
else may.
"""

from collections.abc import Mapping
from typing import Any

from pipelines.artifacts.manifest import Check

_NO_GPU = "No such device"
_NOT_TRUSTED = ("Key was rejected by service", "Required key not available")
# EPERM alone has many reasons; this one the kernel logs (security_locked_down in its module loader).
_LOCKED_DOWN, _LOCKDOWN_SAYS = "Operation not permitted", "unsigned module loading is restricted"


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
