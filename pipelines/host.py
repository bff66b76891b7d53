"""Is this host fit, and what does it lend to a build?

The tools, the disk space, the virtualisation and the package mirror of the machine that we run on. Nothing of it may
end up in an image.
"""

import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines import process, qemu
from pipelines.errors import HostError, ProgramError

# program → (Debian package, what it is for). Without one of these a build fails.
BUILD_TOOLS: Mapping[str, tuple[str, str]] = {
    "sudo": ("sudo", "diskimage-builder calls it, even as root"),
    "unshare": ("util-linux", "a build's mounts and processes end with it"),
    "qemu-img": ("qemu-utils", "the image's format"),
    "mmdebstrap|debootstrap": ("mmdebstrap", "a Debian or Ubuntu guest from packages"),
    "unsquashfs": ("squashfs-tools", "a guest from Ubuntu's cloud image"),
    "sfdisk": ("fdisk", "the partition table"),
    "mke2fs": ("e2fsprogs", "the root file system"),
    "debugfs": ("e2fsprogs", "reading files out of a finished image"),
    "mcopy": ("mtools", "the EFI system partition"),
    "curl": ("curl", "diskimage-builder's downloads"),
}
BOOT_TOOLS: Mapping[str, tuple[str, str]] = {
    "qemu-system-x86_64": ("qemu-system-x86", "verify --boot"),
}
MIRROR_DEADLINE_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line of `inv doctor`. `fatal` findings make a build fail; the others are worth knowing."""

    name: str
    fit: bool
    fatal: bool
    detail: str
    remedy: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageSource:
    """A source of Debian packages, as the host's apt has it."""

    uri: str
    suites: tuple[str, ...]


def mirrors(distribution: str, etc: Path = Path("/etc")) -> dict[str, str]:
    """The DIB variables that let a guest of the host's own distribution be built from the host's mirrors.

    Read from apt's settings at run time; empty for another distribution, which then uses DIB's defaults. Where the
    host names no security mirror, DIB's default stays.
    """
    release = _os_release(etc)
    if distribution != "debian" or release.get("ID") != distribution:
        return {}
    codename = release.get("VERSION_CODENAME", "")
    found: dict[str, str] = {}
    for source in package_sources(etc / "apt"):
        if codename in source.suites:
            found.setdefault("DIB_DISTRIBUTION_MIRROR", source.uri)
        if f"{codename}-security" in source.suites:
            found.setdefault("DIB_DEBIAN_SECURITY_MIRROR", source.uri)
    return found


def package_sources(apt: Path) -> tuple[PackageSource, ...]:
    """The binary package sources in sources.list and sources.list.d, one-line and deb822 style (sources.list(5))."""
    found: list[PackageSource] = []
    for path in sorted([apt / "sources.list", *(apt / "sources.list.d").glob("*.list")]):
        if path.exists():
            found += _one_line_sources(path.read_text(encoding="utf-8"))
    for path in sorted((apt / "sources.list.d").glob("*.sources")):
        found += _deb822_sources(path.read_text(encoding="utf-8"))
    return tuple(found)


def require_tools(tools: Mapping[str, tuple[str, str]]) -> None:
    """HostError that names every missing program and the one command that installs them all."""
    missing = {name: package for name, (package, _) in tools.items() if _which(name) is None}
    if missing:
        raise HostError(
            f"this host lacks {', '.join(missing)}",
            remedy=f"apt-get install {' '.join(sorted(set(missing.values())))}",
        )


def require_space(folder: Path, needed: int) -> None:
    """HostError when the file system of `folder` has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise HostError(
            f"{folder} has {free / 2**30:.1f} GiB free; this build needs {needed / 2**30:.1f} GiB",
            remedy="Free some space, or put the builds elsewhere with --builds DIR.",
        )


def examine(builds: Path, needed: int, distributions: Sequence[str]) -> tuple[Finding, ...]:
    """All findings, for `inv doctor`. `needed` is the disk space of the chosen variant's build, in bytes."""
    return (
        *_tool_findings(BUILD_TOOLS, fatal=True),
        *_tool_findings(BOOT_TOOLS, fatal=False),
        _root_finding(),
        _namespace_finding(),
        _space_finding(builds, needed),
        _loop_finding(),
        _kvm_finding(),
        _device_mapper_finding(),
        *map(_mirror_finding, distributions),
    )


def _os_release(etc: Path) -> dict[str, str]:
    text = (etc / "os-release").read_text(encoding="utf-8") if (etc / "os-release").exists() else ""
    return {name: value.strip('"') for name, _, value in (line.partition("=") for line in text.splitlines())}


def _one_line_sources(text: str) -> Iterator[PackageSource]:
    for line in text.splitlines():
        words = re.sub(r"\[[^]]*\]", "", line.partition("#")[0]).split()
        if len(words) >= 3 and words[0] == "deb":
            yield PackageSource(uri=words[1].rstrip("/"), suites=(words[2],))


def _deb822_sources(text: str) -> Iterator[PackageSource]:
    for stanza in re.split(r"\n\s*\n", text):
        lines = re.sub(r"\n[ \t]+", " ", re.sub(r"(?m)^#.*\n?", "", stanza))
        fields = {
            name.strip().lower(): value.split() for name, _, value in (x.partition(":") for x in lines.split("\n"))
        }
        if "deb" in fields.get("types", []) and fields.get("enabled", ["yes"]) != ["no"]:
            for uri in fields.get("uris", []):
                yield PackageSource(uri=uri.rstrip("/"), suites=tuple(fields.get("suites", [])))


def _which(names: str) -> str | None:
    path = process.search_path()
    return next((found for name in names.split("|") if (found := shutil.which(name, path=path))), None)


def _tool_findings(tools: Mapping[str, tuple[str, str]], *, fatal: bool) -> Iterator[Finding]:
    for name, (package, purpose) in tools.items():
        found = _which(name)
        yield Finding(
            name=name,
            fit=found is not None,
            fatal=fatal,
            detail=found or f"missing; {purpose}",
            remedy="" if found else f"apt-get install {package}",
        )


def _root_finding() -> Finding:
    if os.geteuid() == 0:
        return Finding(name="root", fit=True, fatal=True, detail="running as root")
    works = _succeeds(["sudo", "-n", "true"])
    return Finding(
        name="root",
        fit=works,
        fatal=True,
        detail="sudo works without a password" if works else "not root, and sudo asks for a password",
        remedy="" if works else "Run as root, or allow this user sudo without a password.",
    )


def _namespace_finding() -> Finding:
    works = _succeeds([*root_prefix(), "unshare", "--mount", "--pid", "--fork", "--mount-proc", "true"])
    return Finding(
        name="namespaces",
        fit=works,
        fatal=True,
        detail="mount and process namespaces" if works else "unshare is refused",
        remedy="" if works else "In a container: allow CAP_SYS_ADMIN (docker run --privileged).",
    )


def _space_finding(builds: Path, needed: int) -> Finding:
    folder = next(path for path in (builds, *builds.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    fit = free >= needed
    return Finding(
        name="disk space",
        fit=fit,
        fatal=True,
        detail=f"{free / 2**30:.0f} GiB free in {folder}, {needed / 2**30:.0f} GiB needed",
        remedy="" if fit else "Free some space, or put the builds elsewhere with --builds DIR.",
    )


def _loop_finding() -> Finding:
    fit = Path("/dev/loop-control").exists()
    return Finding(
        name="loop devices",
        fit=fit,
        fatal=False,
        detail="there" if fit else "none; only `filesystem: xfs` needs one",
        remedy="" if fit else "modprobe loop",
    )


def _kvm_finding() -> Finding:
    fit = _which("qemu-system-x86_64") is not None and qemu.kvm_works()
    there = "there and not usable" if Path("/dev/kvm").exists() else "not there"
    detail = (
        "usable (probed)" if fit else f"{there} (probed): verify --boot uses software emulation, minutes not seconds"
    )
    return Finding(name="KVM", fit=fit, fatal=False, detail=detail)


def _device_mapper_finding() -> Finding:
    fit = Path("/dev/mapper/control").exists() and "device-mapper" in Path("/proc/misc").read_text(encoding="utf-8")
    return Finding(
        name="device-mapper", fit=fit, fatal=False, detail="there" if fit else "not there; builds do not need it"
    )


def _mirror_finding(distribution: str) -> Finding:
    name = f"{distribution} mirror"
    mirror = mirrors(distribution).get("DIB_DISTRIBUTION_MIRROR")
    if mirror is None:
        detail = f"this host's apt names no mirror of {distribution}; diskimage-builder's default is used, unchecked"
        return Finding(name=name, fit=True, fatal=False, detail=detail)
    try:
        with urllib.request.urlopen(f"{mirror}/", timeout=MIRROR_DEADLINE_SECONDS) as answer:
            return Finding(name=name, fit=True, fatal=True, detail=f"{mirror} answers {answer.status}")
    except urllib.error.HTTPError as error:
        # A mirror need not list its folders; that it answers is what counts.
        return Finding(name=name, fit=True, fatal=True, detail=f"{mirror} answers {error.code}")
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        remedy = "Check the network, the proxy and /etc/apt/sources.list."
        return Finding(name=name, fit=False, fatal=True, detail=f"{mirror}: {reason}", remedy=remedy)


def root_prefix() -> tuple[str, ...]:
    """What to put before a command that needs root: nothing for root, sudo otherwise."""
    return () if os.geteuid() == 0 else ("sudo", "-n", "--preserve-env")


def _succeeds(argv: Sequence[str]) -> bool:
    try:
        process.run(argv, deadline=10)
    except (ProgramError, HostError):
        return False
    return True
