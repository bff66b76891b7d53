"""The same images by mkosi.

mkosi of Debian 13 in a root of its own, so that it is always the same, with the same systemd-repart, on any host. It
makes a raw disk; like our images this becomes a compressed qcow2 file.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks import packages, site, stock
from benchmarks.packages import Packages
from benchmarks.site import Site, Taken
from pipelines.build.recipe import Command
from pipelines.catalog.distributions import DISTRIBUTIONS
from pipelines.catalog.variant import Variant
from pipelines.preflight import apt_mirrors
from pipelines.util import process
from pipelines.util.errors import BuildError, HostError

_SECURITY = DISTRIBUTIONS["debian"].security_variable
HERE = Path(__file__).resolve().parent / "mkosi"
_TOOLS = (
    *("mkosi", "systemd-repart", "apt", "ca-certificates", "cpio", "debian-archive-keyring", "dosfstools"),
    *("e2fsprogs", "fdisk", "gpg", "grub-common", "grub-pc-bin", "grub2-common", "kmod", "mtools", "qemu-utils"),
    *("systemd", "uidmap", "xz-utils", "zstd"),
)
_SOURCES = """\
Types: deb
URIs: {uri}
Suites: {suites}
Components: main contrib non-free non-free-firmware
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
# One command, so that its time is mkosi's and the conversion's together.
_WORK = 'mkosi --directory /bench --force build && qemu-img convert -f raw -O qcow2 -c -o "compression_type=$1" {} {}'


def measure(place: Site, variant: Variant) -> Iterator[Taken]:
    """A build with an empty cache, and one with what the first has left in it."""
    tools = _tools(place)
    folder = place.fresh(variant, "mkosi")
    prepare(variant, packages.requested(), folder)
    made = command(variant, tools, folder)
    version = process.run([*process.as_root(), "chroot", str(tools), "mkosi", "--version"], deadline=60).stdout
    for quantity, what in (("mkosi", "mkosi"), ("mkosi-again", "mkosi again")):
        seconds = place.run(made, f"{variant.name} {what}")
        image = folder / "image.qcow2"
        facts = stock.inside(place.output(f"{variant.name} {what}"))
        facts |= {"bytes": str(image.stat().st_size), "version": version.strip().removeprefix("mkosi ")}
        site.remove(image)
        yield Taken(quantity=quantity, value=seconds, facts=facts)
    site.remove(folder)


def _tools(place: Site) -> Path:
    """mkosi's root, made when it is first needed. HostError when it cannot be made."""
    root = place.scratch / "tools"
    if not root.exists():
        try:
            place.run(tools_command(root), "install mkosi")
        except (BuildError, HostError) as error:
            site.remove(root)
            raise HostError(f"mkosi is not available: {error.what}", remedy=error.remedy) from error
    return root


def tools_command(root: Path) -> Command:
    """The run that makes a root with mkosi and what it calls."""
    argv = [*process.as_root(), process.require("mmdebstrap", "mmdebstrap"), "--variant=apt"]
    argv += ['--aptopt=Apt::Install-Recommends "false"', f"--include={','.join(_TOOLS)}", "trixie", str(root)]
    lent = apt_mirrors.usable("debian").get(apt_mirrors.DISTRIBUTION)
    return Command(argv=(*argv, *([lent] if lent else [])), environment=site.environment())


def prepare(variant: Variant, packages: Packages, folder: Path) -> None:
    """Write mkosi's configuration into `folder`: what is always the same, and what a variant asks for."""
    assert variant.base is not None  # the cases are Debian's, bootstrapped
    shutil.copytree(HERE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("enter"))
    lent = apt_mirrors.usable(variant.base.distribution)
    asked = "\n         ".join((*packages.system, *packages.driver))
    chosen = f"[Distribution]\nRelease={variant.base.codename}\n"
    chosen += f"Mirror={lent[apt_mirrors.DISTRIBUTION]}\n" if apt_mirrors.DISTRIBUTION in lent else ""
    chosen += f"\n[Content]\nPackages={asked}\n"
    (folder / "mkosi.conf.d").mkdir()
    (folder / "mkosi.conf.d" / "chosen.conf").write_text(chosen, encoding="utf-8")
    for name in ("cache", "packages", "scratch", "output"):
        (folder / name).mkdir()
    if _SECURITY in lent and apt_mirrors.DISTRIBUTION in lent:
        _write_sources(folder / "mkosi.sandbox", variant.base.codename, lent)


def command(variant: Variant, tools: Path, folder: Path) -> Command:
    """mkosi's run in a prepared `folder`; the image is there as image.qcow2 afterwards."""
    argv = [*process.as_root(), "setpriv", "--pdeathsig", "KILL"]
    argv += ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    argv += [str(HERE / "enter"), str(tools), str(folder)]
    work = _WORK.format("/bench/output/image.raw", "/bench/image.qcow2")
    argv += ["sh", "-c", work, "sh", variant.disk.compression]
    return Command(argv=tuple(argv), environment=site.environment(HOME="/root"))


def _write_sources(sandbox: Path, release: str, lent: dict[str, str]) -> None:
    """The mirrors of all our builds instead of mkosi's own, which adds sources and debug symbols to them."""
    main = _SOURCES.format(uri=lent[apt_mirrors.DISTRIBUTION], suites=f"{release} {release}-updates")
    security = _SOURCES.format(uri=lent[_SECURITY], suites=f"{release}-security")
    path = sandbox / "etc" / "apt" / "sources.list.d" / "mkosi.sources"
    path.parent.mkdir(parents=True)
    path.write_text(f"{main}\n{security}", encoding="utf-8")
