"""Test doubles that can only be made with the guest's kernel and compiler.

A guest that is ready for a driver (kernel, headers, compiler, DKMS), and in it the boot loader with Ubuntu's prefix.
"""

import shutil
from pathlib import Path

from tests.support.standins import cache
from tests.support.standins.deb import Deb, write
from tests.support.standins.guest import Guest
from tests.support.standins.site import SOURCES, Site

_PACKAGES = (
    *("linux-image-generic", "linux-headers-generic", "gcc", "g++", "make", "perl", "libc6-dev", "libelf-dev"),
    *("dkms", "kmod", "xz-utils", "zstd", "pciutils", "rsync", "grub-common", "grub-efi-amd64-bin"),
)
# What the menu of ours needs, and Ubuntu's signed GRUB has built in.
_GRUB_MODULES = (
    *("part_gpt", "fat", "ext2", "xfs", "search", "search_label", "search_fs_uuid", "normal", "configfile", "linux"),
    *("echo", "test", "serial", "terminal", "efi_gop", "all_video", "gzio"),
)


def ready(site: Site) -> tuple[Path, ...]:
    """The trees of a guest that is ready for a driver, the topmost first; made once, in a minute."""
    inputs = f"{site.tree}\n{Path(__file__).read_text()}"
    return cache.made("ready", inputs, lambda folder: _prepare(site, folder)) / "upper", site.tree


def guest(site: Site, folder: Path) -> Guest:
    """A guest of its own that is ready for a driver, and takes packages from the site."""
    made = Guest(folder, *ready(site))
    _use(site, made)
    return made


def boot_loader(site: Site, folder: Path) -> Deb:
    """GRUB that looks for its menu in EFI/ubuntu; Debian's signed one looks in EFI/debian. Not signed."""
    made = guest(site, folder)
    result = made.run(f"grub-mkimage -O x86_64-efi -p /EFI/ubuntu -o /root/grub.efi {' '.join(_GRUB_MODULES)}")
    assert result.returncode == 0, result.stdout
    content = (made.changes / "root/grub.efi").read_bytes()
    path = "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"
    return Deb(name="grub-efi-amd64-signed", version="1.202.5+2.12-1ubuntu7.3", files={path: content})


def _prepare(site: Site, folder: Path) -> None:
    made = Guest(folder, site.tree)
    _use(site, made)
    made.install(*_PACKAGES)
    shutil.rmtree(made.changes / "var/cache/apt/archives")


def _use(site: Site, made: Guest) -> None:
    """Have a guest take its packages from the site, as trusted-base does in a build."""
    write(made.changes / "etc/apt/sources.list.d/ubuntu.sources", SOURCES.replace("@MIRROR@", site.mirror))
