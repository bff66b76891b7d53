"""What is on the disk, and which files are in it? Read from real image files."""

import hashlib
import lzma
import os
import stat
import struct
import zlib
from pathlib import Path

import pytest

from pipelines.diskimage import filesystem, gpt, kernel_files, qemu_img
from pipelines.diskimage.filesystem import FileSystem
from pipelines.diskimage.gpt import Partition, PartitionTable
from pipelines.util import files as util_files
from pipelines.util.errors import HostError, ProgramError, VerifyError
from tests.support.small_image import (
    DRIVER,
    ESP_START,
    KERNEL,
    MIB,
    MODULES,
    PRIVATE_KEY,
    ROOT_SIZE,
    ROOT_START,
    SIZE,
    Guest,
    Link,
    cpio,
    initramfs,
    kernel_module,
    run,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a build whose guest has some odd files; its raw disk is disk.raw."""
    root = tmp_path_factory.mktemp("disk")
    guest = Guest()
    guest.files |= {
        "/odd/a b": "space",
        '/odd/quo"te': "quote",
        "/odd/big": bytes(range(256)) * 4096,
        "/odd/far": Link("/odd/" + "../odd/" * 20 + "big"),
        "/odd/outside": Link("/../../../../odd/big"),
        "/odd/loop": Link("loop"),
        "/odd/dangling": Link("nothing"),
        "/odd/folder": Link("/etc/modprobe.d"),
        "/odd/key": PRIVATE_KEY,
    }
    guest.build(root)
    return root


@pytest.fixture
def raw(made: Path) -> Path:
    return made / "disk.raw"


@pytest.fixture
def copy(raw: Path, tmp_path: Path) -> Path:
    """A raw disk that a test may damage."""
    run("cp", "--sparse=always", str(raw), str(tmp_path / "disk.raw"))
    return tmp_path / "disk.raw"


@pytest.fixture
def table(raw: Path) -> PartitionTable:
    return gpt.partition_table(raw)


def patch(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as target:
        target.seek(offset)
        target.write(content)


def part(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as source:
        return os.pread(source.fileno(), size, offset)


def qcow2(raw: Path, target: Path, compression: str) -> None:
    """A compressed qcow2 of a raw disk."""
    options = ("-c", "-o", f"compression_type={compression}")
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, str(raw), str(target))


# Image files


def test_info_of_a_compressed_qcow2(raw: Path, tmp_path: Path) -> None:
    qcow2(raw, tmp_path / "image", "zstd")
    info = qemu_img.info(tmp_path / "image")
    assert (info.format, info.compression, info.virtual_size) == ("qcow2", "zstd", SIZE)
    assert 0 < info.actual_size < 2 * MIB
    assert (info.backing_file, info.dirty, info.corrupt) == (None, False, False)


def test_info_names_the_backing_file(raw: Path, tmp_path: Path) -> None:
    run("qemu-img", "create", "-f", "qcow2", "-b", str(raw), "-F", "raw", str(tmp_path / "overlay"))
    assert qemu_img.info(tmp_path / "overlay").backing_file == str(raw)


def test_info_of_a_missing_file_says_which(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="absent"):
        qemu_img.info(tmp_path / "absent")


def test_check_finds_nothing_in_a_good_file(made: Path) -> None:
    assert qemu_img.check(next(made.glob("*/*/image.qcow2"))) == ()


def test_check_says_when_it_is_no_qcow2(raw: Path) -> None:
    (problem,) = qemu_img.check(raw)
    assert "Image is not in qcow2 format" in problem


def test_a_qcow2_read_as_raw_is_the_same_disk(raw: Path, tmp_path: Path) -> None:
    qcow2(raw, tmp_path / "image.qcow2", "zlib")
    with qemu_img.raw(tmp_path / "image.qcow2") as again:
        assert part(again, 0, ROOT_START + ROOT_SIZE) == part(raw, 0, ROOT_START + ROOT_SIZE)
        assert part(again, SIZE - MIB, MIB) == part(raw, SIZE - MIB, MIB)


def test_the_raw_copy_of_a_qcow2_never_has_a_name(made: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.qcow2"
    image.write_bytes(next(made.glob("*/*/image.qcow2")).read_bytes())
    with qemu_img.raw(image) as path:
        assert path.stat().st_size == SIZE
        assert list(tmp_path.iterdir()) == [image]
    assert not path.exists()


def test_a_raw_image_is_read_where_it_is(raw: Path) -> None:
    with qemu_img.raw(raw) as path:
        assert path == raw


@pytest.mark.parametrize("size", [0, 1, 2**20, 5 * 2**20 + 1])
def test_digests_are_those_of_the_whole_file_in_its_order(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    assert util_files.digests(tmp_path / "file") == (
        hashlib.sha256(content).hexdigest(),
        hashlib.sha512(content).hexdigest(),
    )


# The partition table


def test_partitions_have_types_names_and_places_in_bytes(table: PartitionTable) -> None:
    assert table.problems == ()
    assert table.partitions == (
        Partition(number=1, start=MIB, size=MIB, type=gpt.BIOS_BOOT, name="bios-boot"),
        Partition(number=2, start=ESP_START, size=ROOT_START - ESP_START, type=gpt.ESP, name="esp"),
        Partition(number=3, start=ROOT_START, size=ROOT_SIZE, type=gpt.ROOT_X86_64, name="root"),
    )


def test_a_disk_that_grew_without_its_backup_table_is_not_sound(copy: Path) -> None:
    os.truncate(copy, SIZE + MIB)
    assert gpt.partition_table(copy).problems == (
        f"the primary GPT header says it is in sector 1 and the other in {SIZE // 512 - 1}",
        f"there is no backup GPT header in sector {(SIZE + MIB) // 512 - 1}",
    )


def test_a_header_with_a_changed_byte_is_not_believed(copy: Path, table: PartitionTable) -> None:
    patch(copy, 512 + 72, b"\x09")
    damaged = gpt.partition_table(copy)
    assert damaged.problems == ("the primary GPT header has a wrong checksum",)
    assert damaged.partitions == table.partitions


def test_two_sound_copies_that_differ_are_found(copy: Path) -> None:
    entries = bytearray(part(copy, 1024, 128 * 128))
    entries[56:58] = "B".encode("utf-16-le")
    patch(copy, 1024, bytes(entries))
    header = bytearray(part(copy, 512, 92))
    header[88:92] = struct.pack("<I", zlib.crc32(entries))
    header[16:20] = bytes(4)
    header[16:20] = struct.pack("<I", zlib.crc32(header))
    patch(copy, 512, bytes(header))
    assert gpt.partition_table(copy).problems == ("the primary and the backup table differ",)


def test_a_disk_without_a_table_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(bytes(MIB))
    with pytest.raises(ValueError, match="there is no GUID partition table"):
        gpt.partition_table(tmp_path / "empty")


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


# The root file system


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
    at = ROOT_START + part(raw, ROOT_START, ROOT_SIZE).index(PRIVATE_KEY)
    assert files.owners([at]) == {at: "/odd/key"}


def test_a_byte_in_free_space_has_no_file(files: FileSystem) -> None:
    assert files.owners([ROOT_START + ROOT_SIZE - MIB, 0]) == {}


def test_a_damaged_file_system_is_an_error(copy: Path, table: PartitionTable) -> None:
    patch(copy, ROOT_START, bytes(64 * 1024))
    with (
        filesystem.opened(copy, table.partitions[-1], "ext4") as files,
        pytest.raises((VerifyError, ProgramError), match=r"debugfs|cannot be read"),
    ):
        files.listdir("/")


@pytest.mark.slow  # mounts, so it needs root and a loop device
def test_xfs_is_read_through_a_mount_that_nobody_else_sees(xfs: Path) -> None:
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


# Kernel modules and initramfs


@pytest.fixture
def zstd(tmp_path: Path) -> object:
    def compress(content: bytes) -> bytes:
        (tmp_path / "plain").write_bytes(content)
        run("zstd", "-q", "-f", str(tmp_path / "plain"), "-o", str(tmp_path / "packed"))
        return (tmp_path / "packed").read_bytes()

    return compress


def test_a_modules_fields_are_read_whatever_compressed_it(zstd) -> None:  # type: ignore[no-untyped-def]
    plain = kernel_module("version=1.2", "alias=a", "alias=b", f"vermagic={KERNEL} SMP ")
    for content in (plain, lzma.compress(plain), zstd(plain)):
        fields = kernel_files.module_fields(content)
        assert fields == {"version": "1.2", "alias": "a", "vermagic": f"{KERNEL} SMP "}


def test_a_file_that_is_cut_short_is_no_module() -> None:
    with pytest.raises(ValueError, match="ELF"):
        kernel_files.module_fields(kernel_module(f"version={DRIVER}")[:100])


def test_an_initramfs_lists_its_early_and_its_main_archive(zstd) -> None:  # type: ignore[no-untyped-def]
    early = cpio("early/microcode")
    padded = early + bytes(-len(early) % 512)
    main = cpio("init", "lib/modules")
    for packed in (main, zstd(main), lzma.compress(main)):
        assert kernel_files.initramfs_names(padded + packed) == ["early/microcode", "init", "lib/modules"]
    assert "init" in kernel_files.initramfs_names(initramfs("init"))


@pytest.mark.parametrize("rest", [b"\x02\x21\x4c\x18 lz4", cpio("init")[:60]])
def test_an_initramfs_that_cannot_be_read_to_its_end_is_an_error(rest: bytes) -> None:
    with pytest.raises(ValueError, match=r"neither cpio nor|ends within|invalid literal"):
        kernel_files.initramfs_names(cpio("early") + rest)
