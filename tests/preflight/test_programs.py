"""Missing programs are reported with the packages that have them."""

import re
from pathlib import Path

import pytest

from pipelines.catalog.variant import Variant
from pipelines.preflight import programs
from pipelines.preflight.checks import Check, Finding, require, run
from pipelines.util.errors import HostError
from tests.support.host_fixtures import variant
from tests.support.paths import PROJECT

CLOUD_IMAGE = (
    "distribution: ubuntu, release: '24.04', source: cloud-image, url: 'http://127.0.0.1/n.squashfs', "
    "sha256sums_url: 'http://127.0.0.1/SHA256SUMS'"
)


def names(wanted: Variant) -> set[str]:
    return {finding.name for finding in run({wanted.name: tuple(programs.needed(wanted))})}


def test_a_guest_from_packages_needs_debootstrap_and_no_unsquashfs(tmp_path: Path) -> None:
    needed = names(variant(tmp_path))
    assert "debootstrap" in needed
    assert "unsquashfs" not in needed


def test_a_guest_from_a_cloud_image_needs_unsquashfs_and_no_debootstrap(tmp_path: Path) -> None:
    needed = names(variant(tmp_path, base=CLOUD_IMAGE))
    assert "unsquashfs" in needed
    assert "debootstrap" not in needed


def test_mkfs_xfs_is_only_for_an_xfs_guest(tmp_path: Path) -> None:
    assert "mkfs.xfs" not in names(variant(tmp_path))
    assert "mkfs.xfs" in names(variant(tmp_path, "disk: {size: 4GiB, filesystem: xfs}"))


def test_a_program_that_is_missing_comes_with_its_package() -> None:
    finding = programs.program("no-such-program", "its-package", "a purpose", True)
    assert finding.breaks
    assert finding.remedy == "apt-get install its-package"


def test_every_missing_program_is_named_with_one_command_that_installs_them() -> None:
    missing = [programs.program(name, f"package-{name[-1]}", "", True) for name in ("no-such-b", "no-such-a", "sh")]
    with pytest.raises(HostError, match=r"this host lacks no-such-b, no-such-a$") as caught:
        require(missing)
    assert caught.value.remedy == "apt-get install package-a package-b"


def test_what_is_only_worth_knowing_stops_no_build() -> None:
    require([programs.program("no-such-program", "its-package", "", False)])


SIGNED = "module-signing-key: {file: a.key}, module-signing-certificate: {file: a.crt}"
# Every Debian system has these.
ESSENTIAL = {"coreutils", "findutils", "tar", "util-linux"}


def test_inv_installs_every_package_that_a_missing_program_is_in(tmp_path: Path) -> None:
    kinds = (
        variant(tmp_path),
        variant(tmp_path, "disk: {size: 4GiB, filesystem: xfs}"),
        variant(tmp_path, base=CLOUD_IMAGE),
        variant(
            tmp_path, base=CLOUD_IMAGE.replace("ubuntu", "rocky").replace("24.04", "9").replace("squashfs", "qcow2")
        ),
        variant(tmp_path, f"driver: {{source: archive, modules: proprietary}}, secrets: {{{SIGNED}}}"),
    )
    listed = dict(re.findall(r"^(\S+) \[platform:dpkg ?(.*)\]$", (PROJECT / "bindep.txt").read_text(), re.MULTILINE))
    for_all = {name for name, profiles in listed.items() if not profiles} | ESSENTIAL
    assert {_package(check) for kind in kinds for check in programs.needed(kind)} - {""} <= for_all
    useful = {_package(check) for kind in kinds for check in programs.useful(kind)} - {""}
    assert {name: listed[name] for name in useful} == {"mmdebstrap": "", "qemu-system-x86": "boot"}
    assert listed["ovmf"] == "boot"
    required = re.compile(r'require\("[^"]+", "([^"]+)"\)')
    code = {package for path in (PROJECT / "pipelines").rglob("*.py") for package in required.findall(path.read_text())}
    assert code - for_all == {"qemu-system-x86"}


def _package(check: Check) -> str:
    return str(check.arguments[1]) if check.probe is programs.program else ""


@pytest.fixture
def mke2fs_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mke2fs on PATH that says what is written into its file."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "mke2fs").write_text(f"#!/bin/sh\ncat {tmp_path}/said >&2\n")
    (tmp_path / "mke2fs").chmod(0o755)
    return tmp_path / "said"


@pytest.mark.parametrize(
    ("version", "fit"),
    [("1.42.13 (17-May-2015)", False), ("1.46.5 (30-Dec-2021)", False), ("1.47.0 (5-Feb-2023)", True), ("2.0", True)],
)
def test_mke2fs_must_know_what_the_disk_element_asks_of_it(mke2fs_says: Path, version: str, fit: bool) -> None:
    mke2fs_says.write_text(f"mke2fs {version}\n\tUsing EXT2FS Library version {version}\n")
    finding: Finding = programs.mke2fs()
    assert finding.fit is fit
    assert bool(finding.remedy) is not fit


def test_firmware_for_boots_is_not_needed_for_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.diskimage.qemu._OVMF", tmp_path)
    finding = programs.firmware("secure")
    assert (finding.fit, finding.breaks) == (False, False)
    assert finding.remedy == "apt-get install ovmf"
