"""gpu-check's verdicts on servers with and without faults, with fakes of the driver's programs."""

import ast
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.paths import ELEMENTS

GPU_CHECK = ELEMENTS / "gpu-check/static/usr/bin/gpu-check"
VERSION = "580.95.05"
H100, L40S = "NVIDIA H100 80GB HBM3", "NVIDIA L40S"
# By nvidia-smi's field names, as an H100 on an HGX board answers.
HEALTHY = {
    "ecc.mode.current": "Enabled",
    "ecc.errors.uncorrected.volatile.total": "0",
    "ecc.errors.uncorrected.aggregate.total": "0",
    "pcie.link.width.current": "16",
    "pcie.link.width.max": "16",
    "pcie.link.gen.current": "5",
    "pcie.link.gen.max": "5",
    "fabric.state": "Completed",
    "fabric.status": "Success",
    "mig.mode.current": "Disabled",
}
# Answers each query from a table, and refuses a field that the table does not have, as nvidia-smi does.
NVIDIA_SMI = r"""
[ "$2" = --format=csv,noheader,nounits ] || exit 2
exec awk -F'\t' -v query="${1#--query-gpu=}" '
NR == 1 {
    for (i = 1; i <= NF; i++) column[$i] = i
    wanted = split(query, fields, ",")
    for (i = 1; i <= wanted; i++) if (!(fields[i] in column)) {
        printf "Field \"%s\" is not a valid field to query.\n", fields[i]
        exit 2
    }
    next
}
{
    for (i = 1; i <= wanted; i++) printf "%s%s", (i > 1 ? ", " : ""), $column[fields[i]]
    print ""
}' TABLE
"""
DEVICE_QUERY = (
    'echo "Detected $(echo "$CUDA_VISIBLE_DEVICES" | tr , "\\n" | wc -l) CUDA Capable device(s)"; echo Result = PASS'
)
SPEED = "= 60001.4 single-precision GFLOP/s at 20 flops per interaction"
NBODY = f'echo "$* on $CUDA_VISIBLE_DEVICES" >> "$RUNS"; echo "{SPEED}"'


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What gpu-check printed as JSON."""

    code: int
    verdict: str
    checks: Mapping[str, tuple[bool | None, str]]
    gpus: Sequence[Mapping[str, str]]


@dataclass(kw_only=True, slots=True)
class Server:
    """A server's /sys and /usr below a folder, and the programs that its PATH has."""

    root: Path
    programs: Path
    listed: list[dict[str, str]] = field(default_factory=list)

    def on_the_bus(self, slot: int, *, kind: str = "0x030200", vendor: str = "0x10de", driver: str = "nvidia") -> None:
        """A PCI device; an H100, unless the test names another."""
        folder = self.root / f"sys/bus/pci/devices/0000:{slot:02x}:00.0"
        folder.mkdir(parents=True)
        for name, content in (("vendor", vendor), ("class", kind), ("device", "0x2330")):
            (folder / name).write_text(f"{content}\n")
        if driver:
            (folder / "driver").symlink_to(f"../../../../bus/pci/drivers/{driver}")

    def gpu(self, slot: int, model: str = H100, **changed: str) -> None:
        """A GPU on the bus that the driver lists too; `changed` by field, with _ for the dots."""
        self.on_the_bus(slot)
        changes = {name: changed[name.replace(".", "_")] for name in HEALTHY if name.replace(".", "_") in changed}
        own = {"pci.bus_id": f"00000000:{slot:02X}:00.0", "name": model, "uuid": f"GPU-{slot:02x}"}
        self.listed.append({**own, **HEALTHY, **changes})

    def module(self, version: str = VERSION) -> None:
        """The kernel module is loaded."""
        (self.root / "sys/module/nvidia").mkdir(parents=True)
        (self.root / "sys/module/nvidia/version").write_text(f"{version}\n")

    def libraries(self, version: str = VERSION, folder: str = "x86_64-linux-gnu") -> None:
        """The driver's libraries are installed."""
        place = self.root / "usr/lib" / folder
        place.mkdir(parents=True, exist_ok=True)
        for library in ("libnvidia-ml", "libcuda"):
            (place / f"{library}.so.{version}").touch()
            (place / f"{library}.so.1").symlink_to(f"{library}.so.{version}")

    def program(self, name: str, script: str) -> None:
        """A program on PATH."""
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def command(self, *options: str) -> list[str]:
        """The argv, once nvidia-smi would list what there is to list."""
        table = self.root / "listed"
        rows = [list(self.listed[0]), *(gpu.values() for gpu in self.listed)] if self.listed else []
        table.write_text("".join("\t".join(row) + "\n" for row in rows))
        if not (self.programs / "nvidia-smi").exists():
            self.program("nvidia-smi", NVIDIA_SMI.replace("TABLE", shlex.quote(str(table))))
        return [sys.executable, str(GPU_CHECK), "--root", str(self.root), *options]

    def environment(self) -> dict[str, str]:
        """Only the fakes, and what a shell script of theirs needs."""
        return {"PATH": f"{self.programs}:/usr/bin:/bin", "RUNS": str(self.root / "runs"), "LC_ALL": "C"}

    def ends(self, *options: str) -> "subprocess.CompletedProcess[str]":
        """How gpu-check ends here."""
        environment = self.environment()
        argv = self.command(*options)
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=30)

    def check(self, *options: str) -> Report:
        """What gpu-check says here; a traceback is never what it says."""
        ended = self.ends("--json", *options)
        assert ended.stderr == ""
        told = json.loads(ended.stdout)
        assert told["exit_code"] == ended.returncode
        checks = {check["name"]: (check["passed"], check["detail"]) for check in told["checks"]}
        return Report(code=ended.returncode, verdict=told["verdict"], checks=checks, gpus=told["gpus"])


@pytest.fixture
def bare(tmp_path: Path) -> Server:
    """A server without a GPU, and without anything of NVIDIA's."""
    server = Server(root=tmp_path / "root", programs=tmp_path / "bin")
    for folder in (server.root / "sys/bus/pci/devices", server.programs):
        folder.mkdir(parents=True)
    server.program(
        "lspci", """echo '0000:17:00.0 "3D controller" "NVIDIA Corporation" "GH100 [H100 SXM5 80GB]" -ra1'"""
    )
    server.on_the_bus(1, vendor="0x1af4", kind="0x020000", driver="virtio-pci")
    return server


@pytest.fixture
def server(bare: Server) -> Server:
    """A server with the driver and CUDA's samples, and still without a GPU."""
    bare.module()
    bare.libraries()
    bare.program("deviceQuery", DEVICE_QUERY)
    bare.program("nbody", NBODY)
    return bare


def runs(server: Server) -> list[str]:
    """How nbody was run."""
    return (server.root / "runs").read_text().splitlines()


# No GPU


def test_no_gpu_has_an_exit_code_of_its_own(bare: Server) -> None:
    report = bare.check()
    assert (report.code, report.verdict, report.gpus) == (3, "no GPU", [])
    assert report.checks == {"pci": (None, "no NVIDIA GPU on the PCI bus")}


def test_an_nvswitch_and_a_gpus_sound_are_no_gpus(bare: Server) -> None:
    bare.on_the_bus(5, kind="0x068000")
    bare.on_the_bus(6, kind="0x040300")
    assert bare.check().code == 3


def test_another_vendors_gpu_is_none_of_its_business(bare: Server) -> None:
    bare.on_the_bus(5, vendor="0x1002", kind="0x030000", driver="amdgpu")
    assert bare.check().code == 3


# All is good


def test_one_good_gpu_passes_every_check(server: Server) -> None:
    server.gpu(0x17)
    report = server.check()
    assert (report.code, report.verdict) == (0, "good")
    assert report.checks == {
        "pci": (True, "1 × GH100 [H100 SXM5 80GB]"),
        "driver": (True, f"NVIDIA {VERSION} answers"),
        "gpus": (True, f"1 × {H100}"),
        "versions": (True, f"module and libraries are {VERSION}"),
        "ecc": (True, "1 × ECC is enabled, 0 uncorrectable errors"),
        "pcie-link": (True, "1 × 16 lanes, generation 5"),
        "fabric": (True, "1 × Completed, Success"),
        "device-query": (True, "CUDA sees 1"),
        "nbody": (True, f"1 × {H100}: 60001 GFLOP/s"),
    }


def test_a_gpu_is_described_by_what_bus_and_driver_know_of_it(server: Server) -> None:
    server.gpu(0x17)
    name = "GH100 [H100 SXM5 80GB]"
    gpu = {"address": "0000:17:00.0", "name": name, "id": "10de:2330", "driver": "nvidia", "uuid": "GPU-17"}
    assert server.check("--quick").gpus == [gpu]


def test_eight_gpus_compute_in_one_run_of_nbody(server: Server) -> None:
    for slot in range(0x10, 0x18):
        server.gpu(slot)
    report = server.check()
    assert report.code == 0
    assert report.checks["device-query"] == (True, "CUDA sees 8")
    all_of_them = ",".join(gpu["uuid"] for gpu in server.listed)
    assert runs(server) == [f"-benchmark -numdevices=8 on {all_of_them}"]


def test_each_model_has_its_own_run_of_nbody(server: Server) -> None:
    server.gpu(0x10)
    server.gpu(0x11, L40S, fabric_state="N/A", fabric_status="N/A")
    server.gpu(0x12)
    report = server.check()
    assert report.code == 0
    assert report.checks["fabric"] == (True, "2 × Completed, Success, 1 × no NVLink fabric")
    assert runs(server) == [
        "-benchmark -numdevices=2 on GPU-10,GPU-12",
        "-benchmark -numdevices=1 on GPU-11",
    ]


def test_debians_folder_of_libraries_is_known(bare: Server) -> None:
    bare.module("550.163.01")
    bare.libraries("550.163.01", "x86_64-linux-gnu/nvidia/current")
    bare.gpu(0x17)
    assert bare.check().checks["versions"] == (True, "module and libraries are 550.163.01")


def test_samples_that_are_not_installed_are_told(bare: Server) -> None:
    bare.module()
    bare.libraries()
    bare.gpu(0x17)
    report = bare.check()
    assert report.code == 0
    assert report.checks["nbody"] == (None, "nbody is not installed")


def test_quick_leaves_the_samples_out(server: Server) -> None:
    server.gpu(0x17)
    assert {"device-query", "nbody"}.isdisjoint(server.check("--quick").checks)


def test_a_gpu_in_instances_is_not_computed_on(server: Server) -> None:
    server.gpu(0x17, mig_mode_current="Enabled")
    report = server.check()
    assert (report.code, report.checks["nbody"]) == (0, (None, "MIG is on, so a program sees only one instance"))


def test_what_a_driver_does_not_tell_is_not_held_against_it(server: Server) -> None:
    server.gpu(0x17)
    del server.listed[0]["fabric.state"]  # drivers before the fabric
    report = server.check("--quick")
    assert report.code == 0
    assert report.checks["fabric"][0] is None
    assert "fabric.state" in report.checks["fabric"][1]


def test_a_virtual_gpu_has_neither_ecc_nor_a_link(server: Server) -> None:
    nothing = dict.fromkeys((name.replace(".", "_") for name in HEALTHY), "[N/A]")
    server.gpu(0x17, "NVIDIA L40S-48Q", **nothing)
    report = server.check("--quick")
    assert report.code == 0
    assert [report.checks[name][0] for name in ("ecc", "pcie-link", "fabric")] == [None, None, None]


def test_without_lspci_the_ids_say_what_is_there(server: Server) -> None:
    (server.programs / "lspci").write_text("#!/nowhere\n")
    server.gpu(0x17)
    assert server.check("--quick").checks["pci"] == (True, "1 × 10de:2330")


# Something is wrong


def test_a_gpu_that_the_driver_does_not_list_is_named(server: Server) -> None:
    server.gpu(0x10)
    server.on_the_bus(0x17)
    report = server.check("--quick")
    assert (report.code, report.verdict) == (1, "a check failed")
    assert report.checks["gpus"] == (False, "the driver does not list 0000:17:00.0 (GH100 [H100 SXM5 80GB])")


def test_an_uncorrectable_error_fails_and_names_its_gpu(server: Server) -> None:
    server.gpu(0x10)
    server.gpu(0x11, ecc_errors_uncorrected_volatile_total="3", ecc_errors_uncorrected_aggregate_total="7")
    report = server.check("--quick")
    assert report.code == 1
    assert report.checks["ecc"] == (False, "0000:11:00.0: ECC is enabled, 3 uncorrectable errors, 7 in its life")


def test_errors_of_an_earlier_day_are_told_and_pass(server: Server) -> None:
    server.gpu(0x10, ecc_errors_uncorrected_aggregate_total="7")
    assert server.check("--quick").checks["ecc"] == (True, "1 × ECC is enabled, 0 uncorrectable errors, 7 in its life")


def test_ecc_may_be_off_but_not_unknown(server: Server) -> None:
    server.gpu(0x10, ecc_mode_current="Disabled")
    server.gpu(0x11, ecc_mode_current="[Unknown Error]")
    assert server.check("--quick").checks["ecc"] == (False, "0000:11:00.0: ECC is [unknown error]")


def test_a_narrower_link_fails(server: Server) -> None:
    server.gpu(0x10)
    server.gpu(0x11, pcie_link_width_current="8")
    report = server.check("--quick")
    assert report.code == 1
    assert report.checks["pcie-link"] == (False, "0000:11:00.0: 8 of 16 lanes, generation 5")


def test_a_slower_link_passes_because_an_idle_gpu_has_one(server: Server) -> None:
    server.gpu(0x10, pcie_link_gen_current="1")
    found = server.check("--quick").checks["pcie-link"]
    assert found == (True, "1 × 16 lanes, generation 1 of 5 (an idle GPU may lower it)")


def test_a_gpu_that_is_not_registered_with_its_fabric_fails(server: Server) -> None:
    server.gpu(0x10, fabric_state="In Progress", fabric_status="N/A")
    assert server.check("--quick").checks["fabric"] == (False, "0000:10:00.0: In Progress")


def test_a_second_set_of_libraries_is_named(server: Server) -> None:
    server.libraries("580.126.09", "x86_64-linux-gnu/nvidia/current")
    server.gpu(0x17)
    report = server.check("--quick")
    two = f"580.126.09 and {VERSION}"
    why = f"the loaded module is {VERSION}, libnvidia-ml is {two}, libcuda is {two}; after an upgrade, reboot"
    assert (report.code, report.checks["versions"]) == (1, (False, why))


def test_a_mismatch_that_silences_nvidia_smi_is_named_too(bare: Server) -> None:
    bare.module("580.65.06")
    bare.libraries()
    bare.on_the_bus(0x17)
    bare.program("nvidia-smi", 'echo "Failed to initialize NVML: Driver/library version mismatch"; exit 18')
    report = bare.check()
    assert (report.code, report.verdict) == (4, "the driver lists no GPU")
    assert report.checks["driver"] == (False, "Failed to initialize NVML: Driver/library version mismatch")
    why = f"the loaded module is 580.65.06, libnvidia-ml is {VERSION}, libcuda is {VERSION}; after an upgrade, reboot"
    assert report.checks["versions"] == (False, why)


def test_cuda_that_sees_fewer_gpus_than_the_driver_fails(server: Server) -> None:
    server.gpu(0x10)
    server.gpu(0x11)
    server.program("deviceQuery", 'echo "Detected 1 CUDA Capable device(s)"; echo "Result = PASS"')
    report = server.check()
    assert report.code == 1
    assert report.checks["device-query"] == (
        False,
        "CUDA sees 1 of 2: Detected 1 CUDA Capable device(s) Result = PASS",
    )


def test_cuda_that_does_not_start_is_quoted(server: Server) -> None:
    server.gpu(0x10)
    server.program("deviceQuery", 'echo "cudaGetDeviceCount returned 802"; echo "Result = FAIL"; exit 1')
    assert server.check().checks["device-query"] == (
        False,
        "CUDA sees 0 of 1: cudaGetDeviceCount returned 802 Result = FAIL",
    )


def test_a_model_that_does_not_compute_is_named(server: Server) -> None:
    server.gpu(0x10)
    server.gpu(0x11, L40S)
    server.program("nbody", f'case "$CUDA_VISIBLE_DEVICES" in GPU-11) echo "CUDA error 719"; exit 1;; esac\n{NBODY}')
    report = server.check()
    assert (report.code, report.checks["nbody"]) == (1, (False, f"1 × {L40S}: CUDA error 719"))


# The driver does not answer


def test_a_driver_that_is_not_loaded_is_told_from_no_gpu(bare: Server) -> None:
    bare.libraries()
    bare.on_the_bus(0x17, driver="nouveau")
    bare.program("nvidia-smi", 'echo "NVIDIA-SMI has failed"; exit 9')
    report = bare.check()
    assert report.code == 4
    why = "nouveau holds 0000:17:00.0; no NVIDIA kernel module is loaded; NVIDIA-SMI has failed"
    assert report.checks["driver"] == (False, why)
    assert report.checks["versions"] == (None, "no kernel module is loaded")


def test_a_missing_driver_is_reported(bare: Server) -> None:
    bare.on_the_bus(0x17, driver="")
    (bare.programs / "nvidia-smi").write_text("no program\n")
    (bare.programs / "nvidia-smi").chmod(0o644)
    report = bare.check()
    assert report.code == 4
    assert "nvidia-smi does not start" in report.checks["driver"][1]


def test_a_driver_that_lists_nothing_has_the_same_code(server: Server) -> None:
    server.on_the_bus(0x17)
    server.program("nvidia-smi", "echo No devices were found; exit 6")
    report = server.check()
    assert (report.code, report.checks["driver"]) == (4, (False, "No devices were found"))


def test_a_driver_that_hangs_does_not_hang_the_check(server: Server) -> None:
    server.on_the_bus(0x17)
    # Its child has the same output, as a hanging helper of the driver would.
    server.program("nvidia-smi", f"sleep 60 & echo $! > {server.root}/child; wait")
    started = time.monotonic()
    report = server.check("--deadline", "0.5")
    assert time.monotonic() - started < 10
    assert (report.code, report.checks["driver"]) == (4, (False, "nvidia-smi did not answer within 0.5 s"))
    assert not running(int((server.root / "child").read_text()))


def test_a_driver_that_hangs_later_fails_the_check_it_hangs_in(server: Server) -> None:
    server.gpu(0x17)
    real = server.programs / "answers"
    server.command()
    (server.programs / "nvidia-smi").rename(real)
    server.program("nvidia-smi", f'case "$1" in *ecc*) exec sleep 60;; esac; exec {shlex.quote(str(real))} "$@"')
    report = server.check("--quick", "--deadline", "0.5")
    assert (report.code, report.checks["ecc"]) == (1, (False, "nvidia-smi did not answer within 0.5 s"))
    assert report.checks["pcie-link"][0] is True


def running(process: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# The command


def test_the_table_has_the_verdict_in_words(server: Server) -> None:
    server.gpu(0x17, ecc_errors_uncorrected_volatile_total="1")
    ended = server.ends("--quick")
    lines = ended.stdout.splitlines()
    assert lines[0] == "gpu-check: a check failed"
    assert "  ecc           FAILED  0000:17:00.0: ECC is enabled, 1 uncorrectable errors" in lines
    assert ended.returncode == 1


def test_the_file_has_what_json_prints(server: Server, tmp_path: Path) -> None:
    server.gpu(0x17)
    ended = server.ends("--quick", "--json", "--output", str(tmp_path / "result.json"))
    printed, written = json.loads(ended.stdout), json.loads((tmp_path / "result.json").read_text())
    assert {**written, "checked_at": ""} == {**printed, "checked_at": ""}


def test_a_file_that_cannot_be_written_is_a_failure(server: Server, tmp_path: Path) -> None:
    server.gpu(0x17)
    ended = server.ends("--quick", "--output", str(tmp_path / "nowhere/result.json"))
    assert ended.returncode == 1
    assert ended.stderr.startswith("gpu-check: the result cannot be written: ")


def test_an_unexpected_answer_is_a_failed_check_and_no_traceback(server: Server) -> None:
    server.on_the_bus(0x17)
    server.program("nvidia-smi", r"printf '00000000:17:00.0, NVIDIA H100, GPU-\0\n'")  # no environment can hold that
    report = server.check()
    assert (report.code, report.checks) == (1, {"gpu-check": (False, "ValueError: embedded null byte")})


@pytest.mark.parametrize("wrong", [["--slow"], ["--root", "/nowhere"], ["--deadline", "0"], ["--deadline", "nan"]])
def test_wrong_usage_has_the_usual_code(bare: Server, wrong: list[str]) -> None:
    ended = bare.ends(*wrong)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


def test_an_interrupt_ends_it_and_what_it_runs(server: Server) -> None:
    server.on_the_bus(0x17)
    server.program("nvidia-smi", f"echo $$ > {server.root}/child; exec sleep 60")
    # In a shell's background these tests ignore SIGINT, and what they start would, too.
    argv = ["env", "--default-signal", *server.command()]
    with subprocess.Popen(argv, env=server.environment(), stderr=subprocess.PIPE, text=True) as check:
        deadline = time.monotonic() + 60
        while not (server.root / "child").exists() or not (server.root / "child").read_text().strip():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(check.pid, signal.SIGINT)
        _, complaints = check.communicate(timeout=60)
    assert (check.returncode, complaints) == (130, "")
    child = int((server.root / "child").read_text())
    while running(child):  # it was killed, and ends when it gets a processor
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_reads_as_python_3_9() -> None:
    ast.parse(GPU_CHECK.read_text(), feature_version=(3, 9))
