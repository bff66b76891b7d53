"""The tree that a Rocky guest of a test starts with.

A tree of Debian's packages with real dnf, rpm, DKMS and dracut, and nothing that says what it is.
"""

import shutil
import subprocess
from pathlib import Path

from tests.support.standins import cache, debian
from tests.support.standins.deb import write

_PACKAGES = (
    *("rpm", "dnf", "dnf-plugins-core", "systemd-sysv", "sudo", "python3", "libelf-dev", "policycoreutils", "kmod"),
    *("dkms", "gcc", "make", "linux-headers-amd64", "dracut-core", "cpio", "zstd", "xz-utils", "grub2-common"),
    *("grub-pc-bin", "cloud-init", "openssh-server", "zlib1g-dev", "ca-certificates", "rsync"),
)
# Plug-ins of dnf that Debian turns on and Rocky does not.
_FOREIGN = ("local", "system_upgrade")


def tree() -> Path:
    """The tree; made in a minute, once per index of Debian."""
    inputs = debian.index(cache.FOLDER / "debian").name + Path(__file__).read_text()
    return cache.made("rocky", inputs, lambda folder: _bootstrap(folder / "root")) / "root"


def _bootstrap(root: Path) -> None:
    argv = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(_PACKAGES)}"]
    subprocess.run([*argv, debian.SUITE, root, f"deb {debian.mirror()} {debian.SUITE} main"], check=True)
    # Debian's headers serve another kernel here.
    for folder in ("usr/lib/modules", "boot"):
        shutil.rmtree(root / folder)
        (root / folder).mkdir()
    for plugin in _FOREIGN:
        (root / f"usr/lib/python3/dist-packages/dnf-plugins/{plugin}.py").unlink()
    for name in ("etc/apt/sources.list", "etc/hostname"):
        (root / name).unlink(missing_ok=True)
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    write(root / "etc/resolv.conf", "")
