"""Program that reports from inside a booted guest, and then powers it off.

It runs with the guest's own Python alone: verify.boot puts it into the seed, and reads the one line of JSON that it
writes to a virtio port and to the serial console.
"""

import gzip
import json
import lzma
import os
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MARK = "GPU-IMAGE-REPORT "
CLOUD_INIT_SECONDS = 600  # less than verify.boot's own deadline, so that the report still gets out
GPU_CHECK, GPU_CHECK_SECONDS = "/usr/bin/gpu-check", 120
SECTOR = 512
SIGNED = b"~Module signature appended~\n"  # include/linux/module_signature.h, as is the trailer before it
TRAILER = struct.Struct(">BBBBB3xI")
LOG_WORDS = ("nvidia", "nvrm", "vermagic", "symbol", "lockdown", "verification failed")


def main(want_driver: bool) -> None:
    """Collect, report, power off."""
    report: dict[str, Any] = {"kernel": os.uname().release}
    for name, ask in (
        ("cloud_init", cloud_init),
        ("root", root),
        ("firmware", firmware),
        ("services", services),
        ("driver", driver),
        ("unsigned", unsigned),
        ("gpu_check", gpu_check),
    ):
        if name in {"driver", "unsigned"} and not want_driver:
            continue
        try:
            report[name] = ask()
        except Exception as error:  # the rest of the report must not be lost
            report[name] = {"unknown": f"{type(error).__name__}: {error}"}
    line = "\n" + MARK + json.dumps(report) + "\n"
    for device in ("/dev/virtio-ports/gpu-image", "/dev/ttyS0"):
        try:
            Path(device).write_text(line)
        except OSError as error:
            print(device, error)
    subprocess.run(["systemctl", "poweroff", "--force"], check=True)


def cloud_init() -> dict[str, Any]:
    """How cloud-init ended: its data source, errors and warnings."""
    result, status = Path("/run/cloud-init/result.json"), Path("/run/cloud-init/status.json")
    deadline = time.monotonic() + CLOUD_INIT_SECONDS
    while not result.exists():
        if time.monotonic() > deadline:
            return {"datasource": "", "errors": [f"not finished after {CLOUD_INIT_SECONDS} s"], "warnings": []}
        time.sleep(1)
    ended = json.loads(result.read_text())["v1"]
    stages = [stage for stage in json.loads(status.read_text())["v1"].values() if isinstance(stage, dict)]
    recoverable = [stage.get("recoverable_errors", {}) for stage in stages]
    errors = [text for kinds in recoverable for kind in ("ERROR", "CRITICAL") for text in kinds.get(kind, [])]
    warnings = [text for kinds in recoverable for text in kinds.get("WARNING", [])]
    return {"datasource": ended["datasource"], "errors": ended["errors"] + errors, "warnings": warnings}


def root() -> dict[str, Any]:
    """Sizes in bytes: the root file system, where its partition ends, and the disk."""
    device = os.stat("/").st_dev
    partition = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    start, size = (int((partition / name).read_text()) for name in ("start", "size"))
    space = os.statvfs("/")
    return {
        "filesystem": space.f_blocks * space.f_frsize,
        "partition": size * SECTOR,
        "partition_end": (start + size) * SECTOR,
        "disk": int((partition.parent / "size").read_text()) * SECTOR,
    }


def firmware() -> dict[str, Any]:
    """UEFI or not, and whether it enforces Secure Boot."""
    variables = list(Path("/sys/firmware/efi/efivars").glob("SecureBoot-*"))
    secure = bool(variables) and variables[0].read_bytes()[-1] == 1  # four bytes of attributes, one of value
    return {"uefi": Path("/sys/firmware/efi").is_dir(), "secure_boot": secure}


def services() -> dict[str, Any]:
    """The units that failed during the boot."""
    argv = ["systemctl", "list-units", "--state=failed", "--plain", "--no-legend"]
    listed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    return {"failed": [line.split()[0] for line in listed if line.strip()]}


def driver() -> dict[str, Any]:
    """How loading the NVIDIA driver ends; without a GPU it must be with "No such device"."""
    return tried("modprobe", "nvidia")


def unsigned() -> dict[str, Any]:
    """How loading the smallest of the driver's modules without its signature ends, under Secure Boot."""
    if not firmware()["secure_boot"]:
        return {}
    found = Path("/lib/modules", os.uname().release).rglob("nvidia*.ko*")
    path = min((path for path in found if "kernel/drivers" not in str(path)), key=lambda path: path.stat().st_size)
    copy = Path("/run", f"{path.name.split('.')[0]}-unsigned.ko")
    copy.write_bytes(without_signature(unpacked(path)))
    return {"module": path.name, **tried("insmod", str(copy))}


def unpacked(path: Path) -> bytes:
    """A module's content, as the kernel reads it."""
    packers = {".xz": lzma.decompress, ".gz": gzip.decompress}
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dqc", str(path)], stdout=subprocess.PIPE, check=True).stdout
    return packers.get(path.suffix, bytes)(path.read_bytes())


def without_signature(module: bytes) -> bytes:
    """A module without the signature that is appended to it."""
    if not module.endswith(SIGNED):
        return module
    end = len(module) - len(SIGNED) - TRAILER.size
    *_, signer, key_id, size = TRAILER.unpack(module[end : end + TRAILER.size])
    return module[: end - signer - key_id - size]


def tried(*argv: str) -> dict[str, Any]:
    """How loading a module ends, and what the kernel logged about modules."""
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    kernel_log = subprocess.run(["dmesg"], capture_output=True, text=True, check=False).stdout.splitlines()
    logged = [line for line in kernel_log if any(word in line.lower() for word in LOG_WORDS)]
    return {"returncode": ended.returncode, "output": (ended.stdout + ended.stderr).strip(), "kernel_log": logged[-15:]}


def gpu_check() -> dict[str, Any]:
    """How the image's own gpu-check ends, and its output; the exit code is None without one."""
    if not Path(GPU_CHECK).exists():
        return {"returncode": None}
    argv = [GPU_CHECK, "--json"]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=GPU_CHECK_SECONDS)
    return {"returncode": ended.returncode, "output": ended.stdout, "errors": ended.stderr.strip()}


if __name__ == "__main__":
    main(want_driver="driver" in sys.argv[1:])
