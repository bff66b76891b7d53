"""Is the initramfs of a kept tree taken only while a new one would be the same?"""

import re
from pathlib import Path

import pytest

from tests.elements.chroot import Chroot

ELEMENTS = Path(__file__).parent.parent.parent / "elements"
KERNEL = "6.12.1-amd64"
PREPARE = ELEMENTS / "end-with-tree/post-install.d/97-prepare-initramfs"
FINISH = ELEMENTS / "target-kernel/finalise.d/40-make-initramfs"


@pytest.fixture
def guest(tmp_path: Path) -> Chroot:
    """A guest whose initramfs is the number of times that one was made."""
    made = Chroot(tmp_path)
    made.commands("debian-family")
    made.file(f"/lib/modules/{KERNEL}/kernel/virtio.ko", "code")
    made.file("/etc/modprobe.d/blacklist.conf", "blacklist nouveau\n")
    made.program("update-initramfs", f"echo made >> /made\ncp /made /boot/initrd.img-{KERNEL}")
    made.program("dpkg-query", "cat /packages")
    made.file("/packages", "kmod 34 installed\n")
    return made


def times_made(guest: Chroot, tmp_path: Path, between: str = "", *, prepare: str = "1") -> int:
    """How often an initramfs was made over both runs, with something that happens between them."""
    script = tmp_path / "phases"
    told = "echo times: $(wc -l < /made) left: $(ls /var/tmp | grep -c initramfs)"
    script.write_text(f"bash /tmp/prepare\n{between}\nbash /tmp/finish\n{told}\n")
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
def test_whatever_it_was_made_from_makes_it_anew_when_it_changes(guest: Chroot, tmp_path: Path, change: str) -> None:
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


def test_a_tree_that_no_disk_is_made_of_gets_none(guest: Chroot, tmp_path: Path) -> None:
    assert times_made(guest, tmp_path, prepare="0") == 1
