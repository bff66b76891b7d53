"""Reuse of the initramfs of a cached tree, only while a new one would be the same."""

import re
from pathlib import Path

import pytest

from tests.support.chroot import Chroot
from tests.support.paths import ELEMENTS

KERNEL = "6.12.1-amd64"
PREPARE = ELEMENTS / "end-with-tree/post-install.d/97-prepare-initramfs"
BEGIN = f"guest-begin-initramfs {KERNEL}"
FINISH = ELEMENTS / "target-kernel/finalise.d/40-make-initramfs"


@pytest.fixture
def guest(tmp_path: Path) -> Chroot:
    """A guest whose initramfs is the number of times that one was made."""
    made = Chroot(tmp_path)
    made.commands("debian-family")
    made.commands("target-kernel")
    made.file(f"/lib/modules/{KERNEL}/kernel/virtio.ko", "code")
    made.file("/etc/modprobe.d/blacklist.conf", "blacklist nouveau\n")
    made.program("update-initramfs", f"sleep 0.2\necho made >> /made\ncp /made /boot/initrd.img-{KERNEL}")
    made.program("nproc", "echo 2")
    made.program("dpkg-query", "cat /packages")
    made.file("/packages", "kmod 34 installed\n")
    return made


def times_made(guest: Chroot, tmp_path: Path, between: str = "", *, before: str = "", prepare: str = "1") -> int:
    """How often an initramfs was made over both runs, with what happens between them, and before."""
    script = tmp_path / "phases"
    told = "echo times: $(wc -l < /made) left: $(ls /var/tmp | grep -c initramfs)"
    script.write_text(f"set -e\n{before}\nbash /tmp/prepare\n{between}\nbash /tmp/finish\n{told}\n")
    guest.copy(PREPARE, "/tmp/prepare")
    guest.copy(FINISH, "/tmp/finish")
    result = guest.run(script, DIB_PREPARE_INITRAMFS=prepare)
    found = re.search(r"^times: (\d+) left: 0$", result.stdout, re.MULTILINE)
    assert found, result.stdout
    return int(found[1])


def test_one_that_is_still_what_would_be_made_is_taken(guest: Chroot, tmp_path: Path) -> None:
    assert times_made(guest, tmp_path) == 1


@pytest.mark.parametrize(
    "change",
    [
        "echo 'blacklist radeon' >> /etc/modprobe.d/blacklist.conf",
        "echo 'options nvidia x=1' > /etc/modprobe.d/nvidia.conf",
        "ln -s /dev/null /etc/modprobe.d/other.conf",
        "echo 'cryptsetup 2.7 installed' >> /packages",
        "sed -i 's/34/35/' /packages",
        f"echo more > /lib/modules/{KERNEL}/kernel/other.ko",
        "mkdir -p /etc/initramfs-tools/hooks; echo hook > /etc/initramfs-tools/hooks/mine",
        "echo 'LABEL=root / xfs' > /etc/fstab",
    ],
)
def test_it_is_made_again_when_anything_that_it_was_made_from_changes(
    guest: Chroot, tmp_path: Path, change: str
) -> None:
    assert times_made(guest, tmp_path, change) == 2


@pytest.mark.parametrize(
    "change",
    [
        f"mkdir -p /lib/modules/{KERNEL}/updates; echo code > /lib/modules/{KERNEL}/updates/nvidia.ko",
        "echo '{}' > /etc/gpu-image.json",
        "echo program > /usr/local/bin/guest-something",
    ],
)
def test_what_is_never_in_an_initramfs_leaves_it(guest: Chroot, tmp_path: Path, change: str) -> None:
    assert times_made(guest, tmp_path, change) == 1


def test_a_guest_without_firmware_gets_one_too(guest: Chroot, tmp_path: Path) -> None:
    assert times_made(guest, tmp_path, before="rm -rf /usr/lib/firmware") == 1


def test_a_tree_that_no_disk_is_made_of_gets_none(guest: Chroot, tmp_path: Path) -> None:
    assert times_made(guest, tmp_path, prepare="0") == 1


def test_one_that_was_started_early_is_waited_for(guest: Chroot, tmp_path: Path) -> None:
    compiled = f"mkdir -p /lib/modules/{KERNEL}/updates; echo new > /lib/modules/{KERNEL}/modules.dep"
    # The second asks for nothing: it has begun.
    assert times_made(guest, tmp_path, before=f"{BEGIN}\n{BEGIN}\n{compiled}") == 1


@pytest.mark.parametrize(
    "meanwhile",
    [
        "echo 'blacklist radeon' >> /etc/modprobe.d/blacklist.conf",
        f"flock /var/tmp/initramfs-lock rm /boot/initrd.img-{KERNEL}",
    ],
)
def test_one_that_was_started_too_early_or_failed_is_made_again(guest: Chroot, tmp_path: Path, meanwhile: str) -> None:
    assert times_made(guest, tmp_path, before=f"{BEGIN}\n{meanwhile}") == 2


def test_none_is_started_where_there_is_one_processor(guest: Chroot, tmp_path: Path) -> None:
    guest.program("nproc", "echo 1")
    assert times_made(guest, tmp_path, before=f"{BEGIN}; [ ! -e /var/tmp/initramfs-inputs ] || exit 1") == 1
