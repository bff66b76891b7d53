"""Image properties that follow from a variant."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.catalog.variant import Guest, Variant
from tests.support.ready_image import variant


def properties_of(version: str, **guest: Any) -> dict[str, str]:
    made = Guest(type="windows", distribution="windows", version=version, **guest)
    wanted: Variant = variant(Path("windows.qcow2"), guest=made)
    return wanted.properties


def test_windows_11_gets_what_it_asks_for() -> None:
    assert properties_of("11") == {
        "architecture": "x86_64",
        "hw_disk_bus": "scsi",
        "hw_firmware_type": "uefi",
        "hw_machine_type": "q35",
        "hw_rng_model": "virtio",
        "hw_scsi_model": "virtio-scsi",
        "hw_tpm_model": "tpm-crb",
        "hw_tpm_version": "2.0",
        "hw_vif_model": "virtio",
        "hw_video_model": "virtio",
        "img_hide_hypervisor_id": "true",
        "os_admin_user": "Administrator",
        "os_distro": "windows",
        "os_type": "windows",
        "os_version": "11",
    }


@pytest.mark.parametrize("version", ["10", "2022", "2025"])
def test_only_windows_11_gets_a_tpm(version: str) -> None:
    assert [name for name in properties_of(version) if "tpm" in name] == []


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
@pytest.mark.parametrize("version", ["11", "2025"])
def test_what_windows_is_given_is_right_by_our_own_rules(version: str, architecture: str) -> None:
    from pipelines.glance import properties

    assert properties.check(properties_of(version, architecture=architecture)) == []
