"""Does it boot, and what does the guest say? QEMU itself is a fake here, except where its own behaviour matters."""

import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pipelines.artifacts.manifest import Check
from pipelines.diskimage import qemu
from pipelines.util.errors import HostError
from pipelines.verify import boot, boot_report, guest_probe
from pipelines.verify.boot import report_in
from pipelines.verify.boot_report import Expectation, Run, judged
from tests.support.paths import ELEMENTS
from tests.support.small_image import run

GIB = 2**30
EXPECTATION = Expectation(
    kernel="6.12.57+deb13-amd64",
    architecture="x86_64",
    driver="550.163.01",
    virtual_size=4 * GIB,
    machine="q35",
    disk_bus="scsi",
    modules_signed=False,
    gpu_check=False,
)
REPORT = {
    "kernel": "6.12.57+deb13-amd64",
    "cloud_init": {"datasource": "DataSourceNoCloud [seed=/dev/vda]", "errors": [], "warnings": []},
    "root": {"filesystem": int(5.8 * GIB), "partition": int(5.87 * GIB), "partition_end": 6 * GIB, "disk": 6 * GIB},
    "firmware": {"uefi": True, "secure_boot": False},
    "services": {"failed": []},
    "driver": {"returncode": 1, "output": "could not insert 'nvidia_current': No such device", "kernel_log": []},
    "gpu_check": {"returncode": 3, "output": '{\n "verdict": "no GPU",\n "exit_code": 3}\n', "errors": ""},
}
REJECTED = {"returncode": 1, "output": "could not insert 'nvidia_current': Key was rejected by service"}


def verdict(
    name: str, *, firmware: qemu.Firmware = "uefi", expectation: Expectation = EXPECTATION, **changed: object
) -> Check:
    """One check of a boot whose report is the good one with changes."""
    went = Run(report={**REPORT, **changed}, seconds=150.0, emulated=True, last_lines=())
    return {check.name: check for check in judged(went, expectation, firmware)}[name]


# What the guest reports, judged


def test_a_good_boot_passes_every_check() -> None:
    went = Run(report=REPORT, seconds=150.4, emulated=True, last_lines=())
    checks = judged(went, EXPECTATION, "uefi")
    assert tuple(check.name for check in checks) == boot_report.CHECK_NAMES
    assert {check.name for check in checks if not check.passed} == {"unsigned-refused"}  # which only Secure Boot does
    assert checks[0].detail == "reported after 150 s under software emulation"


def test_a_failed_service_is_named() -> None:
    check = verdict("services", services={"failed": ["systemd-modules-load.service"]})
    assert (check.passed, check.detail) == (False, "systemd-modules-load.service failed")


def test_a_guest_that_says_nothing_of_its_services_is_not_taken_for_good() -> None:
    assert verdict("services", services={"unknown": "FileNotFoundError: systemctl"}).passed is False


def test_a_silent_guest_fails_every_check_and_the_console_is_quoted() -> None:
    went = Run(report=None, seconds=900.0, emulated=False, last_lines=("Kernel panic - not syncing",))
    checks = judged(went, EXPECTATION, "uefi")
    assert [check.passed for check in checks] == [False] * len(boot_report.CHECK_NAMES)
    assert checks[0].detail == "no report after 900 s under KVM; the console's last lines: Kernel panic - not syncing"


def test_another_kernel_than_declared_fails() -> None:
    found = verdict("kernel-running", kernel="6.1.0-1-amd64")
    assert (found.passed, found.detail) == (False, "6.1.0-1-amd64 runs, the manifest says 6.12.57+deb13-amd64")


def test_an_imported_image_may_run_any_kernel() -> None:
    found = verdict("kernel-running", expectation=replace(EXPECTATION, kernel=""), kernel="5.4.0")
    assert (found.passed, found.detail) == (None, "5.4.0; none is declared")


def test_an_error_of_cloud_init_fails() -> None:
    found = verdict("cloud-init", cloud_init={"datasource": "DataSourceNoCloud", "errors": ["growpart failed"]})
    assert (found.passed, found.detail) == (False, "growpart failed")


def test_a_warning_of_cloud_init_passes_and_is_shown() -> None:
    said = {"datasource": "DataSourceNoCloud", "errors": [], "warnings": ["deprecated key"]}
    found = verdict("cloud-init", cloud_init=said)
    assert (found.passed, found.detail) == (True, "finished without errors, 1 warnings: deprecated key")


def test_a_guest_that_ignored_its_seed_fails() -> None:
    found = verdict("cloud-init", cloud_init={"datasource": "DataSourceNone", "errors": []})
    assert (found.passed, "DataSourceNone" in found.detail) == (False, True)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"partition_end": 4 * GIB}, "the root partition ends at 4 GiB of 6 GiB"),
        ({"filesystem": 2 * GIB}, "the file system has 2 GiB of 5.9 GiB"),
        ({"disk": 4 * GIB, "partition_end": 4 * GIB}, "the disk has 4 GiB, more was offered"),
    ],
)
def test_a_root_that_did_not_grow_fails(changed: dict[str, int], problem: str) -> None:
    found = verdict("root-grew", root={**REPORT["root"], **changed})  # type: ignore[dict-item]
    assert (found.passed, found.detail) == (False, problem)


def test_a_question_that_the_guest_could_not_answer_fails_only_its_check() -> None:
    found = verdict("root-grew", root={"unknown": "FileNotFoundError: /sys"})
    assert (found.passed, found.detail) == (False, "not known: FileNotFoundError: /sys")


def test_the_firmware_that_was_asked_for_must_have_started_it() -> None:
    found = verdict("boot-firmware", firmware="secure")
    assert (found.passed, found.detail) == (False, "UEFI, UEFI with Secure Boot was asked for")


def test_the_driver_is_judged_by_the_firmware_that_was_asked_for() -> None:
    assert not verdict("driver-loads", driver=REJECTED).passed
    assert verdict("driver-loads", firmware="secure", driver=REJECTED).passed
    signed = replace(EXPECTATION, modules_signed=True)
    assert not verdict("driver-loads", firmware="secure", expectation=signed, driver=REJECTED).passed


@pytest.mark.parametrize("name", ["driver-loads", "unsigned-refused"])
def test_an_image_without_a_driver_is_not_asked_for_one(name: str) -> None:
    assert verdict(name, firmware="secure", expectation=replace(EXPECTATION, driver="")).passed is None


def test_a_gpu_check_that_finds_no_gpu_passes() -> None:
    found = verdict("gpu-check")
    assert (found.passed, found.detail) == (True, "says that there is no GPU")


def test_an_image_without_gpu_check_is_not_asked_for_it() -> None:
    found = verdict("gpu-check", gpu_check={"returncode": None})
    assert (found.passed, found.detail) == (None, "this image has no gpu-check")


def test_an_image_that_lacks_the_gpu_check_it_was_to_have_fails() -> None:
    found = verdict("gpu-check", expectation=replace(EXPECTATION, gpu_check=True), gpu_check={"returncode": None})
    assert (found.passed, found.detail) == (
        False,
        "the element gpu-check is asked for, and there is no /usr/bin/gpu-check",
    )


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"returncode": 0, "output": '{"verdict": "good"}', "errors": ""}, 'ended with 0 without a GPU here: {"ver'),
        ({"returncode": 3, "output": "", "errors": "Illegal instruction"}, "ended with 3 without a GPU here: Illegal"),
        ({"returncode": 1, "output": "", "errors": "Traceback"}, "ended with 1 without a GPU here: Traceback"),
        ({"unknown": "TimeoutExpired: 120 s"}, "not known: TimeoutExpired: 120 s"),
        ({}, "not known: it did not say"),
    ],
)
def test_a_gpu_check_that_says_anything_else_fails(said: dict[str, object], problem: str) -> None:
    found = verdict("gpu-check", gpu_check=said)
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


def test_the_probe_says_where_there_is_no_gpu_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_probe, "GPU_CHECK", str(tmp_path / "none"))
    assert verdict("gpu-check", gpu_check=guest_probe.gpu_check()).passed is None


# The report on its way


def test_the_report_is_found_between_other_lines() -> None:
    assert report_in(f'[  1.0] noise\n\n{guest_probe.MARK}{{"kernel": "x"}}\n[  OK  ] more\n') == {"kernel": "x"}


def test_half_a_report_is_none() -> None:
    assert report_in(f'{guest_probe.MARK}{{"kernel": ') is None


def test_the_seed_hands_over_the_probe_itself() -> None:
    config = yaml.safe_load(boot.user_data(want_driver=True))
    (file,) = config["write_files"]
    assert base64.b64decode(file["content"]) == Path(guest_probe.__file__).read_bytes()
    assert config["runcmd"][0][-3:] == ["python3", file["path"], "driver"]
    assert "driver" not in yaml.safe_load(boot.user_data(want_driver=False))["runcmd"][0]


# The machine

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


# A whole run, with a fake QEMU on PATH


@pytest.fixture
def image(tmp_path: Path) -> Path:
    run("qemu-img", "create", "-f", "qcow2", str(tmp_path / "image.qcow2"), "4G")
    return tmp_path / "image.qcow2"


@pytest.fixture
def fake_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder first on PATH, for a fake qemu-system-x86_64 whose KVM never works."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    qemu.kvm_works.cache_clear()
    yield folder
    qemu.kvm_works.cache_clear()


def install(folder: Path, body: str) -> None:
    script = folder / "qemu-system-x86_64"
    script.write_text(f'#!/bin/sh\ncase "$*" in *isa-debug-exit*) exit 1;; esac\n{body}\n')
    script.chmod(0o755)


def path_of(chardev: str) -> str:
    """Shell that finds where a character device of QEMU's argv writes."""
    return f'$(printf "%s\\n" "$@" | sed -n "s/^file,id={chardev},path=//p")'


def test_a_boot_returns_what_the_guest_reports(image: Path, fake_qemu: Path, tmp_path: Path) -> None:
    (tmp_path / "said").write_text(f"\n{guest_probe.MARK}{json.dumps(REPORT)}\n")
    install(fake_qemu, f'cat {tmp_path}/said > "{path_of("report")}"; echo booting > "{path_of("console")}"')
    checks = boot.boot(image, expectation=EXPECTATION, firmware="uefi", folder=tmp_path, deadline=20)
    assert {check.name for check in checks if check.passed} == {*boot_report.CHECK_NAMES} - {"unsigned-refused"}
    assert (tmp_path / "console-uefi.log").read_text() == "booting\n"


def test_a_report_on_the_console_alone_is_enough(image: Path, fake_qemu: Path, tmp_path: Path) -> None:
    (tmp_path / "said").write_text(f"[  OK  ] Started\n{guest_probe.MARK}{json.dumps(REPORT)}\n")
    install(fake_qemu, f'cat {tmp_path}/said > "{path_of("console")}"')
    assert boot.boot(image, expectation=EXPECTATION, firmware="uefi", folder=tmp_path, deadline=20)[0].passed


def test_a_guest_that_hangs_is_stopped_at_the_deadline(image: Path, fake_qemu: Path, tmp_path: Path) -> None:
    lines = "\\033[32mreached\\033[0m emergency mode"
    install(fake_qemu, f'printf "{lines}\\r\\n" > "{path_of("console")}"; echo $$ > {tmp_path}/pid; exec sleep 60')
    checks = boot.boot(image, expectation=EXPECTATION, firmware="bios", folder=tmp_path, deadline=1)
    assert checks[0].detail.endswith("the console's last lines: reached emergency mode")
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_a_qemu_that_does_not_start_is_quoted(image: Path, fake_qemu: Path, tmp_path: Path) -> None:
    install(fake_qemu, "echo qemu: no such machine >&2; exit 1")
    checks = boot.boot(image, expectation=EXPECTATION, firmware="bios", folder=tmp_path, deadline=20)
    assert "qemu: no such machine" in checks[0].detail


def test_the_server_has_a_larger_disk_and_the_image_stays_as_it_is(
    image: Path, fake_qemu: Path, tmp_path: Path
) -> None:
    overlay = '$(printf "%s\\n" "$@" | sed -n "s/^if=none,id=root.*file=//p")'
    install(fake_qemu, f'qemu-img info --output=json "{overlay}" > {tmp_path}/info')
    before = image.read_bytes()
    boot.boot(image, expectation=EXPECTATION, firmware="bios", folder=tmp_path, deadline=20)
    info = json.loads((tmp_path / "info").read_text())
    assert info["virtual-size"] == 6 * GIB
    assert info["full-backing-filename"] == str(image)
    assert image.read_bytes() == before


def test_the_guest_gets_a_seed_that_cloud_init_knows(image: Path, fake_qemu: Path, tmp_path: Path) -> None:
    seed = '$(printf "%s\\n" "$@" | sed -n "s/^if=none,id=seed.*file=//p")'
    install(fake_qemu, f'cp "{seed}" {tmp_path}/seed')
    boot.boot(image, expectation=EXPECTATION, firmware="bios", folder=tmp_path, deadline=20)
    listed = subprocess.run(["mdir", "-i", tmp_path / "seed", "::"], capture_output=True, text=True, check=True).stdout
    assert "CIDATA" in listed
    assert all(name in listed for name in ("user-data", "meta-data"))


def test_another_architecture_is_refused(image: Path, tmp_path: Path) -> None:
    arm = replace(EXPECTATION, architecture="aarch64")
    with pytest.raises(HostError, match="aarch64 image cannot be booted here"):
        boot.boot(image, expectation=arm, firmware="uefi", folder=tmp_path)
