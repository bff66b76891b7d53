"""Check of the kernel that boots, and the places of its files in each distribution."""

import re
from collections.abc import Callable

from pipelines.catalog.base import Base
from pipelines.catalog.distributions import DISTRIBUTIONS, Family
from pipelines.verify.check import Guest, Outcome, outcome


def kernel(guest: Guest) -> Outcome:
    """Exactly the declared kernel boots: GRUB's default entry, its image, initramfs and modules. It is the only one."""
    release, files = guest.manifest.kernel, guest.files
    problems = _boot_problems(guest)
    for path in (f"/boot/vmlinuz-{release}", initramfs(guest), f"/lib/modules/{release}/modules.dep"):
        entry = files.stat(path)
        if entry is None or not entry.size:
            problems.append(f"{path} is missing or empty")
    others = [name for name in files.listdir("/lib/modules") if name != release]
    others += [name for name in files.listdir("/boot") if name.startswith("vmlinuz-") and name != f"vmlinuz-{release}"]
    problems += [f"{name} belongs to another kernel" for name in others]
    return outcome(problems, f"{release} boots, and is the only kernel")


def family(guest: Guest) -> Family:
    """What the guest's family of distributions has in common."""
    return DISTRIBUTIONS[base(guest).distribution].family


def base(guest: Guest) -> Base:
    """The base that the guest was built from."""
    if guest.variant.base is None:
        raise ValueError("the variant has no base, so its distribution and architecture are unknown")
    return guest.variant.base


def initramfs(guest: Guest) -> str:
    """The path of the initramfs of the kernel that boots."""
    return family(guest).initramfs.format(release=guest.manifest.kernel)


CHECKS: tuple[tuple[str, Callable[[Guest], Outcome]], ...] = (("kernel", kernel),)


def _boot_problems(guest: Guest) -> list[str]:
    """What is wrong with GRUB's menu, and with the files of its entries where the distribution has such files."""
    release, where = guest.manifest.kernel, family(guest).menu
    menu = guest.files.text(where) or ""
    boots = re.findall(r"^\s*linux\S*\s+(\S+)", menu, re.MULTILINE)
    default = re.search(r"^\s*set default=\"?([^\"\n]*)", menu, re.MULTILINE)
    problems = []
    if not boots:
        problems.append(f"{where} boots no kernel")
    elif boots[0] != f"/boot/vmlinuz-{release}":
        problems.append(f"GRUB's first entry boots {boots[0]}, the manifest says {release}")
    if default is not None and default[1].strip() != "0":
        problems.append(f"GRUB's default entry is {default[1]!r}, not the first")
    entries = [f"/boot/loader/entries/{name}" for name in guest.files.listdir("/boot/loader/entries")]
    for path, content in guest.files.contents(entries).items():
        image = re.search(rb"^linux\s+(\S+)", content, re.MULTILINE)
        if image is None or image[1].decode() != f"/boot/vmlinuz-{release}":
            problems.append(f"{path} boots another kernel than {release}")
    if re.search("^saved_entry=.", guest.files.text("/boot/grub2/grubenv") or "", re.MULTILINE):
        problems.append("/boot/grub2/grubenv names another default entry")
    return problems
