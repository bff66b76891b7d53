"""Debian's real packages, which the test doubles depend on.

From the mirror that this machine's own apt uses; its index is checked against Debian's archive key, its packages by apt
against the index.
"""

import hashlib
import re
import subprocess
import urllib.request
from pathlib import Path

from pipelines.preflight import apt_mirrors

SUITE = "trixie"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_INDEX = "main/binary-amd64/Packages.xz"


def mirror() -> str:
    """This machine's mirror of Debian."""
    lent = apt_mirrors.usable("debian")
    assert apt_mirrors.DISTRIBUTION in lent, (
        "the stand-ins need a host that is Debian, with a mirror that needs no password"
    )
    return lent[apt_mirrors.DISTRIBUTION]


def index(folder: Path) -> Path:
    """Debian's Packages.xz in a folder, downloaded unless the present one lies there."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = _digest(folder)
    path = folder / f"Packages-{wanted[:16]}.xz"
    if not path.exists():
        content = _get(f"dists/{SUITE}/{_INDEX}")
        assert hashlib.sha256(content).hexdigest() == wanted, "the mirror's index is not the one that is signed"
        path.write_bytes(content)
    return path


def _digest(folder: Path) -> str:
    """The SHA-256 of the index, out of the signed Release."""
    signed = folder / "InRelease"
    signed.write_bytes(_get(f"dists/{SUITE}/InRelease"))
    argv = ["gpgv", "--quiet", "--keyring", _KEYRING, "--output", "-", signed]
    release = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    found = re.search(rf"^ ([0-9a-f]{{64}}) +\d+ {re.escape(_INDEX)}$", release, re.MULTILINE)
    assert found is not None, f"{signed} names no {_INDEX}"
    return found[1]


def _get(path: str) -> bytes:
    with urllib.request.urlopen(f"{mirror()}/{path}", timeout=60) as answer:
        content: bytes = answer.read()
    return content
