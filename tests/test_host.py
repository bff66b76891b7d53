"""Is this host fit, and what does it lend to a build?"""

from pathlib import Path

import pytest

from pipelines import host
from pipelines.errors import HostError

DEB822 = """\
# the main archive
Types: deb
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main

Types: deb deb-src
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Types: deb
Enabled: no
URIs: http://disabled.example/debian
Suites: bookworm
"""


def etc(tmp_path: Path, *, release: str = "debian", one_line: str = "", deb822: str = "") -> Path:
    (tmp_path / "apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "os-release").write_text(f'ID={release}\nVERSION_CODENAME="bookworm"\n')
    (tmp_path / "apt/sources.list").write_text(one_line)
    (tmp_path / "apt/sources.list.d/debian.sources").write_text(deb822)
    return tmp_path


def test_mirrors_come_from_the_hosts_deb822_sources(tmp_path: Path) -> None:
    assert host.mirrors("debian", etc(tmp_path, deb822=DEB822)) == {
        "DIB_DISTRIBUTION_MIRROR": "http://mirror.example/debian",
        "DIB_DEBIAN_SECURITY_MIRROR": "http://mirror.example/debian-security",
    }


def test_mirrors_come_from_one_line_sources_with_options(tmp_path: Path) -> None:
    text = "# deb http://no.example/d bookworm main\ndeb [arch=amd64 trusted=yes] http://m.example/d bookworm main\n"
    assert host.mirrors("debian", etc(tmp_path, one_line=text)) == {"DIB_DISTRIBUTION_MIRROR": "http://m.example/d"}


def test_a_guest_of_another_distribution_gets_no_mirror_of_the_host(tmp_path: Path) -> None:
    assert host.mirrors("ubuntu", etc(tmp_path, deb822=DEB822)) == {}


def test_a_host_of_another_distribution_lends_no_mirror(tmp_path: Path) -> None:
    assert host.mirrors("debian", etc(tmp_path, release="fedora", deb822=DEB822)) == {}


def test_every_missing_program_is_named_with_one_command_that_installs_them() -> None:
    tools = {"no-such-a": ("package-a", ""), "no-such-b|no-such-c": ("package-b", ""), "sh": ("dash", "")}
    with pytest.raises(HostError, match="no-such-a, no-such-b") as caught:
        host.require_tools(tools)
    assert caught.value.remedy == "apt-get install package-a package-b"


def test_one_of_two_alternative_programs_is_enough() -> None:
    host.require_tools({"no-such-program|sh": ("dash", "")})


def test_too_little_space_is_said_before_a_build(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="GiB free; this build needs") as caught:
        host.require_space(tmp_path, 2**60)
    assert "--builds" in caught.value.remedy


def test_doctor_finds_too_little_space_fatal_and_says_what_to_do(tmp_path: Path) -> None:
    findings = {finding.name: finding for finding in host.examine(tmp_path / "not-yet-there", 2**60, ())}
    space = findings["disk space"]
    assert (space.fit, space.fatal) == (False, True)
    assert space.remedy


def test_doctor_probes_kvm_and_says_what_it_means() -> None:
    findings = {finding.name: finding for finding in host.examine(Path("/"), 1, ())}
    assert "probed" in findings["KVM"].detail
    assert not findings["KVM"].fatal


def test_doctor_finds_a_dead_mirror_fatal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = {"DIB_DISTRIBUTION_MIRROR": "http://127.0.0.1:9/debian"}
    monkeypatch.setattr(host, "mirrors", lambda _: dead)
    finding = {finding.name: finding for finding in host.examine(tmp_path, 1, ["debian"])}["debian mirror"]
    assert (finding.fit, finding.fatal) == (False, True)
    assert "127.0.0.1:9" in finding.detail
