"""Program that reports from inside a booted guest."""

import lzma
import struct
from pathlib import Path

from pipelines.verify import guest_probe


def test_the_guest_takes_the_signature_off_and_nothing_else(tmp_path: Path) -> None:
    trailer = struct.pack(">BBBBB3xI", 0, 0, 2, 0, 0, 9)
    signed = b"\x7fELF content" + b"signature" + trailer + guest_probe.SIGNED
    path = tmp_path / "nvidia.ko.xz"
    path.write_bytes(lzma.compress(signed))
    assert guest_probe.without_signature(guest_probe.unpacked(path)) == b"\x7fELF content"
    assert guest_probe.without_signature(b"\x7fELF content") == b"\x7fELF content"
