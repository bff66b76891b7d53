"""Kinds of differences that the comparison of two images finds, and those that it allows."""

import datetime
import gzip
import lzma
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support import image_contents, same_image, signing
from tests.support.image_contents import Thing
from tests.support.same_image import Allowed, Difference
from tests.support.same_image_allowed import ALLOWED
from tests.support.small_image import (
    BUILT,
    ESP_START,
    INITRAMFS,
    KERNEL,
    MIB,
    ROOT_START,
    Guest,
    initramfs,
    kernel_module,
    package,
    run,
)

PACKED = datetime.datetime(2025, 3, 1, 12, 0, 0, tzinfo=datetime.UTC)
SINCE = datetime.datetime(2026, 11, 22, 12, 0, 0, tzinfo=datetime.UTC)
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)  # cap_net_raw; linux/capability.h, version 2
FILES = ("etc/motd", "usr/bin/ping", "usr/bin/perl")


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """Two trees with the same paths, all of a package's time."""
    first, second = tmp_path / "first", tmp_path / "second"
    for name in FILES:
        path = first / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\nsecond line\n")
    (first / "usr/bin/perl5").hardlink_to(first / "usr/bin/perl")
    (first / "bin").symlink_to("usr/bin")
    os.mknod(first / "null", 0o20666, os.makedev(1, 3))
    shutil.copytree(first / "usr/bin", first / "usr/sbin")
    for path in (first, *first.rglob("*")):
        os.utime(path, (PACKED.timestamp(), PACKED.timestamp()), follow_symlinks=False)
    run("cp", "-a", str(first), str(second))
    return first, second


def found(first: Path, second: Path, allowed: Sequence[Allowed] = ()) -> list[Difference]:
    trees = (image_contents.in_folder(folder, SINCE) for folder in (first, second))
    return same_image.compared(*trees, allowed)


def keeping_time(path: Path, change: Callable[[Path], object]) -> None:
    """Change a path, and nothing of when it and its folder were changed."""
    above = path.parent.stat()
    change(path)
    for each, times in (
        (path, (PACKED.timestamp(), PACKED.timestamp())),
        (path.parent, (above.st_atime, above.st_mtime)),
    ):
        if os.path.lexists(each):
            os.utime(each, times, follow_symlinks=False)


def replace_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("motd.static")


def replace_by_copy(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


def retarget(path: Path) -> None:
    path.unlink()
    path.symlink_to("usr/sbin")


def renumber(path: Path) -> None:
    path.unlink()
    os.mknod(path, 0o20666, os.makedev(1, 5))


def test_two_copies_of_a_tree_are_the_same(trees: tuple[Path, Path]) -> None:
    assert found(*trees) == []


@pytest.mark.parametrize(
    ("path", "change", "fact"),
    [
        ("etc/motd", lambda path: path.write_text("etc/motd\nanother line\n"), "content"),
        ("etc/motd", lambda path: path.write_text(""), "content"),
        ("etc/motd", lambda path: path.chmod(0o755), "mode"),
        ("usr/bin/ping", lambda path: path.chmod(0o4644), "mode"),
        ("usr/bin", lambda path: path.chmod(0o1755), "mode"),
        ("etc/motd", lambda path: os.chown(path, 0, 42), "owner"),
        ("bin", lambda path: os.chown(path, 42, 0, follow_symlinks=False), "owner"),
        ("bin", retarget, "target"),
        (
            "usr/bin/ping",
            lambda path: os.setxattr(path, "security.capability", CAPABILITY),
            "attribute security.capability",
        ),
        ("null", renumber, "device"),
        ("etc/motd", Path.unlink, "presence"),
        ("etc/new", Path.mkdir, "presence"),
    ],
)
def test_every_difference_of_a_path_is_found(
    trees: tuple[Path, Path], path: str, change: Callable[[Path], object], fact: str
) -> None:
    keeping_time(trees[1] / path, change)
    assert [(each.thing, each.fact) for each in found(*trees)] == [(f"/{path}", fact)]


def test_a_file_that_became_a_link_is_found(trees: tuple[Path, Path]) -> None:
    keeping_time(trees[1] / "etc/motd", replace_by_link)
    assert ("type", "file", "link") in [(each.fact, each.first, each.second) for each in found(*trees)]


def test_hard_links_that_became_copies_are_found_under_both_names(trees: tuple[Path, Path]) -> None:
    keeping_time(trees[1] / "usr/bin/perl", replace_by_copy)
    both = "/usr/bin/perl /usr/bin/perl5"
    told = [(each.thing, each.fact, each.first, each.second) for each in found(*trees)]
    assert told == [(name, "links", both, "") for name in both.split()]


def test_the_time_of_what_came_with_a_package_is_compared(trees: tuple[Path, Path]) -> None:
    os.utime(trees[1] / "etc/motd", (0, PACKED.timestamp() + 1))
    (difference,) = found(*trees)
    assert (difference.thing, difference.fact) == ("/etc/motd", "time")
    assert (difference.first, difference.second) == ("2025-03-01T12:00:00+00:00", "2025-03-01T12:00:01+00:00")


def test_the_time_of_what_the_builds_made_is_not_compared(trees: tuple[Path, Path]) -> None:
    for number, tree in enumerate(trees):
        os.utime(tree / "etc/motd", (0, SINCE.timestamp() + number * 60))
    assert found(*trees) == []


def test_a_difference_is_told_with_both_sides(trees: tuple[Path, Path]) -> None:
    keeping_time(trees[1] / "etc/motd", lambda path: path.write_text("etc/motd\nanother line\n"))
    (difference,) = found(*trees)
    assert str(difference) == "/etc/motd: content\n    first:  second line\n    second: another line"


def test_of_what_is_no_text_size_and_digest_are_told(trees: tuple[Path, Path]) -> None:
    for tree, content in zip(trees, (b"\xff", b"\xff\xfe"), strict=True):
        keeping_time(tree / "etc/motd", lambda path, content=content: path.write_bytes(content))
    (difference,) = found(*trees)
    assert difference.first.startswith("1 bytes, sha256 a8100ae6")
    assert difference.second.startswith("2 bytes, sha256 ")


def in_initramfs(first: bytes, second: bytes) -> list[Difference]:
    return same_image.compared(*(image_contents.in_initramfs(data, SINCE) for data in (first, second)))


def test_an_initramfs_that_is_only_compressed_otherwise_is_the_same() -> None:
    early, main = initramfs(), gzip.compress(_archive("init", b"#!/bin/sh\n"))
    assert in_initramfs(early + main, early + bytes(512) + lzma.compress(_archive("init", b"#!/bin/sh\n"))) == []


@pytest.mark.parametrize(
    ("content", "mode", "fact"), [(b"#!/bin/bash\n", 0o100755, "content"), (b"#!/bin/sh\n", 0o100644, "mode")]
)
def test_a_difference_inside_an_initramfs_is_found(content: bytes, mode: int, fact: str) -> None:
    first, second = _archive("init", b"#!/bin/sh\n"), _archive("init", content, mode)
    told = [(each.thing, each.fact) for each in in_initramfs(gzip.compress(first), gzip.compress(second))]
    assert told == [("1/init", fact)]


def test_an_initramfs_of_a_tree_is_unpacked(trees: tuple[Path, Path]) -> None:
    for tree, mode in zip(trees, (0o100755, 0o100644), strict=True):
        path = tree / INITRAMFS.lstrip("/")
        path.parent.mkdir()
        path.write_bytes(zlib.compress(_archive("init", b"", mode), wbits=31))
    told = [(each.thing, each.fact) for each in found(*trees) if each.thing.startswith(INITRAMFS)]
    assert told == [(f"{INITRAMFS}: 1/init", "mode")]


def test_what_is_no_archive_in_an_initramfs_does_not_go_unseen() -> None:
    with pytest.raises(ValueError, match="no cpio archive"):
        image_contents.in_initramfs(_archive("init", b"") + b"#!/bin/sh\n", SINCE)


def _archive(name: str, content: bytes, mode: int = 0o100755) -> bytes:
    """A cpio archive of one file."""
    out = b""
    for each, data, kind in ((name, content, mode), ("TRAILER!!!", b"", 0)):
        fields = (1, kind, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(each) + 1, 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields) + each.encode() + b"\0"
        out += header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4)
    return out


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The raw disk of a guest, with a boot partition that has something in it."""
    return Guest().whole_disk(tmp_path_factory.mktemp("made"))


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    run("cp", "--sparse=always", str(made), str(tmp_path / "copy.raw"))
    return tmp_path / "copy.raw"


def patch(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as target:
        target.seek(at)
        target.write(content)


def around(first: Path, second: Path) -> list[tuple[str, str]]:
    differences = same_image.compared(image_contents.on_disk(first), image_contents.on_disk(second))
    return [(each.thing, each.fact) for each in differences]


def test_two_copies_of_an_image_are_the_same(made: Path, copy: Path) -> None:
    assert same_image.of_images(made, copy, since=SINCE, allowed=()) == []


@pytest.mark.parametrize(
    ("tool", "difference"),
    [
        (
            ["sfdisk", "--part-type", "DISK", "3", "0FC63DAF-8483-4772-8E79-3D69D8477DE4"],
            ("partition root", "type"),
        ),
        (
            ["mcopy", "-o", "-i", f"DISK@@{ESP_START}", __file__, "::EFI/debian/grub.cfg"],
            ("ESP/EFI/debian/grub.cfg", "content"),
        ),
        (["mdel", "-i", f"DISK@@{ESP_START}", "::EFI/BOOT/grubx64.efi"], ("ESP/EFI/BOOT/grubx64.efi", "presence")),
        (["mlabel", "-i", f"DISK@@{ESP_START}", "::OTHER"], ("ESP", "label")),
        (["tune2fs", "-L", "other", f"DISK?offset={ROOT_START}"], ("file system", "Filesystem volume name")),
        (["tune2fs", "-O", "large_dir", f"DISK?offset={ROOT_START}"], ("file system", "Filesystem features")),
        (["truncate", "--size=+1M", "DISK"], ("disk", "size")),
    ],
)
def test_every_difference_around_the_root_is_found(
    made: Path, copy: Path, tool: list[str], difference: tuple[str, str]
) -> None:
    run(*(argument.replace("DISK", str(copy)) for argument in tool))
    assert difference in around(made, copy)


@pytest.mark.parametrize(("at", "thing"), [(0, "boot code"), (439, "boot code"), (2 * MIB - 1, "BIOS boot partition")])
def test_boot_code_is_compared_to_its_last_byte(made: Path, copy: Path, at: int, thing: str) -> None:
    patch(copy, at, b"\x90")
    assert around(made, copy) == [(thing, "content")]


def test_a_file_of_another_size_leaves_the_partitions_alone_and_is_found(made: Path, tmp_path: Path) -> None:
    guest = Guest()
    guest.files["/etc/new"] = b"new"
    differences = same_image.of_images(made, guest.whole_disk(tmp_path), since=SINCE, allowed=())
    assert ("/etc/new", "presence") in [(each.thing, each.fact) for each in differences]
    assert not [each for each in differences if each.thing.startswith("partition")]


def test_a_package_of_another_version_or_no_more_held_is_found(made: Path, tmp_path: Path) -> None:
    guest = Guest()
    guest.packages |= {
        "bash": package("bash", "5.2-2"),
        "nvidia-smi": package("nvidia-smi", status="install ok installed"),
    }
    first, second = (image_contents.packages(raw) for raw in (made, guest.whole_disk(tmp_path)))
    told = [(each.thing, each.fact, each.first, each.second) for each in same_image.compared(first, second)]
    assert ("package bash", "version", "5.2-1", "5.2-2") in told
    assert ("package nvidia-smi", "held", "True", "False") in told


def thing(content: bytes) -> Thing:
    return Thing(facts={"mode": "0644"}, read=lambda: content)


def test_an_allowed_difference_is_of_one_fact_of_what_its_whole_name_matches() -> None:
    first = {name: Thing(facts={"mode": "0644", "owner": "0:0"}) for name in ("/a", "/a/b")}
    second = {name: Thing(facts={"mode": "0755", "owner": "1:1"}) for name in ("/a", "/a/b")}
    rule = Allowed(thing="/a", fact="mode", why="a test")
    told = [(each.thing, each.fact) for each in same_image.compared(first, second, [rule])]
    assert told == [("/a", "owner"), ("/a/b", "mode"), ("/a/b", "owner")]


def test_what_an_allowed_difference_leaves_must_be_equal() -> None:
    rule = Allowed(thing="/log", fact="content", why="a test", but_for=lambda content: content.split(b" ")[1:])
    assert same_image.compared({"/log": thing(b"12:00 same")}, {"/log": thing(b"12:01 same")}, [rule]) == []
    (difference,) = same_image.compared({"/log": thing(b"12:00 one")}, {"/log": thing(b"12:00 two")}, [rule])
    assert (difference.first, difference.second) == ("12:00 one", "12:00 two")


def test_modules_may_differ_in_a_throw_away_signature_and_in_nothing_else(tmp_path: Path) -> None:
    keys = [signing.make_pair(tmp_path, name) for name in ("one", "two")]
    module, other = kernel_module("license=NVIDIA"), kernel_module("license=GPL")
    name = f"{BUILT}/nvidia-current.ko.xz"

    def differences(first: bytes, second: bytes) -> list[Difference]:
        return same_image.compared({name: thing(first)}, {name: thing(second)}, ALLOWED)

    packed = [lzma.compress(signing.signed(module, key)) for key in keys]
    assert packed[0] != packed[1]
    assert differences(*packed) == []
    assert [each.fact for each in differences(packed[0], lzma.compress(signing.signed(other, keys[0])))] == ["content"]
    assert [each.fact for each in differences(packed[0], lzma.compress(module))] == ["content"]


def test_the_module_of_the_distribution_may_not_differ_at_all() -> None:
    name = f"/usr/lib/modules/{KERNEL}/kernel/drivers/video/nvidiafb.ko.xz"
    first, second = ({name: thing(lzma.compress(kernel_module(field)))} for field in ("license=GPL", "license=MIT"))
    assert [each.fact for each in same_image.compared(first, second, ALLOWED)] == ["content"]


def test_the_identity_may_differ_in_the_build_it_names_alone() -> None:
    def identity(build_id: str, kernel: str) -> dict[str, Thing]:
        return {"/etc/gpu-image.json": thing(f'{{"build_id": "{build_id}", "kernel": "{kernel}"}}'.encode())}

    assert same_image.compared(identity("1", KERNEL), identity("2", KERNEL), ALLOWED) == []
    assert same_image.compared(identity("1", KERNEL), identity("2", "6.1"), ALLOWED) != []


def test_an_account_may_differ_in_the_day_that_it_was_made_alone() -> None:
    def shadow(line: bytes) -> dict[str, Thing]:
        return {"/etc/shadow": thing(line)}

    plain = shadow(b"root:*:20779:0:99999:7:::\n")
    assert same_image.compared(plain, shadow(b"root:*:20780:0:99999:7:::\n"), ALLOWED) == []
    assert same_image.compared(plain, shadow(b"root::20779:0:99999:7:::\n"), ALLOWED) != []


def test_the_log_of_dkms_may_differ_in_times_and_order_alone() -> None:
    def log(text: str) -> dict[str, Thing]:
        return {"/var/lib/dkms/nvidia-current/550/6.12/x86_64/log/make.log": thing(text.encode())}

    plain = log("Sun Nov 22 23:23:08 UTC 2026\n# command: make -j2 modules\nCC conftest12.o\nCC nvidia.o\n")
    again = log("Mon Nov  2 00:03:51 UTC 2026\n# command: make -j4 modules\nCC nvidia.o\nCC conftest9.o\n")
    assert same_image.compared(plain, again, ALLOWED) == []
    other = log("Mon Nov  2 00:03:51 UTC 2026\n# command: make -j4 modules\nCC nvidia.o\n")
    assert same_image.compared(plain, other, ALLOWED) != []
