"""Does it boot, and what does the guest say?

The finished image is started from an overlay on a larger disk, with a NoCloud seed, as a server's first boot would be.
A probe in the seed reports from inside and powers the guest off; the report is judged here.
"""

import base64
import json
import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.artifacts.manifest import Check
from pipelines.diskimage import qemu
from pipelines.diskimage.qemu import Firmware
from pipelines.util import console, process
from pipelines.util.errors import HostError
from pipelines.verify import secure_boot

DEADLINE_SECONDS = 900.0  # about 170 s are usual under software emulation on two cores
CHECK_NAMES = (
    *("boot-reached", "boot-firmware", "cloud-init", "root-grew", "services"),
    *("kernel-running", "driver-loads", "unsigned-refused", "gpu-check"),
)

_LARGER = 2 * 2**30  # bytes by which the server's disk is larger than the image
_SLACK = 2 * 2**20  # bytes that may stay free behind the root partition: GPT's backup, alignment
_QEMU_IMG_SECONDS = 60.0
_MARK = "GPU-IMAGE-REPORT "
_GPU_CHECK_NO_GPU = 3  # gpu-check's exit code for it, in its README
_CONTROL = re.compile(r"\x1b\[[0-9;?=]*[A-Za-z]|[^\x20-\x7e]")
_FIRMWARES = {"bios": (False, False), "uefi": (True, False), "secure": (True, True)}
_WORDS = {(False, False): "BIOS", (True, False): "UEFI", (True, True): "UEFI with Secure Boot"}


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


def boot(
    image: Path, *, expectation: Expectation, firmware: Firmware, folder: Path, deadline: float = DEADLINE_SECONDS
) -> tuple[Check, ...]:
    """Boot an image, which stays as it is, and judge what the guest reports.

    The console is kept as `console-<firmware>.log` in `folder`; `deadline` is in seconds. HostError when this host
    cannot start such a machine.
    """
    if expectation.architecture != "x86_64":
        raise HostError(
            f"an {expectation.architecture} image cannot be booted here", remedy="Verify it without --boot."
        )
    return judged(_run(image, expectation, firmware, folder, deadline), expectation, firmware)


def user_data(*, want_driver: bool) -> str:
    """The seed's cloud-config: the probe, and a unit that outlives cloud-init's own end, which it waits for."""
    script = Path(__file__).with_name("guest_probe.py").read_bytes()
    path = "/run/gpu-image-probe.py"
    probe = ["systemd-run", "--no-block", "--unit=gpu-image-probe", "python3", path]
    config = {
        "write_files": [{"path": path, "encoding": "b64", "content": base64.b64encode(script).decode()}],
        "runcmd": [[*probe, "driver"] if want_driver else probe],
    }
    return f"#cloud-config\n{json.dumps(config, indent=1)}\n"  # JSON is YAML


def report_in(text: str) -> Mapping[str, Any] | None:
    """The guest's report in what a port or a console wrote; None when there is none, or only a part."""
    for line in text.splitlines():
        if _MARK in line:
            try:
                found = json.loads(line.split(_MARK, 1)[1])
            except ValueError:
                continue
            return found if isinstance(found, dict) else None
    return None


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


def _run(image: Path, expectation: Expectation, firmware: Firmware, folder: Path, deadline: float) -> Run:
    log = folder / f"console-{firmware}.log"
    log.unlink(missing_ok=True)
    accelerator = qemu.accelerator()
    how = "under software emulation, which takes minutes" if accelerator == qemu.EMULATION else "with KVM"
    console.note(f"booting {image.name} ({firmware}) {how}; its console: {log}")
    machine = qemu.Machine(
        type=expectation.machine if firmware == "bios" else "q35",  # OVMF is made for q35
        firmware=firmware,
        disk_bus=expectation.disk_bus,
        accelerator=accelerator,
    )
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        media = qemu.Media(
            overlay=_overlay(image, work / "overlay.qcow2", expectation.virtual_size + _LARGER),
            seed=_seed(work, want_driver=bool(expectation.driver)),
            console=log,
            report=work / "report",
            variables=qemu.own_variables(firmware, work, expectation.certificate),
        )
        own = work / "qemu.log"
        seconds = _until_off(qemu.command(machine, media), own, deadline)
        texts = [path.read_text(errors="replace") if path.exists() else "" for path in (media.report, log, own)]
    report = report_in(texts[0]) or report_in(texts[1])
    lines = tuple(line for text in (texts[2], texts[1]) if (line := _tail(text)))
    return Run(report=report, seconds=seconds, emulated=accelerator == qemu.EMULATION, last_lines=lines)


def _until_off(argv: tuple[str, ...], log: Path, deadline: float) -> float:
    """Run a machine until it is off, or the deadline; wall seconds."""
    started = time.monotonic()
    machine = process.start(argv, log=log)
    try:
        while machine.poll() is None and time.monotonic() - started < deadline:
            time.sleep(0.2)
    finally:
        process.stop(machine)
    return time.monotonic() - started


def _overlay(image: Path, overlay: Path, size: int) -> Path:
    """A disk of `size` bytes that reads from the image and keeps its own changes."""
    qemu_img = process.require("qemu-img", "qemu-utils")
    # The format is named: qemu-img must not guess what a file of ours is from its content.
    backing = ["-b", str(image.resolve()), "-F", "raw" if image.suffix == ".raw" else "qcow2"]
    process.run(
        [qemu_img, "create", "-q", "-f", "qcow2", *backing, str(overlay), str(size)], deadline=_QEMU_IMG_SECONDS
    )
    return overlay


def _seed(folder: Path, *, want_driver: bool) -> Path:
    """A NoCloud seed: a FAT floppy image, labelled CIDATA, made without mounting."""
    seed = folder / "seed.img"
    texts = {"user-data": user_data(want_driver=want_driver), "meta-data": "instance-id: gpu-image-boot-check\n"}
    commands = [["mformat", "-i", str(seed), "-C", "-f", "1440", "-v", "CIDATA", "::"]]
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
        commands.append(["mcopy", "-i", str(seed), str(folder / name), f"::{name}"])
    process.require("mformat", "mtools")
    for argv in commands:
        process.run(argv, deadline=_QEMU_IMG_SECONDS)
    return seed


def _tail(text: str) -> str:
    lines = [clean for line in text.splitlines() if (clean := _CONTROL.sub("", line).strip())]
    return " | ".join(lines[-8:])


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
        problems.append(f"the disk has {_gib(said['disk'])}, more was offered")
    if said["disk"] - said["partition_end"] > _SLACK:
        problems.append(f"the root partition ends at {_gib(said['partition_end'])} of {_gib(said['disk'])}")
    if said["filesystem"] < said["partition"] * 0.9:
        problems.append(f"the file system has {_gib(said['filesystem'])} of {_gib(said['partition'])}")
    fine = f"{_gib(said['filesystem'])} of a disk of {_gib(said['disk'])}"
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
        secure_boot.driver_loads(report, enforced=enforced, signed=expectation.modules_signed),
        secure_boot.unsigned_refused(report, enforced=enforced),
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


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
