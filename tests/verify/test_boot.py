"""Boot of an image, with a fake QEMU on PATH."""

import base64
import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pipelines.diskimage import qemu
from pipelines.util.errors import HostError
from pipelines.verify import boot, boot_report, guest_probe
from pipelines.verify.boot import report_in
from tests.support.boot_reports import EXPECTATION, GIB, REPORT
from tests.support.small_image import run


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
