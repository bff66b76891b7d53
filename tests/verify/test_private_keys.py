"""Check for private keys on a disk."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.verify import private_keys
from pipelines.verify.verifier import verify
from tests.support.disk_bytes import write_at
from tests.support.small_image import (
    PRIVATE_KEY,
    SIZE,
    VARIANT,
    Guest,
)
from tests.support.verification import examined, failed, rebuilt

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def test_each_key_is_found_once_wherever_a_block_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_keys, "_BLOCK", 128)
    (tmp_path / "disk").write_bytes(b"x" * 90 + PRIVATE_KEY + b"x" * 500 + PRIVATE_KEY)
    assert list(private_keys._private_keys(tmp_path / "disk")) == [90, 590 + len(PRIVATE_KEY)]


def test_a_private_key_in_free_space_is_found(made: Path, tmp_path: Path) -> None:
    build = rebuilt(made, tmp_path, lambda raw: write_at(raw, SIZE - 2**20, PRIVATE_KEY))
    assert "free space of the disk" in failed(verify(build, VARIANT, NOW))["private-keys"]


def test_a_program_that_reads_keys_is_no_key(tmp_path: Path) -> None:
    guest = Guest()
    guest.files["/usr/bin/ssh"] = b"\0-----BEGIN OPENSSH PRIVATE KEY-----\n\0-----END OPENSSH PRIVATE KEY-----\n\0"
    assert examined("private-keys", guest, tmp_path).passed
