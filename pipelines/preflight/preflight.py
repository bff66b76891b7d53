"""Is this host fit to build?

One list of preconditions for both who asks: a build, which does not start without them, and `inv doctor`, which shows
all of them and what else is worth knowing.
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
from pipelines.util import architecture as util_architecture
from pipelines.util import process
from pipelines.util.errors import HostError, ProgramError


def require(variant: Variant, builds: Path) -> None:
    """HostError, before anything starts, that names all that would make a build fail.

    The servers are not asked: the build is about to do just that.
    """
    checks.require(checks.look({variant.name: tuple(preconditions(variant, builds))}))


def examine(variants: Sequence[Variant], builds: Path) -> tuple[Finding, ...]:
    """All findings, for `inv doctor`."""
    return checks.look(
        {
            variant.name: (*preconditions(variant, builds), *servers.needed(variant), *_worth_knowing(variant))
            for variant in variants
        }
    )


def preconditions(variant: Variant, builds: Path) -> Iterator[Check]:
    """What this machine must have and allow."""
    yield from programs.needed(variant)
    yield Check(disk_space.space, (builds, disk_space.space_needed(variant)))
    for name, path in resolver.local_files(variant).items():
        yield Check(given, (name, path))
    for name, secret in variant.secrets.items():
        if secret.env is not None:
            yield Check(exported, (name, secret.env))
    if variant.base is None:
        return  # an imported image is converted, by whoever may write here
    yield Check(root)
    yield Check(architecture, (variant.base.architecture,))
    if _mounts(variant):
        yield Check(loop_devices)
    if root().fit:  # without, these would only say the same again
        yield Check(namespaces)
        yield Check(disk_space.tree, (builds, process.as_root()))


def given(name: str, path: Path) -> Finding:
    """Whether what images.yaml says lies here does."""
    fit = os.access(path, os.R_OK)
    detail = str(path) if fit else f"{path} {'cannot be read' if path.exists() else 'is not there'}"
    remedy = "" if fit else "Put it there, or correct its path in images.yaml."
    return Finding(name=name, fit=fit, fatal=True, detail=detail, remedy=remedy)


def exported(name: str, variable: str) -> Finding:
    """Whether a secret is in the environment."""
    fit = bool(os.environ.get(variable))
    detail = f"in ${variable}" if fit else f"${variable} is not set"
    return Finding(name=name, fit=fit, fatal=True, detail=detail, remedy="" if fit else f"export {variable}=…")


def root() -> Finding:
    """Whether we are root, or can be."""
    if os.geteuid() == 0:
        return Finding(name="root", fit=True, fatal=True, detail="running as root")
    if _refusal(["sudo", "-n", "true"]):
        remedy = "Run as root, or allow this user sudo without a password."
        detail = "not root, and sudo does not work without a password"
        return Finding(name="root", fit=False, fatal=True, detail=detail, remedy=remedy)
    return Finding(name="root", fit=True, fatal=True, detail="sudo works without a password")


def architecture(guest: str) -> Finding:
    """Whether the guest's programs run here: its packages' scripts and compilers do, while it is built."""
    machine = platform.machine()
    fit = util_architecture.ARCHITECTURES[guest] == machine
    cannot = f"this host is {machine}, which cannot run the programs of an {guest} guest"
    detail = f"{guest} guests are built here" if fit else cannot
    remedy = "" if fit else f"Build it on an {guest} host."
    return Finding(name="architecture", fit=fit, fatal=True, detail=detail, remedy=remedy)


def namespaces() -> Finding:
    """Whether a build can have mounts and processes of its own."""
    unshare = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child")
    refusal = _refusal([*process.as_root(), *unshare, "--mount-proc", "true"])
    if not refusal:
        return Finding(name="namespaces", fit=True, fatal=True, detail="mount and process namespaces")
    remedy = "In a container: allow CAP_SYS_ADMIN (docker run --privileged)."
    return Finding(name="namespaces", fit=False, fatal=True, detail=refusal, remedy=remedy)


def loop_devices() -> Finding:
    """Whether a file system in a file can be mounted."""
    fit = Path("/dev/loop-control").exists()
    detail = "there" if fit else "none; `filesystem: xfs` and bases that are disks need one"
    remedy = "" if fit else "modprobe loop (in a container: on its host), or `filesystem: ext4` and a squashfs base."
    return Finding(name="loop devices", fit=fit, fatal=True, detail=detail, remedy=remedy)


def loop_devices_unneeded() -> Finding:
    """The same where nothing depends on it."""
    return dataclasses.replace(loop_devices(), fatal=False)


def device_mapper() -> Finding:
    """Whether diskimage-builder could partition in its own way. Our disks are assembled without it."""
    fit = Path("/dev/mapper/control").exists() and "device-mapper" in Path("/proc/misc").read_text(encoding="utf-8")
    detail = "there" if fit else "not there; builds do not need it"
    return Finding(name="device-mapper", fit=fit, fatal=False, detail=detail)


def kvm() -> Finding:
    """Whether virtual machines run at full speed."""
    try:
        fit = qemu.kvm_works()
    except HostError as error:
        return Finding(name="KVM", fit=None, fatal=False, detail=f"not probed: {error}", remedy=error.remedy)
    there = "there and not usable" if Path("/dev/kvm").exists() else "not there"
    slow = f"{there} (probed): verify --boot uses software emulation, minutes not seconds"
    return Finding(name="KVM", fit=fit, fatal=False, detail="usable (probed)" if fit else slow)


def _mounts(variant: Variant) -> bool:
    """Whether a build mounts a file system: an xfs root to fill it, or a base that is a disk to read it."""
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
    """What a program says when it fails; nothing when it works."""
    try:
        process.run(argv, deadline=10)
    except (ProgramError, HostError) as error:
        return str(error)
    return ""
