"""Boot of a finished image in QEMU, and the report from inside the guest.

It starts from an overlay on a larger disk, with a NoCloud seed, as a server would at its first boot. A probe in the
seed reports from inside and powers the guest off.
"""

import base64
import json
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.artifacts.manifest import Check
from pipelines.diskimage import qemu
from pipelines.diskimage.qemu import Firmware
from pipelines.util import console, process
from pipelines.util.errors import HostError
from pipelines.verify import boot_report
from pipelines.verify.boot_report import Expectation, Run

DEADLINE_SECONDS = 900.0  # about 170 s are usual under software emulation on two cores

_LARGER = 2 * 2**30  # bytes by which the server's disk is larger than the image
_QEMU_IMG_SECONDS = 60.0
_MARK = "GPU-IMAGE-REPORT "
_CONTROL = re.compile(r"\x1b\[[0-9;?=]*[A-Za-z]|[^\x20-\x7e]")


def boot(
    image: Path, *, expectation: Expectation, firmware: Firmware, folder: Path, deadline: float = DEADLINE_SECONDS
) -> tuple[Check, ...]:
    """Boot an image, without changing it, and check what the guest reports.

    The console's output stays in `folder` as `console-<firmware>.log`; `deadline` is in seconds. HostError when this
    host cannot start such a machine.
    """
    if expectation.architecture != "x86_64":
        raise HostError(
            f"an {expectation.architecture} image cannot be booted here", remedy="Verify it without --boot."
        )
    return boot_report.judged(_run(image, expectation, firmware, folder, deadline), expectation, firmware)


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
    """The guest's report in the output of a port or a console; None when it is missing or incomplete."""
    for line in text.splitlines():
        if _MARK in line:
            try:
                found = json.loads(line.split(_MARK, 1)[1])
            except ValueError:
                continue
            return found if isinstance(found, dict) else None
    return None


def _run(image: Path, expectation: Expectation, firmware: Firmware, folder: Path, deadline: float) -> Run:
    log = folder / f"console-{firmware}.log"
    log.unlink(missing_ok=True)
    accelerator = qemu.accelerator()
    how = "under software emulation, which takes minutes" if accelerator == qemu.EMULATION else "with KVM"
    console.note(f"booting {image.name} ({firmware}) {how}; console output: {log}")
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
    # The format is given: qemu-img must not guess it from the content of a file.
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
