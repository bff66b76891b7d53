"""Signatures count only when they are good and by the pinned key."""

from pathlib import Path

import pytest

from pipelines.inputs import gpg
from pipelines.util.errors import BuildError, CatalogError, HostError
from tests.support.openpgp import Signer

TEXT = "0123  image.qcow2\n"


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    path = tmp_path / "SHA256SUMS"
    path.write_text(TEXT)
    return path


def refused(data: Path, signature: Path | None, fingerprint: str, keyring: Path) -> BuildError:
    with pytest.raises(BuildError) as caught:
        gpg.verify(data, signature, fingerprint, keyring=keyring)
    assert caught.value.remedy
    return caught.value


def test_what_the_pinned_key_signed_is_good(signer: Signer, maker: str, sums: Path) -> None:
    signature = signer.detached(sums, maker)
    assert gpg.verify(sums, signature, maker, keyring=signer.keyring(maker)) == TEXT.encode()


def test_an_armoured_keyring_does_too(signer: Signer, maker: str, sums: Path) -> None:
    signature = signer.detached(sums, maker)
    assert gpg.verify(sums, signature, maker.lower(), keyring=signer.keyring(maker, armour=True)) == TEXT.encode()


def test_the_keyring_of_many_keys_vouches_for_the_pinned_one_only(signer: Signer, maker: str, sums: Path) -> None:
    other = signer.key("other")
    error = refused(sums, signer.detached(sums, other), maker, signer.keyring(maker, other))
    assert error.what == f"SHA256SUMS is signed by {other}, not by the pinned key {maker}"


def test_a_signature_by_an_unknown_key_is_refused_with_its_fingerprint(signer: Signer, maker: str, sums: Path) -> None:
    other = signer.key("other")
    assert other in refused(sums, signer.detached(sums, other), maker, signer.keyring(maker)).what


def test_a_changed_file_is_refused(signer: Signer, maker: str, sums: Path) -> None:
    signature = signer.detached(sums, maker)
    sums.write_text(TEXT.replace("0", "f"))
    assert "was changed after it was signed" in refused(sums, signature, maker, signer.keyring(maker)).what


def test_something_that_is_no_signature_is_refused(signer: Signer, maker: str, sums: Path, tmp_path: Path) -> None:
    nonsense = tmp_path / "SHA256SUMS.gpg"
    nonsense.write_text("<html>404</html>")
    assert "has no signature" in refused(sums, nonsense, maker, signer.keyring(maker)).what


def test_an_expired_key_is_reported_as_expired(signer: Signer, sums: Path) -> None:
    expired = signer.key("expired", created="20200101T000000", expires="1y")
    signature = signer.detached(sums, expired, at="20200601T000000")
    error = refused(sums, signature, expired, signer.keyring(expired))
    assert "signed by a key that has expired" in error.what
    assert "renewed" in error.remedy


def test_a_revoked_key_is_reported_as_revoked(signer: Signer, sums: Path) -> None:
    revoked = signer.key("revoked")
    signature = signer.detached(sums, revoked)
    signer.revoke(revoked)
    assert "revoked" in refused(sums, signature, revoked, signer.keyring(revoked)).what


def test_a_signature_over_sha1_proves_nothing(signer: Signer, maker: str, sums: Path) -> None:
    signature = signer.detached(sums, maker, digest="SHA1")
    assert "signed with SHA-1" in refused(sums, signature, maker, signer.keyring(maker)).what


def test_of_two_signatures_one_by_the_pinned_key_is_enough(signer: Signer, maker: str, sums: Path) -> None:
    signature = signer.detached(sums, maker, signer.key("other"))
    assert gpg.verify(sums, signature, maker, keyring=signer.keyring(maker)) == TEXT.encode()


def test_a_signing_subkey_may_be_pinned_by_either_fingerprint(signer: Signer, sums: Path) -> None:
    primary = signer.key("with-subkey")
    subkey = signer.subkey(primary)
    signature = signer.detached(sums, f"{subkey}!")
    for pinned in (primary, subkey):
        assert gpg.verify(sums, signature, pinned, keyring=signer.keyring(primary)) == TEXT.encode()


def test_only_what_is_inside_an_inline_signature_counts(signer: Signer, maker: str, sums: Path, tmp_path: Path) -> None:
    inline = signer.inline(sums, maker)
    wrapped = tmp_path / "CHECKSUM"
    wrapped.write_text("ffff  image.qcow2\n" + inline.read_text() + "ffff  image.qcow2\n")
    assert gpg.verify(inline, None, maker, keyring=signer.keyring(maker)) == TEXT.encode()
    assert gpg.verify(wrapped, None, maker, keyring=signer.keyring(maker)) == TEXT.encode()


def test_a_changed_inline_text_is_refused(signer: Signer, maker: str, sums: Path) -> None:
    inline = signer.inline(sums, maker)
    inline.write_text(inline.read_text().replace("image", "imagf"))
    assert "was changed" in refused(inline, None, maker, signer.keyring(maker)).what


def test_a_file_that_should_be_signed_inline_and_is_not_is_refused(signer: Signer, maker: str, sums: Path) -> None:
    assert "has no signature" in refused(sums, None, maker, signer.keyring(maker)).what


def test_two_inline_texts_in_one_file_are_refused(signer: Signer, maker: str, sums: Path, tmp_path: Path) -> None:
    text = signer.inline(sums, maker).read_text()
    twice = tmp_path / "twice"
    twice.write_text(text + text)
    assert refused(twice, None, maker, signer.keyring(maker))


def test_a_keyring_without_the_pinned_key_is_a_mistake_of_the_catalog(signer: Signer, maker: str, sums: Path) -> None:
    other = signer.key("other")
    with pytest.raises(CatalogError, match=f"does not have the key {maker}; it has: {other}"):
        gpg.verify(sums, signer.detached(sums, maker), maker, keyring=signer.keyring(other))


def test_a_keyring_that_does_not_exist_is_a_mistake_of_the_catalog(maker: str, sums: Path, tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"mine\.asc does not exist"):
        gpg.verify(sums, sums, maker, keyring=tmp_path / "mine.asc")


def test_without_gpg_its_package_is_named(
    maker: str, sums: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.util.process.search_path", lambda: str(tmp_path))
    with pytest.raises(HostError) as caught:
        gpg.verify(sums, sums, maker, keyring=sums)
    assert caught.value.remedy == "apt-get install gpg"
