"""What makes a host unfit is reported before a build starts, with the remedies."""

import os
import platform
from pathlib import Path

import pytest

from pipelines.preflight import preflight
from pipelines.util.errors import HostError
from tests.support.host_fixtures import DEAD, variant

LOCAL = f"environment: {{DIB_DISTRIBUTION_MIRROR: '{DEAD}', DIB_DEBIAN_SECURITY_MIRROR: '{DEAD}'}}"


@pytest.fixture
def crippled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host whose unshare is refused, as in a container without rights."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "unshare").write_text(
        "#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2; exit 1\n"
    )
    (programs / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return programs


def test_a_fit_host_lets_a_build_start(tmp_path: Path) -> None:
    preflight.require(variant(tmp_path), tmp_path)


def test_a_build_does_not_ask_the_servers_that_it_is_about_to_ask(tmp_path: Path) -> None:
    preflight.require(variant(tmp_path, LOCAL), tmp_path)


def test_a_build_without_namespaces_is_refused_with_the_reason_and_the_remedy(crippled: Path) -> None:
    with pytest.raises(HostError, match=r"namespaces: .*Operation not permitted") as caught:
        preflight.require(variant(crippled), crippled)
    assert "CAP_SYS_ADMIN" in caught.value.remedy


def test_everything_that_is_not_fit_is_named_at_once(crippled: Path) -> None:
    with pytest.raises(HostError) as caught:
        preflight.require(variant(crippled), Path("/dev/null"))
    assert "namespaces: " in caught.value.what
    assert "builds folder: " in caught.value.what
    assert "CAP_SYS_ADMIN" in caught.value.remedy
    assert "--builds DIR" in caught.value.remedy


def test_a_guest_whose_programs_do_not_run_here_is_refused(tmp_path: Path) -> None:
    other = "arm64" if platform.machine() == "x86_64" else "amd64"
    with pytest.raises(HostError, match=f"cannot run the programs of an {other} guest") as caught:
        preflight.require(
            variant(tmp_path, base=f"distribution: debian, release: trixie, architecture: {other}"), tmp_path
        )
    assert caught.value.exit_code == 6
    assert f"on an {other} host" in caught.value.remedy


def test_doctor_shows_what_a_build_requires_and_more(tmp_path: Path) -> None:
    plain = variant(tmp_path, LOCAL)
    shown = {finding.name: finding for finding in preflight.examine([plain], tmp_path)}
    assert {"sudo", "sfdisk", "root", "namespaces", "disk space", "builds folder", "trixie packages"} <= shown.keys()
    assert {"qemu-img", "mmdebstrap", "debootstrap", "loop devices", "device-mapper", "KVM"} <= shown.keys()
    assert shown["trixie packages"].breaks


def test_a_local_file_that_the_catalog_names_must_exist(tmp_path: Path) -> None:
    lines = "driver: {source: local, path: packages}, secrets: {module-signing-key: {env: NOT_SET_HERE},"
    lines += " module-signing-certificate: {file: certificate.pem}}"
    (tmp_path / "certificate.pem").write_text("a certificate")
    with pytest.raises(HostError) as caught:
        preflight.require(variant(tmp_path, lines), tmp_path)
    assert f"local packages: {tmp_path}/packages does not exist" in caught.value.what
    assert "module-signing-key: $NOT_SET_HERE is not set" in caught.value.what
    assert "certificate" not in caught.value.what


def test_missing_sudo_is_reported_once(crippled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (crippled / "sudo").write_text("#!/bin/sh\necho 'sudo: a password is required' >&2; exit 1\n")
    (crippled / "sudo").chmod(0o755)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(HostError) as caught:
        preflight.require(variant(crippled), crippled)
    assert caught.value.what == "plain cannot be built: root: not root, and sudo does not work without a password"
    assert "Run as root" in caught.value.remedy


def test_loop_devices_are_only_for_an_xfs_guest(tmp_path: Path) -> None:
    probes = {check.probe for check in preflight.preconditions(variant(tmp_path), tmp_path)}
    assert preflight.loop_devices not in probes
    xfs = variant(tmp_path, "disk: {size: 4GiB, filesystem: xfs}")
    assert preflight.loop_devices in {check.probe for check in preflight.preconditions(xfs, tmp_path)}


def test_a_host_without_device_mapper_builds_all_the_same() -> None:
    assert not preflight.device_mapper().breaks


def test_kvm_is_tested_and_stops_no_build() -> None:
    finding = preflight.kvm()
    assert "tested" in finding.detail
    assert not finding.breaks
