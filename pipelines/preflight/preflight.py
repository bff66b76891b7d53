"""The preconditions of a build on this host.

One list for both: a build, which does not start without them, and `inv doctor`, which shows them and what else is worth
knowing.
"""

import dataclasses
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipelines.catalog.variant import Variant
from pipelines.diskimage import qemu
from pipelines.inputs import resolver
from pipelines.preflight import checks, disk_space, programs, servers
from pipelines.preflight.checks import Check, Finding
from pipelines.util import process
from pipelines.util.architecture import ARCHITECTURES
from pipelines.util.errors import HostError, ProgramError


def require(variant: Variant, builds: Path) -> None:
    """HostError, before anything is started, with everything that would make a build fail.

    Servers are not asked, since the build is about to do that.
    """
    checks.require(checks.run({variant.name: tuple(preconditions(variant, builds))}))


def examine(variants: Sequence[Variant], builds: Path) -> tuple[Finding, ...]:
    """All findings, for `inv doctor`."""
    return checks.run(
        {
            variant.name: (*preconditions(variant, builds), *servers.needed(variant), *_worth_knowing(variant))
            for variant in variants
        }
    )


def preconditions(variant: Variant, builds: Path) -> Iterator[Check]:
    """The checks without which a build cannot succeed."""
    yield from programs.needed(variant)
    yield Check(disk_space.space, (builds, disk_space.space_needed(variant)))
    for name, path in resolver.local_files(variant).items():
        yield Check(local_file, (name, path))
    for name, secret in variant.secrets.items():
        if secret.env is not None:
            yield Check(exported, (name, secret.env))
    if variant.base is None:
        return  # converting an imported image needs no root
    yield Check(root)
    yield Check(architecture, (variant.base.architecture,))
    if _mounts(variant):
        yield Check(loop_devices)
    if root().fit:  # without root these would only report the same again
        yield Check(namespaces)
        yield Check(disk_space.tree, (builds, process.as_root()))


def local_file(name: str, path: Path) -> Finding:
    """Whether a file or folder that images.yaml names can be read."""
    fit = os.access(path, os.R_OK)
    detail = str(path) if fit else f"{path} {'cannot be read' if path.exists() else 'does not exist'}"
    remedy = "" if fit else "Copy it there, or correct its path in images.yaml."
    return Finding(name=name, fit=fit, fatal=True, detail=detail, remedy=remedy)


def exported(name: str, variable: str) -> Finding:
    """Whether the environment has a secret."""
    fit = bool(os.environ.get(variable))
    detail = f"in ${variable}" if fit else f"${variable} is not set"
    return Finding(name=name, fit=fit, fatal=True, detail=detail, remedy="" if fit else f"export {variable}=…")


def root() -> Finding:
    """Whether this user is root, or can use sudo."""
    if os.geteuid() == 0:
        return Finding(name="root", fit=True, fatal=True, detail="running as root")
    if _refusal(["sudo", "-n", "true"]):
        remedy = "Run as root, or allow this user sudo without a password."
        detail = "not root, and sudo does not work without a password"
        return Finding(name="root", fit=False, fatal=True, detail=detail, remedy=remedy)
    return Finding(name="root", fit=True, fatal=True, detail="sudo works without a password")


def architecture(guest: str) -> Finding:
    """Whether the guest's programs run on this host, as package scripts and compilers do during a build."""
    machine = platform.machine()
    fit = ARCHITECTURES[guest] == machine
    cannot = f"this host is {machine}, which cannot run the programs of an {guest} guest"
    detail = f"this host can build {guest} guests" if fit else cannot
    remedy = "" if fit else f"Build it on an {guest} host."
    return Finding(name="architecture", fit=fit, fatal=True, detail=detail, remedy=remedy)


def namespaces() -> Finding:
    """Whether a build can have its own mount and process namespaces."""
    unshare = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child")
    refusal = _refusal([*process.as_root(), *unshare, "--mount-proc", "true"])
    if not refusal:
        return Finding(name="namespaces", fit=True, fatal=True, detail="mount and process namespaces")
    remedy = "In a container: allow CAP_SYS_ADMIN (docker run --privileged)."
    return Finding(name="namespaces", fit=False, fatal=True, detail=refusal, remedy=remedy)


def loop_devices() -> Finding:
    """Whether a file system in a file can be mounted."""
    fit = Path("/dev/loop-control").exists()
    detail = "available" if fit else "none; `filesystem: xfs` and disk images as a base need one"
    remedy = "" if fit else "modprobe loop (in a container: on its host), or `filesystem: ext4` and a squashfs base."
    return Finding(name="loop devices", fit=fit, fatal=True, detail=detail, remedy=remedy)


def loop_devices_unneeded() -> Finding:
    """The same for images that do not need one."""
    return dataclasses.replace(loop_devices(), fatal=False)


def device_mapper() -> Finding:
    """Whether diskimage-builder's own partitioning would work. Our disks are assembled without it."""
    fit = Path("/dev/mapper/control").exists() and "device-mapper" in Path("/proc/misc").read_text(encoding="utf-8")
    detail = "available" if fit else "not available; builds do not need it"
    return Finding(name="device-mapper", fit=fit, fatal=False, detail=detail)


def kvm() -> Finding:
    """Whether virtual machines run at full speed."""
    try:
        fit = qemu.kvm_works()
    except HostError as error:
        return Finding(name="KVM", fit=None, fatal=False, detail=f"not tested: {error}", remedy=error.remedy)
    state = "not usable (tested)" if Path("/dev/kvm").exists() else "not available"
    slow = f"{state}: `verify --boot` uses software emulation, and takes minutes instead of seconds"
    return Finding(name="KVM", fit=fit, fatal=False, detail="usable (tested)" if fit else slow)


def _mounts(variant: Variant) -> bool:
    """Whether a build mounts a file system: an xfs root to fill it, or a base that is a disk image to read it."""
    place = variant.base.url or variant.base.path if variant.base else None
    is_disk = place is not None and str(place).endswith((".qcow2", ".img", ".raw"))
    return variant.disk.filesystem == "xfs" or is_disk


def _worth_knowing(variant: Variant) -> Iterator[Check]:
    yield from programs.useful(variant)
    if not _mounts(variant):
        yield Check(loop_devices_unneeded)
    yield Check(device_mapper)
    yield Check(kvm)


def _refusal(argv: Sequence[str]) -> str:
    """The error of a program that fails; "" when it works."""
    try:
        process.run(argv, deadline=10)
    except (ProgramError, HostError) as error:
        return str(error)
    return ""
