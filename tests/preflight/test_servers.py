"""Servers are asked for the files that a build downloads first."""

import shutil
from pathlib import Path

import pytest

from pipelines.catalog.variant import Variant
from pipelines.preflight import servers
from pipelines.preflight.checks import Finding, require, run
from pipelines.util.errors import HostError
from tests.support.host_fixtures import DEAD, variant


def mirrors_are(distribution: str, security: str) -> str:
    return f"environment: {{DIB_DISTRIBUTION_MIRROR: '{distribution}', DIB_DEBIAN_SECURITY_MIRROR: '{security}'}}"


def found(wanted: Variant, etc: Path) -> dict[str, Finding]:
    return {finding.name: finding for finding in run({wanted.name: tuple(servers.needed(wanted, etc))})}


def lending(tmp_path: Path, uri: str) -> Path:
    """/etc of a Debian host with one mirror for everything."""
    etc = tmp_path / "etc"
    (etc / "apt").mkdir(parents=True)
    (etc / "os-release").write_text("ID=debian\nVERSION_CODENAME=bookworm\n")
    lines = [f"deb {uri} {suite} main" for suite in ("bookworm", "bookworm-security")]
    (etc / "apt/sources.list").write_text("\n".join(lines))
    return etc


def test_a_mirror_that_has_all_suites_of_the_release_is_fit(tmp_path: Path, mirror: str) -> None:
    findings = found(variant(tmp_path, mirrors_are(mirror, f"{mirror}/")), tmp_path)
    assert {name: finding.fit for name, finding in findings.items()} == {
        "trixie packages": True,
        "trixie-updates packages": True,
        "trixie-security packages": True,
    }


def test_a_mirror_that_answers_and_lacks_the_release_is_fatal(tmp_path: Path, mirror: str) -> None:
    shutil.rmtree(tmp_path / "mirror/dists/trixie")
    finding = found(variant(tmp_path, mirrors_are(mirror, mirror)), tmp_path)["trixie packages"]
    assert finding.breaks
    assert f"{mirror}/dists/trixie/InRelease" in finding.detail
    assert "404" in finding.detail
    assert finding.remedy


def test_a_mirror_without_security_updates_is_fatal(tmp_path: Path, mirror: str) -> None:
    shutil.rmtree(tmp_path / "mirror/dists/trixie-security")
    findings = found(variant(tmp_path, mirrors_are(mirror, mirror)), tmp_path)
    assert [name for name, finding in findings.items() if finding.breaks] == ["trixie-security packages"]


def test_a_dead_mirror_is_fatal(tmp_path: Path) -> None:
    finding = found(variant(tmp_path, mirrors_are(DEAD, DEAD)), tmp_path)["trixie packages"]
    assert finding.breaks
    assert "127.0.0.1" in finding.detail


def test_the_hosts_mirror_is_asked_for_the_guests_release(tmp_path: Path, mirror: str) -> None:
    finding = found(variant(tmp_path), lending(tmp_path, mirror))["trixie packages"]
    assert finding.fit
    assert f"{mirror}/dists/trixie/" in finding.detail


def test_the_catalog_has_the_last_word_on_the_mirror(tmp_path: Path, mirror: str) -> None:
    findings = found(variant(tmp_path, mirrors_are(mirror, mirror)), lending(tmp_path, DEAD))
    assert [name for name, finding in findings.items() if finding.breaks] == []


def test_of_diskimage_builders_default_nothing_is_claimed(tmp_path: Path) -> None:
    findings = found(variant(tmp_path), tmp_path)
    assert {finding.fit for finding in findings.values()} == {None}
    assert "DIB_DISTRIBUTION_MIRROR is unset" in findings["debian mirror"].detail
    assert "DIB_DEBIAN_SECURITY_MIRROR is unset" in findings["trixie-security mirror"].detail


def test_a_mirror_with_a_password_is_reported_without_it_and_with_the_remedy(tmp_path: Path) -> None:
    findings = found(variant(tmp_path), lending(tmp_path, "http://me:hunter2@m.example/debian"))
    finding = findings["mirror with a password"]
    assert finding.fit is False
    assert "DIB_" in finding.remedy
    assert "hunter2" not in str(findings)


def cloud_image(mirror: str) -> str:
    folder = f"{mirror}/noble"
    return (
        f"distribution: ubuntu, release: '24.04', source: cloud-image, url: '{folder}/noble.squashfs', "
        f"sha256sums_url: '{folder}/SHA256SUMS'"
    )


@pytest.mark.parametrize("missing", ["noble.squashfs", "SHA256SUMS", "SHA256SUMS.gpg"])
def test_a_cloud_image_or_its_checksums_that_are_gone_are_fatal(tmp_path: Path, mirror: str, missing: str) -> None:
    folder = tmp_path / "mirror/noble"
    folder.mkdir()
    for name in ("noble.squashfs", "SHA256SUMS", "SHA256SUMS.gpg"):
        (folder / name).touch()
    wanted = variant(tmp_path, base=cloud_image(mirror))
    assert [finding for finding in found(wanted, tmp_path).values() if finding.breaks] == []
    (folder / missing).unlink()
    (broken,) = (finding for finding in found(wanted, tmp_path).values() if finding.breaks)
    assert missing in broken.detail


def test_only_the_images_that_cannot_be_built_are_named(tmp_path: Path, mirror: str) -> None:
    good, bad = variant(tmp_path, mirrors_are(mirror, mirror)), variant(tmp_path, mirrors_are(mirror, DEAD))
    findings = run({"good": tuple(servers.needed(good, tmp_path)), "bad": tuple(servers.needed(bad, tmp_path))})
    assert {finding.images for finding in findings} == {("good", "bad"), ("good",), ("bad",)}
    with pytest.raises(HostError, match=r"^bad cannot be built: trixie-security packages: "):
        require(findings)
