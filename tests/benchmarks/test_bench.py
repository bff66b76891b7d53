"""Benchmark: what it measures, compares and keeps after an interrupt. The measured programs are fakes on PATH here."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import goals, measurement, packages
from benchmarks.measurement import Measurement
from pipelines.build import element_selection, recipe
from pipelines.catalog import loader
from pipelines.util.errors import UsageError
from pipelines.util.paths import ELEMENTS
from tests.support.paths import FAKES, PROJECT

STANDINS = PROJECT / "benchmarks" / "standins"


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is first on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def fake_dib(folder: Path, says: str = "benchmark: module nvidia-current.ko.xz", does: str = "true") -> None:
    script = f'#!/bin/bash\nset -eu\nwhile [ "$1" != -o ]; do shift; done\n{does}\necho "{says}"\necho x > "$2.qcow2"\n'
    (folder / "disk-image-create").write_text(script)
    (folder / "disk-image-create").chmod(0o755)


def argv(tmp_path: Path, *arguments: str) -> list[str]:
    command = [sys.executable, "-m", "invoke", "--search-root", str(PROJECT), "bench"]
    command += [] if "--images" in arguments else ["--images", "debian-cuda"]
    return [*command, "--builds", str(tmp_path / "builds"), *arguments]


def bench(tmp_path: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(argv(tmp_path, *arguments), capture_output=True, text=True, check=False, timeout=120)


def measured(quantity: str, *values: float, image: str = "debian-cuda") -> list[Measurement]:
    at = "2026-11-22T03:00:00Z"
    return [
        Measurement(image=image, case=quantity, quantity=quantity, run=run, at=at, value=value)
        for run, value in enumerate(values, 1)
    ]


def verdict(measurements: list[Measurement], quantity: str, against: str = "") -> tuple[float | None, bool | None]:
    (found,) = (
        each
        for each in goals.verdicts(goals.summaries(measurements))
        if (each.goal.quantity, each.goal.against) == (quantity, against)
    )
    return found.value, found.reached


def test_a_ratio_is_that_of_the_medians_of_all_runs() -> None:
    measurements = [*measured("stock", 500, 900, 510), *measured("cold", 255, 240, 300)]
    assert verdict(measurements, "cold", "stock") == (0.5, True)


def test_a_ratio_above_its_limit_is_a_goal_not_reached() -> None:
    assert verdict([*measured("stock", 500), *measured("cold", 301)], "cold", "stock") == (0.602, False)


def test_a_rate_has_to_be_at_least_so_much_of_the_other() -> None:
    assert verdict([*measured("upload", 80), *measured("upload-put", 100)], "upload", "upload-put") == (0.8, False)
    assert verdict([*measured("upload", 95), *measured("upload-put", 100)], "upload", "upload-put") == (0.95, True)


def test_a_goal_in_seconds_needs_nothing_to_compare_with() -> None:
    assert verdict(measured("nothing", 3, 1, 1.5), "nothing") == (1.5, True)


def test_without_the_other_measurement_there_is_no_ratio() -> None:
    assert verdict(measured("warm", 50), "warm", "mkosi-again") == (None, None)


def test_images_are_compared_with_themselves() -> None:
    measurements = [*measured("stock", 500), *measured("stock", 100, image="other"), *measured("cold", 250)]
    assert verdict(measurements, "cold", "stock") == (0.5, True)


def test_a_run_that_was_made_again_counts_once_and_its_failure_no_more() -> None:
    failed = Measurement(image="debian-cuda", case="cold", quantity="cold", run=2, at="", error="no space")
    (summary,) = goals.summaries([*measured("cold", 10), failed, *measured("cold", 10, 20)])
    assert (summary.values, summary.error) == ((10, 20), "")


def test_every_goal_is_for_something_that_is_measured() -> None:
    assert {name for goal in goals.GOALS for name in (goal.quantity, goal.against) if name} <= goals.QUANTITIES.keys()


def test_a_record_whose_last_line_was_cut_off_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    measurement.start(path, measurement.this_machine())
    measurement.append(path, measured("cold", 10))
    with path.open("a") as record:
        record.write('{"measurement": {"image": "debi')
    assert measurement.read(path).measurements == tuple(measured("cold", 10))


def test_a_bench_measures_writes_its_record_and_leaves_nothing(tmp_path: Path, bin_folder: Path) -> None:
    fake_dib(bin_folder)
    record = tmp_path / "record.jsonl"
    result = bench(tmp_path, "--only", "stock", "--runs", "2", "--output", str(record), "--json")
    assert result.returncode == 0, result.stderr
    (summary,) = json.loads(result.stdout)["summaries"]
    assert (summary["image"], summary["quantity"], len(summary["values"])) == ("debian-cuda", "stock", 2)
    assert [each.value for each in measurement.read(record).measurements] == summary["values"]
    assert list((tmp_path / "builds").iterdir()) == []


def test_the_tables_say_where_when_and_what(tmp_path: Path, bin_folder: Path) -> None:
    fake_dib(bin_folder)
    result = bench(tmp_path, "--only", "stock", "--runs", "1", "--output", str(tmp_path / "record.jsonl"))
    assert "cores" in result.stdout
    assert "diskimage-builder 3.43" in result.stdout
    assert "stock disk-image-create" in result.stdout


def test_stock_dib_gets_the_packages_that_our_elements_ask_for(tmp_path: Path, bin_folder: Path) -> None:
    fake_dib(
        bin_folder,
        does=f'echo "$*" > {tmp_path}/argv; echo "$DIB_RELEASE $DIB_BENCHMARK_DRIVER_PACKAGES" > {tmp_path}/env',
    )
    bench(tmp_path, "--only", "stock", "--runs", "1", "--output", str(tmp_path / "record.jsonl"))
    assert "linux-image-amd64,linux-headers-amd64,gcc" in (tmp_path / "argv").read_text()
    assert (tmp_path / "env").read_text().startswith("trixie nvidia-kernel-dkms ")


@pytest.mark.slow
def test_our_builds_are_those_of_a_copy_and_the_checkout_is_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{FAKES}:{os.environ['PATH']}")
    changed = PROJECT / "elements" / "gpu-check" / "static" / "usr" / "bin" / "gpu-check"
    before = changed.read_text()
    result = bench(tmp_path, "--only", "cold,warm", "--runs", "1", "--output", str(tmp_path / "r.jsonl"), "--json")
    assert result.returncode == 0, result.stderr
    medians = {each["quantity"]: each["median"] for each in json.loads(result.stdout)["summaries"]}
    assert medians["cold"] > 0
    assert medians["warm"] > 0
    assert changed.read_text() == before
    assert list((tmp_path / "builds").iterdir()) == []


@pytest.mark.slow
def test_an_image_without_the_compiled_module_is_not_compared(tmp_path: Path, bin_folder: Path) -> None:
    fake_dib(bin_folder, says="benchmark: module ")
    result = bench(tmp_path, "--only", "stock", "--runs", "1", "--output", str(tmp_path / "record.jsonl"))
    assert result.returncode == 1
    assert "no module of the driver is in the image" in result.stderr


@pytest.mark.slow
def test_a_case_that_fails_is_reported_the_rest_goes_on_and_resume_repeats_it(tmp_path: Path, bin_folder: Path) -> None:
    fake_dib(bin_folder, does=f"[ -e {tmp_path}/mended ] || {{ echo no mirror; exit 1; }}")
    record = tmp_path / "record.jsonl"
    first = bench(tmp_path, "--only", "stock,conversion", "--runs", "1", "--output", str(record))
    assert first.returncode == 1
    assert "no mirror" in first.stderr
    assert "there is no build of debian-cuda" in first.stderr
    assert "no mirror" in (tmp_path / "record.logs" / "debian-cuda-stock-1" / "debian-cuda-stock.log").read_text()
    (tmp_path / "mended").touch()
    second = bench(tmp_path, "--only", "stock", "--runs", "1", "--resume", str(record), "--json")
    assert "stock" in [each["quantity"] for each in json.loads(second.stdout)["summaries"] if each["values"]]


@pytest.mark.slow
def test_resume_measures_nothing_twice(tmp_path: Path, bin_folder: Path) -> None:
    fake_dib(bin_folder, does=f"echo >> {tmp_path}/calls")
    record = tmp_path / "record.jsonl"
    bench(tmp_path, "--only", "stock", "--runs", "1", "--output", str(record))
    assert bench(tmp_path, "--only", "stock", "--runs", "2", "--resume", str(record)).returncode == 0
    assert len((tmp_path / "calls").read_text()) == 2
    assert len(measurement.read(record).measurements) == 2


def test_an_interrupted_bench_keeps_what_it_has_and_leaves_nothing(tmp_path: Path, bin_folder: Path) -> None:
    fake_dib(bin_folder, does=f"[ ! -e {tmp_path}/once ] || sleep 98766; touch {tmp_path}/once")
    record = tmp_path / "record.jsonl"
    command = ["env", "--default-signal", *argv(tmp_path, "--only", "stock", "--output", str(record))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        wait_for(
            lambda: subprocess.run(["pgrep", "-f", "sleep 98766"], check=False, capture_output=True).returncode == 0
        )
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=60)
    assert child.returncode == 143
    assert len(measurement.read(record).measurements) == 1
    assert list((tmp_path / "builds").iterdir()) == []
    assert subprocess.run(["pgrep", "-f", "sleep 98766"], check=False, capture_output=True).returncode == 1


@pytest.mark.slow
def test_numbers_of_another_machine_are_not_added_to(tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    measurement.start(record, measurement.this_machine())
    record.write_text(record.read_text().replace('"cores": ', '"cores": 9'))
    result = bench(tmp_path, "--only", "stock", "--resume", str(record))
    assert result.returncode == 1
    assert "another machine" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--only", "stok"), "there is no case stok"),
        (("--runs", "0"), "no number of runs"),
        (("--images", "debian-cud"), "there is no image debian-cud"),
    ],
)
def test_a_wrong_word_on_the_command_line_is_reported_before_any_work(
    tmp_path: Path, arguments: tuple[str, str], said: str
) -> None:
    result = bench(tmp_path, *arguments, "--output", str(tmp_path / "record.jsonl"))
    assert said in result.stderr
    assert not (tmp_path / "record.jsonl").exists()


def test_a_record_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    path.write_text("somebody's\n")
    with pytest.raises(UsageError, match="exists already"):
        measurement.start(path, measurement.this_machine())


def test_the_packages_of_all_tools_are_those_of_our_elements() -> None:
    variant = loader.load(PROJECT / "images.yaml").variants["debian-cuda"]
    environment = {
        name: value for layer in element_selection.environments(variant).values() for name, value in layer.items()
    }
    elements = [folder for folder in recipe.resolve(variant).closure.values() if folder.is_relative_to(ELEMENTS)]
    asked = {name for element in elements for name in asked_by(element, environment)}
    driver = pkg_map(ELEMENTS / "nvidia-archive")["compute-proprietary"].split()
    assert set(packages.requested().system) == asked | {"netbase"}  # that of DIB's own debian-minimal
    assert set(packages.requested().driver) == set(driver)


def asked_by(element: Path, environment: Mapping[str, str]) -> set[str]:
    """The packages of an element's package-installs.yaml for Debian on amd64, by their names there."""
    path = element / "package-installs.yaml"
    wanted = yaml.safe_load(path.read_text()) if path.exists() else {}
    names = pkg_map(element)
    found: set[str] = set()
    for name, how in wanted.items():
        conditions = (how or {}).get("when", [])
        conditions = [conditions] if isinstance(conditions, str) else conditions
        met = all(environment.get(each.split()[0], "1") == each.split()[2] for each in conditions)
        if met and (how or {}).get("arch", "amd64") == "amd64":
            found |= set(names.get(name, name).split())
    return found


def pkg_map(element: Path) -> dict[str, str]:
    """An element's names for Debian 13: DIB's order, the most special last."""
    path = element / "pkg-map"
    raw: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    family, distribution = raw.get("family", {}).get("debian", {}), raw.get("distro", {}).get("debian", {})
    release = raw.get("release", {}).get("debian", {}).get("trixie", {})
    return {**raw.get("default", {}), **family, **distribution, **release}


def test_the_stand_in_for_kpartx_maps_partitions_and_takes_them_away(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    with disk.open("wb") as sink:
        sink.truncate(64 * 2**20)
    layout = b"label: dos\nstart=2048, size=65536\nstart=67584\n"
    subprocess.run(["sfdisk", "-q", disk], input=layout, check=True)
    attach = ["losetup", "--show", "--find", str(disk)]
    loop = subprocess.run(attach, check=True, capture_output=True, text=True).stdout.strip()
    second = Path("/dev/mapper", f"{Path(loop).name}p2")
    try:
        subprocess.run([STANDINS / "kpartx", "-av", loop], check=True)
        subprocess.run(["mkfs.ext4", "-q", second], check=True)
        subprocess.run([STANDINS / "kpartx", "-d", loop], check=True)
    finally:
        subprocess.run(["losetup", "--detach", loop], check=True)
    assert not second.exists()
    with disk.open("rb") as source:
        source.seek(67584 * 512 + 1024 + 56)  # ext4's magic number
        assert source.read(2) == b"\x53\xef"
    assert str(disk) not in subprocess.run(["losetup", "-a"], check=True, capture_output=True, text=True).stdout


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
