"""Kernel files are decompressed, whatever they are compressed with."""

import gzip
import lzma
import subprocess

import pytest

from pipelines.util.compression import decompressed
from pipelines.util.errors import ProgramError

CONTENT = b"module" * 1000


def zstd(content: bytes) -> bytes:
    return subprocess.run(["zstd", "-c"], input=content, capture_output=True, check=True).stdout


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, zstd, bytes], ids=["gzip", "xz", "zstd", "plain"])
def test_the_content_is_what_was_compressed(compress: type[bytes]) -> None:
    assert decompressed(compress(CONTENT)) == CONTENT


def test_what_follows_the_compressed_data_is_left_out() -> None:
    assert decompressed(gzip.compress(CONTENT) + b"signature") == CONTENT


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, zstd], ids=["gzip", "xz", "zstd"])
def test_damaged_data_is_an_error(compress: type[bytes]) -> None:
    packed = bytearray(compress(CONTENT))
    packed[6:12] = b"\0" * 6
    packed[-20:] = b"\xff" * 20
    with pytest.raises((ValueError, ProgramError)):
        decompressed(bytes(packed))
