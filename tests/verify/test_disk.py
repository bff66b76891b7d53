"""Checks of the disk, each seen failing on a real, small image."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.verify.verifier import verify
from tests.support.disk_bytes import write_at
from tests.support.small_image import (
    SIZE,
    VARIANT,
    Guest,
    run,
)
from tests.support.verification import failed, rebuilt

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def test_a_damaged_backup_table_is_found(made: Path, tmp_path: Path) -> None:
    build = rebuilt(made, tmp_path, lambda raw: write_at(raw, SIZE - 512 + 20, b"XX"))
    assert failed(verify(build, VARIANT, NOW)) == {"partition-table": "the backup GPT header has a wrong checksum"}


def test_a_damaged_primary_table_is_found(made: Path, tmp_path: Path) -> None:
    build = rebuilt(made, tmp_path, lambda raw: write_at(raw, 1024 + 60, b"XX"))
    problem = "the primary GPT's partition entries have a wrong checksum"
    assert failed(verify(build, VARIANT, NOW)) == {"partition-table": problem}


def test_a_root_that_is_not_last_is_refused(made: Path, tmp_path: Path) -> None:
    build = rebuilt(made, tmp_path, lambda raw: run("sfdisk", "-q", "--part-type", str(raw), "3", "L"))
    assert "expected BIOS boot, ESP and root" in failed(verify(build, VARIANT, NOW))["partition-table"]


@pytest.mark.parametrize("name", ["EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/grubx64.efi", "EFI/debian/grub.cfg"])
def test_an_esp_without_one_of_its_files_is_refused(made: Path, tmp_path: Path, name: str) -> None:
    build = rebuilt(made, tmp_path, lambda raw: run("mdel", "-i", f"{raw}@@{2 * 2**20}", f"::{name}"))
    assert failed(verify(build, VARIANT, NOW))["esp"].upper() == f"/{name} IS MISSING".upper()


def test_a_grub_menu_on_the_esp_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.esp["EFI/debian/grub.cfg"] = "echo hello\n"
    assert "loads no menu" in failed(verify(guest.build(tmp_path), VARIANT, NOW))["esp"]


def test_a_disk_without_partitions_fails_all_that_is_inside(made: Path, tmp_path: Path) -> None:
    def wipe(raw: Path) -> None:
        write_at(raw, 512, bytes(512))
        write_at(raw, SIZE - 512, bytes(512))

    problems = failed(verify(rebuilt(made, tmp_path, wipe), VARIANT, NOW))
    assert (
        problems["partition-table"] == problems["kernel"] == ("could not be checked: there is no GUID partition table")
    )
