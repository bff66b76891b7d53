"""Check of the kernel that boots, seen failing on small guests that are broken in one way."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.small_image import (
    GRUB_MENU,
    INITRAMFS,
    KERNEL,
    MODULES,
    Guest,
)
from tests.support.verification import refusal

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def test_a_menu_that_boots_another_kernel_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.files["/boot/grub/grub.cfg"] = GRUB_MENU.replace(KERNEL, "6.1.0-1-amd64")
    assert "GRUB's first entry boots /boot/vmlinuz-6.1.0-1-amd64" in refusal("kernel", guest, tmp_path)


def test_a_default_that_is_not_the_first_entry_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.files["/boot/grub/grub.cfg"] = GRUB_MENU.replace("default=0", 'default="1"')
    assert "GRUB's default entry is '1'" in refusal("kernel", guest, tmp_path)


@pytest.mark.parametrize("path", [f"/boot/vmlinuz-{KERNEL}", INITRAMFS, f"/usr{MODULES}/modules.dep"])
@pytest.mark.parametrize("empty", [True, False])
def test_a_kernel_that_lacks_a_part_is_refused(tmp_path: Path, path: str, empty: bool) -> None:
    guest = Guest()
    del guest.files[path]
    if empty:
        guest.files[path] = ""
    assert f"{path.removeprefix('/usr')} is missing or empty" in refusal("kernel", guest, tmp_path)


def test_a_second_kernel_is_refused(tmp_path: Path) -> None:
    guest = Guest()
    guest.files["/usr/lib/modules/6.1.0-1-amd64/modules.dep"] = "x"
    assert refusal("kernel", guest, tmp_path) == "6.1.0-1-amd64 belongs to another kernel"
