"""Checks of the guest against its build's manifest."""

import json
from datetime import UTC, datetime
from pathlib import Path

from tests.support.small_image import (
    KERNEL,
    Guest,
    package,
)
from tests.support.verification import refusal

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def test_an_identity_of_another_build_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.files["/etc/gpu-image.json"] = json.dumps({"variant": "debian-cuda", "build_id": "other", "kernel": KERNEL})
    assert "build_id is 'other'" in refusal("identity", guest, tmp_path)


def test_an_identity_with_another_toolkit_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.files["/etc/gpu-image.json"] = str(guest.files["/etc/gpu-image.json"]).replace('"cuda": ""', '"cuda": "12.4"')
    assert refusal("identity", guest, tmp_path) == "cuda is '12.4', the manifest says ''"


def test_a_manifest_with_another_packages_version_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.packages["bash"] = package("bash", "5.3-1", "install ok installed")
    assert refusal("packages", guest, tmp_path) == "bash is 5.3-1, the manifest says 5.2-1"
