"""Is what a server gets at its first boot still out of the image?"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.diskimage import filesystem, gpt
from pipelines.verify import check
from pipelines.verify.first_boot import boot_time_services, licences
from tests.support.small_image import VARIANT, Guest, Link, manifest

LICENCES = {
    "/etc/nvidia/ClientConfigToken/any-name": "anything",
    "/etc/nvidia/gridd.conf": "FeatureType=1\n ServerAddress = licence.example\n",
    "/home/debian/client_configuration_token_11-22-2026.TOK": "eyJhbGciOiJSUzI1NiJ9.eyJqdGki",
    "/opt/licence.lic": "SERVER licence.example 0242AC110002 7070\nVENDOR nvidia\n",
    "/var/lib/nvidia/GridLicensing/store": "lease",
}
HARMLESS = {
    "/etc/nvidia/gridd.conf": "FeatureType=1\n#ServerAddress=licence.example\nServerAddress=\nServerPort=7070\n",
    "/opt/words.tok": "a list of tokens\n",
    "/opt/COPYING.lic": "You may copy this.\n",
}
WANTS = "/etc/systemd/system/multi-user.target.wants"


@contextmanager
def opened(folder: Path, files: dict[str, str | Link]) -> Iterator[check.Guest]:
    """The good guest with some more files, open for reading."""
    guest = Guest(folders=(*Guest().folders, "etc/nvidia/ClientConfigToken"))
    guest.files |= files
    raw = guest.disk(folder)
    with filesystem.opened(raw, gpt.partition_table(raw).partitions[-1], "ext4") as found:
        yield check.Guest(manifest=manifest(), variant=VARIANT, disk=raw, files=found)


def test_every_licence_is_named(tmp_path: Path) -> None:
    with opened(tmp_path, dict(LICENCES)) as guest:
        passed, detail = licences(guest)
    assert not passed
    assert detail == "; ".join(f"{path} contains or refers to a licence" for path in sorted(LICENCES))


def test_a_guest_that_waits_for_its_token_passes(tmp_path: Path) -> None:
    with opened(tmp_path, dict(HARMLESS)) as guest:
        assert licences(guest) == (True, "none")


@pytest.mark.parametrize("unit", ["nvidia-mig-manager.service", "nvidia-fabricmanager.service", "nvidia-imex.service"])
def test_a_unit_that_belongs_to_the_server_may_not_be_enabled(tmp_path: Path, unit: str) -> None:
    with opened(tmp_path, {f"{WANTS}/{unit}": Link(f"/usr/lib/systemd/system/{unit}")}) as guest:
        passed, detail = boot_time_services(guest)
    assert not passed
    assert f"{unit} is enabled: " in detail


def test_an_installed_unit_that_is_not_enabled_passes(tmp_path: Path) -> None:
    installed: dict[str, str | Link] = {"/usr/lib/systemd/system/nvidia-fabricmanager.service": "[Service]\n"}
    with opened(tmp_path, installed) as guest:
        assert boot_time_services(guest)[0]
