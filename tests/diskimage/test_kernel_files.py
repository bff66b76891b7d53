"""Contents of kernel modules and initramfs files."""

import lzma
from pathlib import Path

import pytest

from pipelines.diskimage import kernel_files
from tests.support.small_image import (
    DRIVER,
    KERNEL,
    cpio,
    initramfs,
    kernel_module,
    run,
)


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
