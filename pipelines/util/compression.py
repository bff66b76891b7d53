"""Decompression of kernel files: gzip, xz, zstd."""

import lzma
import tempfile
import zlib
from pathlib import Path

from pipelines.util import process

_ZSTD, _GZIP, _XZ = b"\x28\xb5\x2f\xfd", b"\x1f\x8b", b"\xfd7zXZ\x00"
_ZSTD_SECONDS = 120.0


def decompressed(data: bytes) -> bytes:
    """The content of a zstd, gzip or xz file; anything else as it is. ValueError when it is damaged."""
    try:
        if data.startswith(_XZ):
            return lzma.LZMADecompressor().decompress(data)
        if data.startswith(_GZIP):
            return zlib.decompressobj(wbits=31).decompress(data)
    except (lzma.LZMAError, zlib.error) as error:
        raise ValueError(f"the compressed file is damaged: {error}") from error
    return _unzstd(data) if data.startswith(_ZSTD) else data


def _unzstd(data: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        packed, plain = Path(scratch, "packed"), Path(scratch, "plain")
        packed.write_bytes(data)
        argv = [process.require("zstd", "zstd"), "-dqf", "-o", str(plain), str(packed)]
        process.run(argv, deadline=_ZSTD_SECONDS)
        return plain.read_bytes()
