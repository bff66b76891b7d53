"""File systems read from real disks."""

import os
import stat
from pathlib import Path

import pytest

from pipelines.diskimage import filesystem, gpt
from pipelines.diskimage.filesystem import FileSystem
from pipelines.diskimage.gpt import Partition, PartitionTable
from pipelines.util.errors import HostError, ProgramError, VerifyError
from tests.support.disk_bytes import read_at, write_at
from tests.support.small_image import (
    MIB,
    MODULES,
    PRIVATE_KEY,
    ROOT_SIZE,
    ROOT_START,
    run,
)


def test_the_esp_is_read_without_mounting(raw: Path, table: PartitionTable) -> None:
    esp = table.partitions[1]
    assert filesystem.esp_files(raw, esp) == (
        "/EFI/BOOT/BOOTX64.EFI",
        "/EFI/BOOT/grubx64.efi",
        "/EFI/debian/grub.cfg",
    )
    assert filesystem.esp_text(raw, esp, "/EFI/debian/grub.cfg") == "configfile ($root)/boot/grub/grub.cfg\n"


def test_an_esp_that_is_not_formatted_is_an_error(raw: Path, table: PartitionTable) -> None:
    with pytest.raises(ProgramError, match="mdir"):
        filesystem.esp_files(raw, table.partitions[0])


@pytest.fixture
def xfs(tmp_path: Path) -> Path:
    """A raw disk that is one xfs file system with two files."""
    image, mount_point = tmp_path / "xfs.raw", tmp_path / "mnt"
    with image.open("wb") as target:
        target.truncate(320 * MIB)
    mount_point.mkdir()
    run("mkfs.xfs", "-q", str(image))
    fill = 'mount -o loop "$1" "$2"; mkdir "$2/etc"; echo here >"$2/etc/file"; ln -s /etc/file "$2/link"; umount "$2"'
    run("unshare", "--mount", "sh", "-ec", fill, "sh", str(image), str(mount_point))
    return image


@pytest.fixture
def files(raw: Path, table: PartitionTable) -> FileSystem:
    with filesystem.opened(raw, table.partitions[-1], "ext4") as opened:
        return opened


def test_names_need_no_care(files: FileSystem) -> None:
    assert files.contents(["/odd/a b", '/odd/quo"te']) == {"/odd/a b": b"space", '/odd/quo"te': b"quote"}


def test_content_is_exact(files: FileSystem) -> None:
    assert files.read("/odd/big") == bytes(range(256)) * 4096


@pytest.mark.parametrize("link", ["/odd/far", "/odd/outside"])
def test_links_lead_through_the_guest(files: FileSystem, link: str) -> None:
    assert files.stat(link) == files.stat("/odd/big")


def test_a_merged_usr_is_followed(files: FileSystem) -> None:
    assert files.target("/lib") == "usr/lib"
    assert files.listdir("/lib") == files.listdir("/usr/lib") != ()
    assert files.stat(f"{MODULES}/modules.dep") is not None


def test_a_link_to_a_folder_is_listed(files: FileSystem) -> None:
    assert files.listdir("/odd/folder") == ("nvidia-blacklists-nouveau.conf",)


@pytest.mark.parametrize("path", ["/odd/dangling", "/odd/loop", "/odd/nothing", "/odd/big/below"])
def test_what_is_not_there_is_none(files: FileSystem, path: str) -> None:
    assert files.stat(path) is None
    assert files.read(path) is None
    assert files.listdir(path) == ()


def test_lstat_sees_the_link_and_stat_what_it_leads_to(files: FileSystem) -> None:
    link, target = files.lstat("/odd/far"), files.stat("/odd/far")
    assert link is not None
    assert target is not None
    assert (link.is_link, target.is_file) == (True, True)
    assert target.size == 256 * 4096


def test_modes_and_owners_are_the_guests(files: FileSystem) -> None:
    root = files.stat("/etc")
    assert root is not None
    assert (stat.S_IMODE(root.mode), root.uid) == (0o755, os.getuid())


def test_walk_finds_everything_below_and_follows_no_link(files: FileSystem) -> None:
    found = files.walk("/var")
    assert found["/var/log/apt/history.log"].is_file
    assert found["/var/log/apt"].is_dir
    assert "/odd/folder/nvidia-blacklists-nouveau.conf" not in files.walk("/odd")


def test_a_byte_of_the_disk_leads_to_its_file(raw: Path, files: FileSystem) -> None:
    at = ROOT_START + read_at(raw, ROOT_START, ROOT_SIZE).index(PRIVATE_KEY)
    assert files.owners([at]) == {at: "/odd/key"}


def test_a_byte_in_free_space_has_no_file(files: FileSystem) -> None:
    assert files.owners([ROOT_START + ROOT_SIZE - MIB, 0]) == {}


def test_a_damaged_file_system_is_an_error(copy: Path, table: PartitionTable) -> None:
    write_at(copy, ROOT_START, bytes(64 * 1024))
    with (
        filesystem.opened(copy, table.partitions[-1], "ext4") as files,
        pytest.raises((VerifyError, ProgramError), match=r"debugfs|cannot be read"),
    ):
        files.listdir("/")


@pytest.mark.slow  # mounts, so it needs root and a loop device
def test_xfs_is_read_through_a_mount_that_no_other_process_sees(xfs: Path) -> None:
    whole = Partition(number=1, start=0, size=xfs.stat().st_size, type=gpt.ROOT_X86_64, name="root")
    with filesystem.opened(xfs, whole, "xfs") as files:
        assert files.text("/link") == "here\n"
        assert set(files.walk("/")) == {"/etc", "/etc/file", "/link"}
        assert str(xfs) not in Path("/proc/mounts").read_text()
    loops = [path.read_text().strip() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    assert str(xfs) not in loops


@pytest.mark.slow  # as above
def test_a_partition_that_is_no_xfs_is_an_error(raw: Path, table: PartitionTable) -> None:
    with (
        pytest.raises(VerifyError, match="the root file system cannot be read: mount"),
        filesystem.opened(raw, table.partitions[-1], "xfs"),
    ):
        raise AssertionError("it was opened")


def test_xfs_without_root_names_the_remedy(raw: Path, table: PartitionTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with (
        pytest.raises(HostError, match="needs root"),
        filesystem.opened(raw, table.partitions[-1], "xfs"),
    ):
        raise AssertionError("it was opened")
