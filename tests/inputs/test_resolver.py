"""The input files of a build, and their digests."""

import hashlib
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path

import pytest

from pipelines.build import fingerprint
from pipelines.catalog import loader, signing_keys
from pipelines.catalog.variant import Variant
from pipelines.inputs import resolver
from pipelines.reports import describe
from pipelines.util.errors import CatalogError, HostError

SHA256 = "0123456789abcdef" * 4
UBUNTU = 'distribution: ubuntu, release: "24.04", source: cloud-image'

Written = Callable[..., Variant]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """The one image of a catalog in a folder of its own, from the lines below its name."""

    def write(*lines: str) -> Variant:
        path = tmp_path / "images.yaml"
        text = "\n".join(f"    {line}" for line in ("disk: {size: 8GiB}", *lines))
        path.write_text(f"version: 1\nimages:\n  a:\n{text}\n")
        return loader.load(path).variants["a"]

    return write


def ubuntu(*rest: str) -> str:
    return f"base: {{{', '.join((UBUNTU, *rest))}}}"


def test_a_bootstrapped_image_takes_no_file_from_outside(written: Written) -> None:
    assert resolver.wanted(written("base: {distribution: debian, release: trixie}")) == {}


def test_ubuntus_checksums_must_be_signed_by_its_known_key(written: Written) -> None:
    sums = "https://images.example/SHA256SUMS"
    variant = written(ubuntu("url: https://images.example/noble.squashfs", f"sha256sums_url: {sums}"))
    (wanted,) = resolver.wanted(variant).values()
    known = signing_keys.default_key("ubuntu", "noble")
    assert known is not None
    assert (wanted.name, wanted.sums_url, wanted.signature_url) == ("noble.squashfs", sums, f"{sums}.gpg")
    assert (wanted.signed_by, wanted.keyring) == (known.fingerprint, known.keyring)


def test_a_key_of_ones_own_takes_the_place_of_the_distributions(written: Written, tmp_path: Path) -> None:
    own = f"signed_by: {'AB' * 20}"
    urls = ("url: https://images.example/x.qcow2", "sha256sums_url: https://images.example/SUMS")
    (wanted,) = resolver.wanted(written(ubuntu(*urls, own, "keyring: keys/mine.asc"))).values()
    assert (wanted.signed_by, wanted.keyring) == ("AB" * 20, tmp_path / "keys/mine.asc")


def test_a_distribution_without_a_known_key_needs_one_or_a_checksum(written: Written) -> None:
    debian = "distribution: debian, release: trixie, source: cloud-image"
    urls = "url: https://images.example/x.qcow2, sha256sums_url: https://images.example/SHA512SUMS"
    with pytest.raises(CatalogError) as caught:
        resolver.wanted(written(f"base: {{{debian}, {urls}}}"))
    assert "signature: none" in caught.value.what
    (wanted,) = resolver.wanted(written(f"base: {{{debian}, {urls}, signature: none}}")).values()
    assert wanted.signed_by is None


def test_a_local_image_may_be_checked_by_signed_checksums(written: Written, tmp_path: Path) -> None:
    sums = "sha256sums_url: https://images.example/SHA256SUMS"
    (signed,) = resolver.wanted(written(ubuntu("path: noble.squashfs", sums))).values()
    assert (signed.path, signed.sums_url) == (tmp_path / "noble.squashfs", "https://images.example/SHA256SUMS")
    assert signed.signed_by is not None
    (unsigned,) = resolver.wanted(written(ubuntu("path: noble.squashfs", sums, "signature: none"))).values()
    assert (unsigned.path, unsigned.sums_url, unsigned.signed_by) == (signed.path, signed.sums_url, None)


def test_a_key_that_we_know_needs_no_keyring(written: Written) -> None:
    rocky = signing_keys.default_key("rocky", "9")
    assert rocky is not None
    urls = ("url: https://images.example/x.qcow2", "sha256sums_url: https://images.example/SUMS")
    (wanted,) = resolver.wanted(written(ubuntu(*urls, f"signed_by: {rocky.fingerprint}"))).values()
    assert wanted.keyring == rocky.keyring


def test_a_pinned_checksum_needs_no_server(written: Written) -> None:
    variant = written(ubuntu("url: https://images.example/noble.squashfs", f"sha256: {SHA256}"))
    assert resolver.known(variant, None) == {resolver.BASE_IMAGE: SHA256}


def test_a_local_image_is_known_by_its_content_and_not_by_where_it_is(written: Written, tmp_path: Path) -> None:
    (tmp_path / "noble.squashfs").write_bytes(b"root")
    variant = written(ubuntu("path: noble.squashfs", "signature: none"))
    before = fingerprint.present(variant, tmp_path / "builds")
    assert resolver.known(variant, None)[resolver.BASE_IMAGE] == hashlib.sha256(b"root").hexdigest()
    (tmp_path / "elsewhere.squashfs").write_bytes(b"root")
    moved = written(ubuntu("path: elsewhere.squashfs", "signature: none"))
    assert fingerprint.present(moved, tmp_path / "builds").digest == before.digest
    (tmp_path / "elsewhere.squashfs").write_bytes(b"other root")
    assert fingerprint.present(moved, tmp_path / "builds").digest != before.digest


def test_the_keyring_of_nvidias_repository_is_fetched_from_beside_it(written: Written) -> None:
    variant = written(
        "base: {distribution: debian, release: trixie}",
        "driver: {source: nvidia-repo, branch: 580, modules: open}",
        f"nvidia_repository: {{url: http://mirror.example/cuda, keyring_sha256: {SHA256}}}",
    )
    wanted = resolver.wanted(variant)[resolver.KEYRING]
    assert (wanted.url, wanted.sha256) == ("http://mirror.example/cuda/cuda-keyring_1.1-1_all.deb", SHA256)


@pytest.mark.parametrize("distribution", ["rocky", "almalinux", "rhel"])
@pytest.mark.parametrize(("release", "key"), [("9", "D42D0685.pub"), ("10", "CDF6BA43.pub")])
def test_each_release_of_an_rpm_distribution_has_a_key_of_its_own(
    written: Written, distribution: str, release: str, key: str
) -> None:
    variant = written(
        f'base: {{distribution: {distribution}, release: "{release}", source: cloud-image, path: x, signature: none}}',
        f"driver: {{source: nvidia-repo}}\n    nvidia_repository: {{keyring_sha256: {SHA256}}}",
    )
    url = resolver.wanted(variant)[resolver.KEYRING].url or ""
    assert url.endswith(f"/rhel{release}/x86_64/{key}")


LOCAL = ("base: {distribution: debian, release: trixie}", "driver: {source: local, path: packages, modules: open}")


def test_local_packages_are_known_by_names_and_contents(written: Written, tmp_path: Path) -> None:
    variant = written(*LOCAL)
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages/driver.deb").write_bytes(b"1")
    first = resolver.known(variant, None)
    (tmp_path / "packages/README").write_text("no package")
    assert resolver.known(variant, None) == first
    (tmp_path / "packages/driver.deb").write_bytes(b"2")
    assert resolver.known(variant, None) != first
    collected = resolver.collect(variant, tmp_path / "cache")
    assert collected.files == {"DIB_NVIDIA_LOCAL": tmp_path / "packages"}


def test_a_missing_folder_of_packages_is_reported_before_the_build(written: Written, tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught:
        resolver.collect(written(*LOCAL), tmp_path / "cache")
    assert str(tmp_path / "packages") in caught.value.remedy


def test_what_cannot_be_read_here_is_not_known_here(written: Written, tmp_path: Path) -> None:
    """A folder in place of a file, a file in place of a folder: only a build fails of it."""
    (tmp_path / "packages").write_text("a file")
    (tmp_path / "folder").mkdir()
    assert resolver.known(written(*LOCAL), None) == {resolver.LOCAL_PACKAGES: ""}
    assert resolver.known(written(ubuntu("path: folder", "signature: none")), None) == {resolver.BASE_IMAGE: ""}


def test_what_is_shown_follows_the_content_and_names_the_folder(written: Written, tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    variant = written(*LOCAL)
    assert resolver.places(variant, tmp_path / "cache") == {"DIB_NVIDIA_LOCAL": tmp_path / "packages"}
    before = describe.of(variant, tmp_path / "builds", date(2026, 11, 22))
    (tmp_path / "packages/driver.deb").write_bytes(b"1")
    after = describe.of(variant, tmp_path / "builds", date(2026, 11, 22))
    changed = [name for name, layer in layers(before).items() if layers(after)[name] != layer]
    assert changed == ["driver", "variant"]


def layers(about: Mapping[str, object]) -> dict[str, str]:
    found = about["layers"]
    assert isinstance(found, dict)
    return found


def test_what_only_a_server_can_tell_is_taken_from_the_newest_build(written: Written) -> None:
    urls = ("url: https://images.example/current.squashfs", "sha256sums_url: https://images.example/SHA256SUMS")
    variant = written(ubuntu(*urls))
    assert resolver.known(variant, None) == {resolver.BASE_IMAGE: ""}
    newest = made({"url": "https://images.example/current.squashfs"}, {resolver.BASE_IMAGE: SHA256})
    assert resolver.known(variant, newest) == {resolver.BASE_IMAGE: SHA256}
    of_another = made({"url": "https://images.example/older.squashfs"}, {resolver.BASE_IMAGE: SHA256})
    assert resolver.known(variant, of_another) == {resolver.BASE_IMAGE: ""}


def made(base: dict[str, str], digests: dict[str, str]) -> "resolver.Manifest":
    return resolver.Manifest(
        variant="a",
        build_id="20261122T000000Z-abcdef01",
        fingerprint="f" * 64,
        created_at="2026-11-22T00:00:00Z",
        base=base,
        kernel="6.8",
        driver={},
        cuda={},
        artifacts=(),
        inputs=digests,
    )


@pytest.mark.parametrize("distribution", ["rocky", "almalinux"])
def test_each_distribution_names_its_signatures_in_its_own_way(written: Written, distribution: str) -> None:
    base = f'base: {{distribution: {distribution}, release: "9", source: cloud-image, '
    variant = written(base + "url: https://r.example/x.qcow2, sha256sums_url: https://r.example/CHECKSUM}")
    (wanted,) = resolver.wanted(variant).values()
    assert wanted.signature_url == "https://r.example/CHECKSUM.asc"


def test_checksums_may_be_signed_in_their_own_file(written: Written) -> None:
    urls = ("url: https://images.example/x.qcow2", "sha256sums_url: https://images.example/SUMS", "signature: inline")
    (wanted,) = resolver.wanted(written(ubuntu(*urls))).values()
    assert wanted.signature_url is None
    assert wanted.signed_by is not None


def test_a_file_url_is_known_by_the_files_content(written: Written, tmp_path: Path) -> None:
    (tmp_path / "a noble.squashfs").write_bytes(b"root")
    variant = written(ubuntu(f"url: 'file://{tmp_path}/a%20noble.squashfs'", "signature: none"))
    assert resolver.known(variant, None)[resolver.BASE_IMAGE] == hashlib.sha256(b"root").hexdigest()
