"""Builds on this host that are used instead of new ones. diskimage-builder is a fake on PATH."""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.artifacts import store
from pipelines.artifacts.store import Build
from pipelines.build import fingerprint, importer
from pipelines.catalog import loader
from pipelines.catalog.variant import Variant
from pipelines.diskimage import qemu
from pipelines.util import files
from pipelines.util.errors import VerifyError
from pipelines.workflows import build as workflows_build
from pipelines.workflows import local_builds
from tests.support.cloud_fixtures import make_variant, verified
from tests.support.fakes.web_server import WebServer, answer, serving
from tests.support.paths import FAKES
from tests.support.ready_image import converted, gpt_disk
from tests.support.ready_image import variant as ready_variant

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
INDEX = "main/binary-amd64/Packages"
ARCHIVE = "/debian/dists/trixie-security"


def now() -> datetime:
    return NOW


@pytest.fixture
def server() -> Iterator[WebServer]:
    """A package repository, whose one index is as the builds found it."""
    with serving() as running:
        running.put(f"{ARCHIVE}/InRelease", listing("a"))
        yield running


def listing(digit: str) -> bytes:
    return f"SHA256:\n {digit * 64} 123 {INDEX}\n".encode()


class Folder:
    """The builds of one variant, all made from the server's package repository."""

    def __init__(self, variant: Variant, root: Path, server: WebServer, make: Callable[[Variant], Build]) -> None:
        self.variant, self.root, self._make = variant, root, make
        self._archives = {f"{server.url}{ARCHIVE}/InRelease {INDEX}": "a" * 64}

    def has(self, *, good: bool | None = True, **changes: object) -> Build:
        """A build more, newer than the others, of what the variant is now but for the changes to its manifest."""
        build = self._make(self.variant)
        about = replace(build.manifest(), **{"archives": self._archives} | changes)
        files.write_json(build.folder / "manifest.json", about)
        present = fingerprint.present(self.variant, self.root)  # which looks at the newest build's inputs
        fields = {"fingerprint": present.digest, "parts": present.parts} | changes
        files.write_json(build.folder / "manifest.json", replace(about, **fields))
        if good is not None:
            files.write_json(build.folder / "verify.json", verified(build, passed=good))
        return build

    def reusable(self) -> tuple[str | None, str]:
        """The ID of the build that can be used instead of a new one, or why none can."""
        found = local_builds.reusable(self.variant, self.root, NOW)
        return (found.build.build_id if found.build else None), found.why_not

    def built(self) -> list[str]:
        """The builds that are there, oldest first."""
        return [build.build_id for build in store.builds(self.root, self.variant.name)]


@pytest.fixture
def folder(tmp_path: Path, server: WebServer, make_build: Callable[[Variant], Build]) -> Folder:
    return Folder(make_variant(), tmp_path / "builds", server, make_build)


# Which build is reusable


def test_without_a_build_one_is_made(folder: Folder) -> None:
    assert folder.reusable() == (None, "no build yet")


def test_a_good_build_of_what_is_wanted_is_reusable(folder: Folder) -> None:
    build = folder.has()
    assert folder.reusable() == (build.build_id, "")


def test_a_build_that_was_never_verified_is_reusable(folder: Folder) -> None:
    build = folder.has(good=None)
    assert folder.reusable() == (build.build_id, "")


def test_the_input_that_changed_is_named(folder: Folder) -> None:
    parts = dict(fingerprint.present(folder.variant, folder.root).parts)
    folder.has(fingerprint="0" * 64, parts=parts | {"element target-kernel": "0" * 64})
    assert folder.reusable() == (None, "element target-kernel changed")


def test_a_package_repository_that_changed_is_named(folder: Folder, server: WebServer) -> None:
    folder.has()
    server.put(f"{ARCHIVE}/InRelease", listing("b"))
    assert folder.reusable() == (None, f"{server.url}{ARCHIVE} main has changed")


def test_a_package_repository_that_cannot_be_checked_counts_as_changed(folder: Folder, server: WebServer) -> None:
    folder.has()
    server.on(ARCHIVE, answer(403))
    reason = f"{server.url}{ARCHIVE} cannot be checked: the server answered 403 Forbidden"
    assert folder.reusable() == (None, reason)


def test_a_build_that_does_not_record_its_package_repositories_is_not_reusable(folder: Folder) -> None:
    build = folder.has(archives={})
    assert folder.reusable() == (None, f"{build.build_id} does not record its package repositories")


def test_a_build_that_failed_verification_is_not_reusable(folder: Folder) -> None:
    build = folder.has(good=False)
    assert folder.reusable() == (None, f"{build.build_id} failed verification")


def test_a_good_build_is_reusable_when_a_later_one_failed_verification(folder: Folder) -> None:
    build = folder.has()
    folder.has(good=False)
    assert folder.reusable() == (build.build_id, "")


def test_an_older_build_of_what_is_wanted_again_is_not_reusable(folder: Folder) -> None:
    # Whatever takes "the newest build" would take the other one.
    folder.has()
    folder.has(fingerprint="0" * 64, parts={})
    assert folder.reusable() == (None, "images.yaml or an element changed")


def test_a_build_that_is_too_old_is_not_reusable(folder: Folder) -> None:
    folder.variant = replace(folder.variant, rebuild_age=timedelta(hours=36))
    folder.has(created_at=(NOW - timedelta(hours=36)).isoformat())
    assert folder.reusable() == (None, "older than rebuild_age 36h")


@pytest.mark.parametrize("lose", [Path.unlink, lambda image: os.truncate(image, 1000)], ids=["deleted", "cut"])
def test_a_build_without_its_image_is_not_reusable(folder: Folder, lose: Callable[[Path], None]) -> None:
    build = folder.has()
    lose(build.image())
    assert folder.reusable() == (None, f"the image of {build.build_id} is missing or incomplete: {build.image()}")


def test_a_damaged_manifest_is_a_reason_to_build(folder: Folder) -> None:
    build = folder.has()
    (build.folder / "manifest.json").write_text("{")
    build_id, why_not = folder.reusable()
    assert build_id is None
    assert "manifest.json cannot be used" in why_not


# Inputs


@pytest.fixture
def of_image(tmp_path: Path, folder: Folder, server: WebServer) -> Folder:
    """Builds from a cloud image at an address where its maker may put another one; the list is checked by nobody."""
    list_url = server.put("/current/SUMS", f"{'1' * 64} *noble.squashfs\n".encode())
    base = (
        f"{{distribution: ubuntu, release: '24.04', source: cloud-image, url: '{server.url}/current/noble.squashfs', "
    )
    base += f"sha256sums_url: '{list_url}', signature: none}}"
    (tmp_path / "images.yaml").write_text(f"version: 1\nimages:\n  a:\n    base: {base}\n    disk: {{size: 8GiB}}\n")
    folder.variant = loader.load(tmp_path / "images.yaml").variants["a"]
    return folder


def from_image(folder: Folder, sha256: str) -> Build:
    """A build from the image with this digest."""
    assert folder.variant.base is not None
    base = {"distribution": "ubuntu", "release": "24.04", "architecture": "amd64", "url": folder.variant.base.url}
    return folder.has(base=base, inputs={"base image": sha256})


def test_a_base_image_is_known_by_its_makers_list_and_not_downloaded(of_image: Folder, server: WebServer) -> None:
    build = from_image(of_image, "1" * 64)
    assert of_image.reusable() == (build.build_id, "")
    assert {path for _, path, _ in server.seen} == {"/current/SUMS", f"{ARCHIVE}/InRelease"}


def test_another_base_image_at_the_same_address_is_a_change(of_image: Folder, server: WebServer) -> None:
    from_image(of_image, "1" * 64)
    server.put("/current/SUMS", f"{'2' * 64} *noble.squashfs\n".encode())
    assert of_image.reusable() == (None, "base image changed")


def test_a_checksum_list_that_cannot_be_downloaded_is_a_reason_to_build(of_image: Folder, server: WebServer) -> None:
    from_image(of_image, "1" * 64)
    server.on("SUMS", answer(404))
    assert of_image.reusable() == (None, f"{server.url}/current/SUMS: the server answered 404 Not Found")


def test_an_image_that_has_only_a_sha512_is_known_by_what_was_downloaded(of_image: Folder, server: WebServer) -> None:
    sha512 = hashlib.sha512(b"image").hexdigest()
    server.put("/current/SUMS", f"{sha512} *noble.squashfs\n".encode())
    build = from_image(of_image, hashlib.sha256(b"image").hexdigest())
    assert of_image.reusable() == (None, "noble.squashfs is not on this host, and only its SHA-512 is known")
    cached = of_image.root / f".cache/downloads/{sha512}/noble.squashfs"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"image")
    assert of_image.reusable() == (build.build_id, "")


def test_an_import_is_reusable_while_its_fingerprint_is_the_same(tmp_path: Path) -> None:
    wanted = ready_variant(converted(gpt_disk(tmp_path / "windows.raw"), "qcow2"))
    build = importer.build(wanted, tmp_path / "builds", NOW)
    found = local_builds.reusable(wanted, tmp_path / "builds", NOW)
    assert (found.build and found.build.build_id, found.why_not) == (build.build_id, "")
    larger = replace(wanted, disk=replace(wanted.disk, size=2 * wanted.disk.size))
    assert local_builds.reusable(larger, tmp_path / "builds", NOW).why_not == "disk changed"


# What `inv build` does


@pytest.fixture
def fake_builder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk-image-create whose images fail verification."""
    monkeypatch.setenv("PATH", f"{FAKES}:{os.environ['PATH']}")


def run_build(folder: Folder, **options: bool) -> None:
    workflows_build.build([folder.variant], folder.root, now, **options)


def test_what_has_not_changed_is_not_built_again(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    build = folder.has()
    run_build(folder)
    assert folder.built() == [build.build_id]
    reported = " ".join(capsys.readouterr().out.split())
    assert f"nothing has changed since {build.build_id}" in reported
    assert f"./inv build {folder.variant.name} --force" in reported


@pytest.mark.usefixtures("fake_builder")
@pytest.mark.parametrize("asked", [{"force": True}, {"cached": False}], ids=["--force", "--no-cache"])
def test_what_has_not_changed_is_built_on_request(folder: Folder, asked: dict[str, bool]) -> None:
    folder.has()
    with pytest.raises(VerifyError):
        run_build(folder, **asked)
    assert len(folder.built()) == 2


@pytest.mark.usefixtures("fake_builder")
def test_what_changed_is_built_and_the_operator_reads_why(
    folder: Folder, server: WebServer, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.has()
    server.put(f"{ARCHIVE}/InRelease", listing("b"))
    with pytest.raises(VerifyError):
        run_build(folder)
    assert len(folder.built()) == 2
    reported = "".join(capsys.readouterr().err.split())
    assert f"building:{server.url}{ARCHIVE}mainhaschanged" in reported


def test_a_reusable_build_that_was_never_verified_is_verified(folder: Folder) -> None:
    build = folder.has(good=None)  # random bytes: real verification refuses them
    with pytest.raises(VerifyError, match=f"{build.build_id} is not good"):
        run_build(folder)
    assert folder.built() == [build.build_id]
    assert build.verification() is not None


@pytest.fixture
def broken_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A QEMU that does not start."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "qemu-system-x86_64").write_text("#!/bin/sh\necho no such machine >&2\nexit 1\n")
    (programs / "qemu-system-x86_64").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    qemu.kvm_works.cache_clear()
    yield
    qemu.kvm_works.cache_clear()


@pytest.mark.usefixtures("broken_qemu")
def test_a_reusable_build_is_booted_on_request(folder: Folder) -> None:
    build = folder.has()
    with pytest.raises(VerifyError, match="no such machine"):
        run_build(folder, boot=True)
    assert folder.built() == [build.build_id]
