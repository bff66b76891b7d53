"""Checks of what a booted guest reported."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.artifacts.manifest import Check
from pipelines.diskimage import qemu
from pipelines.verify import boot_report, guest_probe
from pipelines.verify.boot_report import Expectation, Run, judged
from tests.support.boot_reports import EXPECTATION, GIB, REPORT
from tests.support.paths import ELEMENTS

NO_GPU = "could not insert 'nvidia_current': No such device\ncould not insert 'nvidia': Invalid argument"
REJECTED = "could not insert 'nvidia_current': Key was rejected by service"
LOCKDOWN = "Lockdown: insmod: unsigned module loading is restricted; see man kernel_lockdown.7"
REJECTED_ATTEMPT = {"returncode": 1, "output": "could not insert 'nvidia_current': Key was rejected by service"}


def verdict(
    name: str, *, firmware: qemu.Firmware = "uefi", expectation: Expectation = EXPECTATION, **changed: object
) -> Check:
    """One check of a boot whose report is the good one with changes."""
    went = Run(report={**REPORT, **changed}, seconds=150.0, emulated=True, last_lines=())
    return {check.name: check for check in judged(went, expectation, firmware)}[name]


def test_a_good_boot_passes_every_check() -> None:
    went = Run(report=REPORT, seconds=150.4, emulated=True, last_lines=())
    checks = judged(went, EXPECTATION, "uefi")
    assert tuple(check.name for check in checks) == boot_report.CHECK_NAMES
    assert {check.name for check in checks if not check.passed} == {"unsigned-refused"}  # which only Secure Boot does
    assert checks[0].detail == "reported after 150 s under software emulation"


def test_a_failed_service_is_named() -> None:
    check = verdict("services", services={"failed": ["systemd-modules-load.service"]})
    assert (check.passed, check.detail) == (False, "systemd-modules-load.service failed")


def test_a_guest_that_does_not_report_its_services_fails() -> None:
    assert verdict("services", services={"unknown": "FileNotFoundError: systemctl"}).passed is False


def test_a_silent_guest_fails_every_check_and_the_console_is_quoted() -> None:
    went = Run(report=None, seconds=900.0, emulated=False, last_lines=("Kernel panic - not syncing",))
    checks = judged(went, EXPECTATION, "uefi")
    assert [check.passed for check in checks] == [False] * len(boot_report.CHECK_NAMES)
    assert checks[0].detail == "no report after 900 s under KVM; the console's last lines: Kernel panic - not syncing"


def test_another_kernel_than_declared_fails() -> None:
    found = verdict("kernel-running", kernel="6.1.0-1-amd64")
    assert (found.passed, found.detail) == (False, "6.1.0-1-amd64 is running, the manifest says 6.12.57+deb13-amd64")


def test_an_imported_image_may_run_any_kernel() -> None:
    found = verdict("kernel-running", expectation=replace(EXPECTATION, kernel=""), kernel="5.4.0")
    assert (found.passed, found.detail) == (None, "5.4.0; no kernel is declared")


def test_an_error_of_cloud_init_fails() -> None:
    found = verdict("cloud-init", cloud_init={"datasource": "DataSourceNoCloud", "errors": ["growpart failed"]})
    assert (found.passed, found.detail) == (False, "growpart failed")


def test_a_warning_of_cloud_init_passes_and_is_shown() -> None:
    section = {"datasource": "DataSourceNoCloud", "errors": [], "warnings": ["deprecated key"]}
    found = verdict("cloud-init", cloud_init=section)
    assert (found.passed, found.detail) == (True, "finished without errors; 1 warning: deprecated key")


def test_a_guest_that_ignored_its_seed_fails() -> None:
    found = verdict("cloud-init", cloud_init={"datasource": "DataSourceNone", "errors": []})
    assert (found.passed, "DataSourceNone" in found.detail) == (False, True)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"partition_end": 4 * GIB}, "the root partition ends at 4 GiB of 6 GiB"),
        ({"filesystem": 2 * GIB}, "the file system has 2 GiB of 5.9 GiB"),
        ({"disk": 4 * GIB, "partition_end": 4 * GIB}, "the disk has 4 GiB, expected more than the image has"),
    ],
)
def test_a_root_that_did_not_grow_fails(changed: dict[str, int], problem: str) -> None:
    found = verdict("root-grew", root={**REPORT["root"], **changed})  # type: ignore[dict-item]
    assert (found.passed, found.detail) == (False, problem)


def test_a_question_that_the_guest_could_not_answer_fails_only_its_check() -> None:
    found = verdict("root-grew", root={"unknown": "FileNotFoundError: /sys"})
    assert (found.passed, found.detail) == (False, "unknown: FileNotFoundError: /sys")


def test_the_firmware_that_was_asked_for_must_have_started_it() -> None:
    found = verdict("boot-firmware", firmware="secure")
    assert (found.passed, found.detail) == (False, "UEFI, expected UEFI with Secure Boot")


def test_the_driver_is_judged_by_the_firmware_that_was_asked_for() -> None:
    assert not verdict("driver-loads", driver=REJECTED_ATTEMPT).passed
    assert verdict("driver-loads", firmware="secure", driver=REJECTED_ATTEMPT).passed
    signed = replace(EXPECTATION, modules_signed=True)
    assert not verdict("driver-loads", firmware="secure", expectation=signed, driver=REJECTED_ATTEMPT).passed


@pytest.mark.parametrize("name", ["driver-loads", "unsigned-refused"])
def test_an_image_without_a_driver_is_not_asked_for_one(name: str) -> None:
    assert verdict(name, firmware="secure", expectation=replace(EXPECTATION, driver="")).passed is None


def test_a_gpu_check_that_finds_no_gpu_passes() -> None:
    found = verdict("gpu-check")
    assert (found.passed, found.detail) == (True, "reports that there is no GPU")


def test_an_image_without_gpu_check_is_not_asked_for_it() -> None:
    found = verdict("gpu-check", gpu_check={"returncode": None})
    assert (found.passed, found.detail) == (None, "this image has no gpu-check")


def test_an_image_that_lacks_the_gpu_check_it_was_to_have_fails() -> None:
    found = verdict("gpu-check", expectation=replace(EXPECTATION, gpu_check=True), gpu_check={"returncode": None})
    assert (found.passed, found.detail) == (
        False,
        "the image has the element gpu-check, but no /usr/bin/gpu-check",
    )


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        (
            {"returncode": 0, "output": '{"verdict": "good"}', "errors": ""},
            "exit code 0 on a machine without a GPU: {",
        ),
        (
            {"returncode": 3, "output": "", "errors": "Illegal instruction"},
            "exit code 3 on a machine without a GPU: Ill",
        ),
        ({"returncode": 1, "output": "", "errors": "Traceback"}, "exit code 1 on a machine without a GPU: Traceback"),
        ({"unknown": "TimeoutExpired: 120 s"}, "unknown: TimeoutExpired: 120 s"),
        ({}, "unknown: the guest did not report it"),
    ],
)
def test_a_gpu_check_that_reports_anything_else_fails(section: dict[str, object], problem: str) -> None:
    found = verdict("gpu-check", gpu_check=section)
    assert (found.passed, found.detail[: len(problem)]) == (False, problem)


def test_the_boot_test_understands_the_gpu_check_of_our_element(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sys").mkdir()
    ours = ELEMENTS / "gpu-check/static/usr/bin/gpu-check"
    installed = tmp_path / "gpu-check"
    installed.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ours}" --root "{tmp_path}" "$@"\n')
    installed.chmod(0o755)
    monkeypatch.setattr(guest_probe, "GPU_CHECK", str(installed))
    assert verdict("gpu-check", gpu_check=guest_probe.gpu_check()).passed


def test_the_probe_reports_that_there_is_no_gpu_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_probe, "GPU_CHECK", str(tmp_path / "none"))
    assert verdict("gpu-check", gpu_check=guest_probe.gpu_check()).passed is None


def report(output: str, *, of: str = "driver", log: tuple[str, ...] = ()) -> dict[str, object]:
    return {of: {"module": "nvidia.ko", "returncode": 1, "output": output, "kernel_log": list(log)}}


def driver_loads(sections: dict[str, object], *, enforced: bool, signed: bool) -> Check:
    firmware: qemu.Firmware = "secure" if enforced else "uefi"
    expectation = replace(EXPECTATION, modules_signed=signed)
    return verdict("driver-loads", firmware=firmware, expectation=expectation, **sections)


def unsigned_refused(sections: dict[str, object], *, enforced: bool) -> Check:
    return verdict("unsigned-refused", firmware="secure" if enforced else "uefi", **sections)


def test_a_driver_that_finds_no_gpu_loads() -> None:
    check = driver_loads(report(NO_GPU), enforced=False, signed=False)
    assert (check.passed, check.detail) == (True, f"loads, and finds no GPU: {NO_GPU.splitlines()[0]}")


@pytest.mark.parametrize("output", ["Exec format error", "Unknown symbol in module", "Module nvidia not found"])
def test_a_driver_that_does_not_fit_the_kernel_fails_with_the_kernels_words(output: str) -> None:
    sections = report(output, log=("nvidia: disagrees about version of symbol",))
    check = driver_loads(sections, enforced=False, signed=False)
    assert not check.passed
    assert check.detail == f"does not load: {output} | nvidia: disagrees about version of symbol"


def test_a_modprobe_that_succeeds_without_a_gpu_has_not_loaded_the_driver() -> None:
    sections: dict[str, object] = {"driver": {"returncode": 0, "output": "", "kernel_log": []}}
    assert driver_loads(sections, enforced=False, signed=False).passed is False


def test_a_driver_that_no_trusted_key_signed_must_be_rejected() -> None:
    check = driver_loads(report(REJECTED), enforced=True, signed=False)
    assert (check.passed, check.detail.startswith("rejected under Secure Boot, as expected")) == (True, True)
    assert not driver_loads(report(NO_GPU), enforced=True, signed=False).passed


def test_a_signed_driver_must_load() -> None:
    assert driver_loads(report(NO_GPU), enforced=True, signed=True).passed
    assert not driver_loads(report(REJECTED), enforced=True, signed=True).passed


def test_without_secure_boot_a_rejected_driver_fails() -> None:
    assert not driver_loads(report(REJECTED), enforced=False, signed=False).passed


@pytest.mark.parametrize("output", ["Key was rejected by service", "Required key not available"])
def test_an_unsigned_module_must_be_refused(output: str) -> None:
    check = unsigned_refused(report(output, of="unsigned"), enforced=True)
    assert (check.passed, check.detail) == (True, f"nvidia.ko without its signature: {output}")


def test_a_kernel_that_is_locked_down_refuses_with_other_words() -> None:
    output = "insmod: ERROR: could not insert module: Operation not permitted"
    assert unsigned_refused(report(output, of="unsigned", log=(LOCKDOWN,)), enforced=True).passed
    assert not unsigned_refused(report(output, of="unsigned"), enforced=True).passed


@pytest.mark.parametrize("output", ["", "Unknown symbol in module", "No such device"])
def test_an_unsigned_module_that_got_past_the_signatures_fails(output: str) -> None:
    assert not unsigned_refused(report(output, of="unsigned"), enforced=True).passed


def test_a_guest_that_does_not_report_it_fails() -> None:
    check = unsigned_refused({}, enforced=True)
    assert (check.passed, check.detail) == (False, "a module without its signature: the guest did not report it")


def test_without_secure_boot_nothing_is_refused() -> None:
    assert unsigned_refused({}, enforced=False).passed is None
