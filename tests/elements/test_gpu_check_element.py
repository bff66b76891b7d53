"""Check of the GPUs at first boot."""

import configparser
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.chroot import Chroot
from tests.support.paths import ELEMENTS

ELEMENT = ELEMENTS / "gpu-check"
ENABLE = ELEMENT / "post-install.d/70-enable-first-boot"
UNIT = ELEMENT / "static/usr/lib/systemd/system/gpu-check.service"
INSTANCE, DONE = "/var/lib/cloud/data/instance-id", "/var/lib/gpu-check/done"


@pytest.fixture
def chroot(tmp_path: Path) -> Chroot:
    """A guest with gpu-check, as install-static leaves it."""
    guest = Chroot(tmp_path)
    guest.file("/usr/bin/gpu-check", (ELEMENT / "static/usr/bin/gpu-check").read_text())
    guest.program("systemctl", 'echo "systemctl $*"')
    return guest


def unit() -> configparser.SectionProxy:
    """The service's own section."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(UNIT)
    return parser["Service"]


def ended(guest: Chroot, tmp_path: Path, asked: str) -> "subprocess.CompletedProcess[str]":
    """How the phase ends, with gpu-check executable, as rsync leaves it."""
    script = tmp_path / "phase"
    script.write_text(f"chmod +x /usr/bin/gpu-check\n{ENABLE.read_text()}")
    return guest.run(script, DIB_GPU_CHECK_FIRST_BOOT=asked)


@pytest.mark.parametrize(("asked", "done"), [("1", "enable"), ("0", "disable")])
def test_the_first_boot_checks_only_where_that_is_asked_for(
    chroot: Chroot, tmp_path: Path, asked: str, done: str
) -> None:
    result = ended(chroot, tmp_path, asked)
    assert (result.returncode, f"systemctl {done} gpu-check.service" in result.stdout) == (0, True)


def test_another_word_than_yes_or_no_fails(chroot: Chroot, tmp_path: Path) -> None:
    result = ended(chroot, tmp_path, "true")
    assert result.returncode != 0
    assert "DIB_GPU_CHECK_FIRST_BOOT must be 0 or 1, not 'true'" in result.stdout


def test_a_guest_whose_python_does_not_run_it_fails(chroot: Chroot, tmp_path: Path) -> None:
    chroot.file("/usr/bin/gpu-check", "#!/usr/bin/python3\nfrom nowhere import nothing\n")
    result = ended(chroot, tmp_path, "0")
    assert (result.returncode != 0, "nowhere" in result.stdout) == (True, True)


def test_a_server_checks_itself_once_and_one_from_its_snapshot_again(chroot: Chroot, tmp_path: Path) -> None:
    chroot.file(INSTANCE, "i-1\n")
    chroot.file(DONE)
    condition = f"if {unit()['ExecCondition']}; then echo checks; else echo does not; fi"
    checked, snapshot = unit()["ExecStartPost"].removeprefix("-"), f"echo i-2 > {INSTANCE}"
    script = tmp_path / "boots"
    script.write_text("\n".join([f"rm {DONE}", condition, checked, condition, snapshot, condition]))
    assert chroot.run(script).stdout.splitlines() == ["checks", "does not", "checks"]


def test_the_unit_waits_for_cloud_init_without_a_cycle(tmp_path: Path) -> None:
    # As cloud-init has them: its last stage and its target come after multi-user.target, which wants the target.
    (tmp_path / "cloud-init.target").write_text("[Unit]\nAfter=multi-user.target\n")
    final = "[Unit]\nAfter=multi-user.target\n[Service]\nType=oneshot\nExecStart=/bin/true\n"
    (tmp_path / "cloud-final.service").write_text(final)
    (tmp_path / "gpu-check.service").write_text(UNIT.read_text().replace("/usr/bin/gpu-check", "/bin/true"))
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(UNIT)
    wanted_by = parser["Install"]["WantedBy"]
    for target, wanted in ((wanted_by, "gpu-check.service"), ("multi-user.target", "cloud-init.target")):
        (tmp_path / f"{target}.wants").mkdir(exist_ok=True)
        (tmp_path / f"{target}.wants" / wanted).symlink_to(f"../{wanted}")
    (tmp_path / "cloud-init.target.wants").mkdir(exist_ok=True)
    (tmp_path / "cloud-init.target.wants/cloud-final.service").symlink_to("../cloud-final.service")
    environment = os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    argv = ["systemd-analyze", "verify", "--man=no", "gpu-check.service", "multi-user.target"]
    verified = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert [line for line in verified.stderr.splitlines() if "gpu-check" in line or "cycle" in line] == []
