"""A test double of Ubuntu's signed cloud image.

A tree of Debian's packages that says it is Ubuntu 24.04: os-release, package sources and their key, cloud-init's
distribution. Packed and signed as Canonical does it; like Canonical's squashfs it has no kernel.
"""

import hashlib
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.support.standins import cache, debian
from tests.support.standins.deb import write
from tests.support.standins.keys import Key

NAME = "noble-server-cloudimg-amd64"
_PACKAGES = (
    "systemd-sysv",
    "systemd-resolved",
    "systemd-timesyncd",
    "dbus",
    "sudo",
    "ca-certificates",
    "python3",
    "cloud-init",
    "netplan.io",
    "openssh-server",
)
_OS_RELEASE = """\
PRETTY_NAME="Ubuntu 24.04.3 LTS"
NAME="Ubuntu"
VERSION_ID="24.04"
VERSION="24.04.3 LTS (Noble Numbat)"
VERSION_CODENAME=noble
ID=ubuntu
ID_LIKE=debian
HOME_URL="https://www.ubuntu.com/"
UBUNTU_CODENAME=noble
"""
_SOURCES = """\
Types: deb
URIs: http://archive.ubuntu.com/ubuntu
Suites: noble noble-updates noble-backports
Components: main universe restricted multiverse
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg

Types: deb
URIs: http://security.ubuntu.com/ubuntu
Suites: noble-security
Components: main universe restricted multiverse
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg
"""
# Debian's newer cloud-init has other names for its stages; this one is Ubuntu 24.04's, and stands for Debian's.
_CLOUD_INIT = """\
[Unit]
Description=Cloud-init: Network Stage
Requires=cloud-init-network.service
After=cloud-init-network.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true

[Install]
WantedBy=cloud-init.target
"""


def tree(index: Path, archive: Key) -> Path:
    """The unpacked image; its archive's key is `archive`. Made in half a minute, once per index of Debian."""
    inputs = "\n".join([index.name, archive.fingerprint, Path(__file__).read_text()])
    return cache.made("tree", inputs, lambda folder: _bootstrap(folder / "root", archive)) / "root"


def squashfs(root: Path) -> Path:
    """The image as Canonical packs it."""
    return cache.made("squashfs", str(root.parent), lambda folder: _squash(root, folder)) / f"{NAME}.squashfs"


def sign(images: Iterable[Path], folder: Path, key: Key) -> None:
    """SHA256SUMS of images, and its signature, as Canonical publishes them; into a folder."""
    folder.mkdir(exist_ok=True)
    (folder / "SHA256SUMS").write_text("".join(f"{_sha256(path)} *{path.name}\n" for path in images))
    key.sign_detached(folder / "SHA256SUMS", folder / "SHA256SUMS.gpg")


def _bootstrap(root: Path, archive: Key) -> None:
    argv = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(_PACKAGES)}"]
    subprocess.run([*argv, debian.SUITE, root, f"deb {debian.mirror()} {debian.SUITE} main"], check=True)
    write(root / "usr/lib/os-release", _OS_RELEASE)
    (root / "etc/apt/sources.list").unlink()
    write(root / "etc/apt/sources.list.d/ubuntu.sources", _SOURCES)
    shutil.copyfile(archive.keyring, root / "usr/share/keyrings/ubuntu-archive-keyring.gpg")
    config = root / "etc/cloud/cloud.cfg"
    config.write_text(config.read_text().replace("distro: debian", "distro: ubuntu"))
    write(root / "usr/lib/systemd/system/cloud-init.service", _CLOUD_INIT)
    # The host's resolver, which mmdebstrap left; systemd-resolved's stub is what Ubuntu has.
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    (root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    for trace in ("etc/hostname", "etc/machine-id"):
        write(root / trace, "")
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()


def _squash(root: Path, folder: Path) -> None:
    argv = ["mksquashfs", root, folder / f"{NAME}.squashfs", "-quiet", "-no-progress", "-no-xattrs"]
    subprocess.run([*argv, "-comp", "zstd", "-Xcompression-level", "1"], check=True, capture_output=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
