"""The programs that a build runs."""

import re
import shutil
from collections.abc import Iterator

from pipelines.catalog.distributions import DISTRIBUTIONS
from pipelines.catalog.variant import Variant
from pipelines.diskimage import qemu
from pipelines.preflight.checks import Check, Finding
from pipelines.util import process
from pipelines.util.errors import HostError, ProgramError

# Program, Debian package, what it is for.
_ALWAYS = (
    ("sudo", "sudo", "diskimage-builder calls it, even as root"),
    ("unshare", "util-linux", "a build's mounts and processes end with it"),
    ("setpriv", "util-linux", "a build ends when this program is killed"),
    ("flock", "util-linux", "diskimage-builder's cache"),
    ("mount", "mount", "the guest's /proc and /dev while it is made"),
    ("find", "findutils", "the guest's files"),
    ("du", "coreutils", "how large the root file system becomes"),
    ("curl", "curl", "diskimage-builder's downloads"),
    ("qemu-img", "qemu-utils", "the image's format"),
    ("sfdisk", "fdisk", "the partition table"),
    ("mcopy", "mtools", "the EFI system partition"),
    ("zstd", "zstd", "kernel modules and initramfs of a finished image"),
)
_OF_SOURCE = {
    # DIB asks it for its version even where mmdebstrap, which is quicker, does the work.
    "bootstrap": (("debootstrap", "debootstrap", "guests made from packages"),),
    "cloud-image": (
        ("unsquashfs", "squashfs-tools", "guests made from a root file system"),
        ("gpg", "gpg", "the signature of a cloud image's checksums"),
    ),
}
_OF_SECRETS = (
    ("tar", "tar", "secrets on their way into a build"),
    ("openssl", "openssl", "the signatures of kernel modules"),
)
_OF_IMPORT = (
    ("qemu-img", "qemu-utils", "the image's format"),
    ("sfdisk", "fdisk", "its partition table"),
    ("mdir", "mtools", "its EFI system partition"),
)
_OF_FILESYSTEM = {
    "ext4": (("debugfs", "e2fsprogs", "reading files out of a finished image"),),
    "xfs": (("mkfs.xfs", "xfsprogs", "the root file system"),),
}
_MKE2FS_NEEDED = (1, 47)  # the first that knows all of the features that elements/gpt-disk turns off


def needed(variant: Variant) -> Iterator[Check]:
    """The programs without which a build of the variant, or its verification, fails."""
    if variant.base is None:
        for name, package, purpose in _OF_IMPORT:
            yield Check(program, (name, package, purpose, True))
        return
    programs = (*_ALWAYS, *_OF_SOURCE[variant.base.source], *_OF_FILESYSTEM[variant.disk.filesystem])
    programs += _OF_SECRETS if variant.secrets else ()
    for name, package, purpose in (*programs, *DISTRIBUTIONS[variant.base.distribution].family.programs):
        yield Check(program, (name, package, purpose, True))
    if variant.disk.filesystem == "ext4":
        yield Check(mke2fs)


def useful(variant: Variant) -> Iterator[Check]:
    """Programs that make a build faster, or are for `verify --boot`."""
    if variant.base and variant.base.source == "bootstrap":
        yield Check(program, ("mmdebstrap", "mmdebstrap", "faster than debootstrap", False))
    yield Check(program, ("qemu-system-x86_64", "qemu-system-x86", "verify --boot", False))
    yield Check(firmware, (qemu.firmware_of(dict(variant.properties)),))


def program(name: str, package: str, purpose: str, fatal: bool) -> Finding:
    """Whether a program is installed where root finds it."""
    found = shutil.which(name, path=process.search_path())
    if found is not None:
        return Finding(name=name, fit=True, fatal=fatal, detail=found)
    return _missing(name, package, f"missing; {purpose}", fatal=fatal)


def mke2fs() -> Finding:
    """Whether mke2fs is new enough."""
    name, package = "mke2fs", "e2fsprogs"
    try:
        output = process.run([name, "-V"], deadline=10).stderr
    except (ProgramError, HostError):
        return _missing(name, package, "missing; the root file system", fatal=True)
    version = re.match(r"mke2fs ((\d+)\.(\d+)\S*)", output)
    if version is None:
        return Finding(name=name, fit=None, fatal=True, detail="its version is not known")
    fit = (int(version[2]), int(version[3])) >= _MKE2FS_NEEDED
    detail = version[1] if fit else f"{version[1]} is too old; 1.47 or newer is needed"
    remedy = "" if fit else "Build on Debian 12, Ubuntu 24.04 or newer."
    return Finding(name=name, fit=fit, fatal=True, detail=detail, remedy=remedy)


def firmware(kind: qemu.Firmware) -> Finding:
    """Whether the firmware that an image boots with is installed."""
    missing = qemu.missing_firmware(kind)
    if missing is None:
        return Finding(name=f"{kind} firmware", fit=True, fatal=False, detail="installed")
    return _missing(f"{kind} firmware", "ovmf", f"{missing} is missing; verify --boot", fatal=False)


def _missing(name: str, package: str, detail: str, *, fatal: bool) -> Finding:
    remedy = f"apt-get install {package}"
    return Finding(name=name, fit=False, fatal=fatal, detail=detail, remedy=remedy, packages=(package,))
