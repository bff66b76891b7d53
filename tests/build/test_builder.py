"""Build of one image. diskimage-builder is a fake on PATH here; tests/integration has the real one."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.artifacts import store
from pipelines.build import builder
from pipelines.catalog import loader
from pipelines.catalog.variant import Variant
from pipelines.util.errors import BuildError, HostError
from tests.support.leftovers import left_behind
from tests.support.paths import FAKES, PROJECT

NOW = datetime(2026, 11, 22, 3, 0, 0, tzinfo=UTC)

OTHER_PHASES = ("root", "post-install", "block-device", "cleanup")


@pytest.fixture(autouse=True)
def _fake_dib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{FAKES}:{os.environ['PATH']}")


@pytest.fixture
def builds(tmp_path: Path) -> Path:
    return tmp_path / "builds"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that the space check passes and that a build can fill."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4200M", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def catalog_file(tmp_path: Path, how: str = "well") -> Path:
    path = tmp_path / "images.yaml"
    path.write_text(
        "version: 1\nimages:\n  plain:\n    base: {distribution: debian, release: trixie}\n    disk: {size: 1GiB}\n"
        f"    environment: {{DIB_FAKE: {how}}}\n"
    )
    return path


def plain(tmp_path: Path, how: str = "well") -> Variant:
    return loader.load(catalog_file(tmp_path, how)).variants["plain"]


def test_a_build_leaves_its_image_manifest_and_log_and_nothing_else(tmp_path: Path, builds: Path) -> None:
    made = builder.build(plain(tmp_path), builds, NOW)
    assert {path.name for path in made.folder.iterdir()} >= {"image.qcow2", "manifest.json", "build.log", "state.json"}
    assert made.state == "complete"
    assert left_behind(builds) == []


def test_the_manifest_describes_what_was_made(tmp_path: Path, builds: Path) -> None:
    about = builder.build(plain(tmp_path), builds, NOW).manifest()
    assert about.build_id == f"20261122T030000Z-{about.fingerprint[:8]}"
    assert about.created_at == "2026-11-22T03:00:00Z"
    assert (about.artifact.format, about.artifact.virtual_size) == ("qcow2", 2**30)
    assert about.packages == {"linux-image-6.12": "6.12.1"}
    assert about.kernel == "6.12"
    assert "base/install.d/01-package-installs" in about.stages
    assert about.layers.keys() <= {"base", "driver", "variant"}
    assert about.seconds > 0


def test_no_variable_of_ours_reaches_diskimage_builder_by_accident(
    tmp_path: Path, builds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OS_PASSWORD", "hunter2")
    made = builder.build(plain(tmp_path), builds, NOW)
    assert "hunter2" not in (made.folder / "image.env").read_text()


def test_a_strict_umask_of_the_operators_does_not_reach_the_guest(
    tmp_path: Path, builds: Path, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(functools.partial(os.umask, os.umask(0o077)))
    made = builder.build(plain(tmp_path), builds, NOW)
    assert (made.folder / "image.env").stat().st_mode & 0o777 == 0o644  # which the fake writes


def test_a_failure_names_element_phase_last_line_and_log(tmp_path: Path, builds: Path) -> None:
    with pytest.raises(BuildError) as caught:
        builder.build(plain(tmp_path, "fail"), builds, NOW)
    assert "post-install.d/50-compile-modules" in caught.value.what
    assert "does not compile for kernel 6.12" in caught.value.what
    assert "build.log" in caught.value.remedy
    assert left_behind(builds) == []


def test_a_download_that_fails_leads_to_doctor(tmp_path: Path, builds: Path) -> None:
    with pytest.raises(BuildError, match=r"Could not resolve host: images\.example") as caught:
        builder.build(plain(tmp_path, "offline"), builds, NOW)
    assert "A server did not answer: `./inv doctor" in caught.value.remedy


def test_the_log_of_a_failed_build_stays_and_its_image_does_not(tmp_path: Path, builds: Path) -> None:
    with pytest.raises(BuildError):
        builder.build(plain(tmp_path, "fail"), builds, NOW)
    (failed,) = store.builds(builds, "plain")
    assert failed.state == "failed"
    assert "does not compile" in (failed.folder / "build.log").read_text()
    assert not (failed.folder / "image.qcow2").exists()


@pytest.mark.slow
def test_only_the_last_failed_builds_stay(tmp_path: Path, builds: Path) -> None:
    for hour in range(5):
        with pytest.raises(BuildError):
            builder.build(plain(tmp_path, "fail"), builds, NOW + timedelta(hours=hour))
    assert [found.build_id[:11] for found in store.builds(builds, "plain")] == [
        "20261122T04",
        "20261122T05",
        "20261122T06",
        "20261122T07",
    ]


def test_a_full_disk_ends_the_build_with_the_remedy_and_gives_the_space_back(tmp_path: Path, small_disk: Path) -> None:
    with pytest.raises(BuildError) as caught:
        builder.build(plain(tmp_path, "full"), small_disk, NOW)
    assert "disk is full" in caught.value.remedy
    assert os.statvfs(small_disk).f_bfree * 4096 > 4000 * 2**20


def test_too_little_disk_space_is_reported_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10M", "tmpfs", folder], check=True)
    try:
        with pytest.raises(HostError, match="this build needs"):
            builder.build(plain(tmp_path), folder, NOW)
        assert list(folder.iterdir()) == []
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_second_build_of_a_variant_names_the_process_that_builds_it(tmp_path: Path, builds: Path) -> None:
    with store.lock(builds, "plain"), pytest.raises(HostError, match=f"process {os.getpid()}"):
        builder.build(plain(tmp_path), builds, NOW)


def test_what_a_crash_left_is_cleaned_by_the_next_build(tmp_path: Path, builds: Path) -> None:
    crashed = builds / "plain" / "20261121T000000Z-00000000"
    (crashed / "scratch" / "tree").mkdir(parents=True)
    (crashed / "build.log").write_text("the last line")
    store.set_state(crashed, store.RUNNING)
    builder.build(plain(tmp_path), builds, NOW)
    assert left_behind(builds) == []
    assert (crashed / "build.log").read_text() == "the last line"
    assert [found.state for found in store.builds(builds, "plain")] == ["failed", "complete"]


@pytest.mark.parametrize(
    "phase", ["install.d", *(pytest.param(f"{phase}.d", marks=pytest.mark.slow) for phase in OTHER_PHASES)]
)
def test_sigterm_leaves_nothing_behind_in_any_stage(tmp_path: Path, builds: Path, phase: str) -> None:
    program = interrupted(catalog_file(tmp_path, f"hang-{phase}"), builds, phase, signal.SIGTERM)
    assert program.returncode == 143
    assert left_behind(builds) == []
    assert [found.state for found in store.builds(builds, "plain")] == ["failed"]


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, builds: Path) -> None:
    program = interrupted(catalog_file(tmp_path, "hang-install.d"), builds, "install.d", signal.SIGINT)
    assert program.returncode == 130
    assert left_behind(builds) == []
    assert [found.state for found in store.builds(builds, "plain")] == ["failed"]


@pytest.mark.slow
def test_under_nohup_a_build_outlives_its_terminal(tmp_path: Path, builds: Path) -> None:
    argv = ["nohup", sys.executable, "-m", "invoke", "--search-root", str(PROJECT), "build", "plain"]
    argv += ["--catalog", str(catalog_file(tmp_path, "hang-install.d")), "--builds", str(builds)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        wait_for_phase(builds, "install.d")
        child.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        still_there = child.poll() is None
        child.send_signal(signal.SIGTERM)
    assert still_there
    assert child.returncode == 143
    assert left_behind(builds) == []


@pytest.mark.slow
def test_a_reader_who_goes_away_does_not_break_off_the_build(tmp_path: Path, builds: Path) -> None:
    command = f"{sys.executable} -m invoke --search-root {PROJECT} build plain --verbose"
    command += f" --catalog {catalog_file(tmp_path)} --builds {builds} 2>&1 >/dev/null | head -n 1"
    subprocess.run(["sh", "-c", command], check=True, stdout=subprocess.DEVNULL, timeout=60)
    assert [found.state for found in store.builds(builds, "plain")] == ["complete"]


def test_sigkill_of_ourselves_ends_the_build_too_and_the_next_one_cleans_up(tmp_path: Path, builds: Path) -> None:
    program = interrupted(catalog_file(tmp_path, "hang-install.d"), builds, "install.d", signal.SIGKILL)
    assert program.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while any("scratch" not in left for left in left_behind(builds)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [left for left in left_behind(builds) if "scratch" not in left] == []
    builder.build(plain(tmp_path), builds, NOW)
    assert left_behind(builds) == []


def interrupted(images: Path, builds: Path, phase: str, number: int) -> "subprocess.CompletedProcess[bytes]":
    """`inv build plain`, sent a signal as soon as it is in a phase."""
    # In a shell's background these tests ignore SIGINT, and what they start would, too.
    argv = ["env", "--default-signal", sys.executable, "-m", "invoke", "--search-root", str(PROJECT), "build", "plain"]
    argv += ["--catalog", str(images), "--builds", str(builds)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        wait_for_phase(builds, phase)
        child.send_signal(number)
        out, _ = child.communicate(timeout=60)
    return subprocess.CompletedProcess(argv, child.returncode, out)


def wait_for_phase(builds: Path, phase: str) -> None:
    sign = f"hanging in {phase}"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if any(sign in log.read_text() for log in builds.glob("plain/*/build.log")):
            return
        time.sleep(0.05)
    raise AssertionError(f"the build never came to {phase}")


def test_a_corrupt_manifest_is_an_error_with_the_remedy_and_not_a_silent_fallback(tmp_path: Path, builds: Path) -> None:
    made = builder.build(plain(tmp_path), builds, NOW)
    (made.folder / "manifest.json").write_text('{"variant": "pl')
    argv = [sys.executable, "-m", "invoke", "--search-root", str(PROJECT), "verify", "plain"]
    argv += ["--catalog", str(catalog_file(tmp_path)), "--builds", str(builds)]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert result.returncode == 4
    assert "manifest.json" in result.stderr
    assert "build the variant again" in result.stderr


def test_stages_are_numbers_of_seconds(tmp_path: Path, builds: Path) -> None:
    made = builder.build(plain(tmp_path), builds, NOW)
    stages = json.loads((made.folder / "manifest.json").read_text())["stages"]
    assert all(isinstance(seconds, float) and seconds >= 0 for seconds in stages.values())
