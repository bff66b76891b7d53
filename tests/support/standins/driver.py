"""Test double of an NVIDIA driver, and how its vendors split it into packages.

The modules are small and real: DKMS compiles them, and without a GPU they end as NVIDIA's do. The libraries are shared
objects with a soname. The programs are scripts that say what NVIDIA's say where no driver runs.
"""

import functools
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.support.standins import deb
from tests.support.standins.deb import Deb

SOURCE = Path(__file__).parent / "source"
VERSION = "580.95.05"
LICENCES = {"open": "Dual MIT/GPL", "proprietary": "NVIDIA"}  # what modinfo says of NVIDIA's own
_LIBRARIES = "/usr/lib/x86_64-linux-gnu"
_MODULE_FILES = ("nvidia.c", "nvidia-uvm.c", "nvidia-modeset.c", "Kbuild", "Makefile", "dkms.conf")

Files = Mapping[str, str | bytes]


def text(name: str, *, version: str = VERSION, modules: str = "open", dkms: str = "nvidia") -> str:
    """A file of the driver, for a version."""
    values = {"@VERSION@": version, "@LICENCE@": LICENCES[modules], "@DKMS@": dkms}
    content = (SOURCE / name).read_text()
    for mark, value in values.items():
        content = content.replace(mark, value)
    return content


def source_files(*, version: str = VERSION, modules: str = "open", dkms: str = "nvidia") -> Files:
    """The kernel modules' source where DKMS looks for it."""
    return {
        f"/usr/src/{dkms}-{version}/{name}": text(name, version=version, modules=modules, dkms=dkms)
        for name in _MODULE_FILES
    }


@functools.cache
def library(name: str, version: str = VERSION) -> tuple[Files, Mapping[str, str]]:
    """A shared object of the driver, and the links that lead to it."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / name
        options = ["-shared", "-fPIC", "-nostdlib", "-s", f"-Wl,-soname,{name}.so.1"]
        subprocess.run(["gcc", *options, "-o", result, SOURCE / f"{name}.c"], check=True, capture_output=True)
        content = result.read_bytes()
    return {f"{_LIBRARIES}/{name}.so.{version}": content}, {f"{_LIBRARIES}/{name}.so.1": f"{name}.so.{version}"}


def source_package(name: str, version: str, *, modules: str, dkms: str, **fields: str) -> Deb:
    """A package that brings the modules' source and has DKMS compile it, with the scripts of dh_dkms."""
    upstream = upstream_of(version)
    return Deb(
        name=name,
        version=version,
        fields={"Depends": "dkms, gcc, make", **fields},
        files=source_files(version=upstream, modules=modules, dkms=dkms),
        scripts={script: text(script, version=upstream, dkms=dkms) for script in ("postinst", "prerm")},
    )


def library_package(name: str, version: str, *libraries: str, **fields: str) -> Deb:
    """A package with some of the driver's libraries."""
    files: dict[str, str | bytes] = {}
    links: dict[str, str] = {}
    for each in libraries:
        content, leads = library(each, upstream_of(version))
        files |= content
        links |= leads
    # What debhelper writes into a library's package: ldconfig runs when the links are there.
    return Deb(
        name=name,
        version=version,
        fields=fields,
        files=files,
        links=links,
        scripts={"triggers": "activate-noawait ldconfig\n"},
    )


def program_package(name: str, version: str, *programs: str, **fields: str) -> Deb:
    """A package with some of the driver's programs, and the unit of a program that has one."""
    files = {f"/usr/bin/{program}": text(program) for program in programs}
    for unit in programs:
        if (SOURCE / f"{unit}.service").exists():
            files[f"/usr/lib/systemd/system/{unit}.service"] = text(f"{unit}.service")
    return Deb(name=name, version=version, fields=fields, files=files)


def metapackage(name: str, version: str, depends: str, **fields: str) -> Deb:
    """A package that only asks for others."""
    return Deb(name=name, version=version, fields={"Depends": depends, **fields})


def upstream_of(version: str) -> str:
    """NVIDIA's version in a package's: no epoch, no revision."""
    return version.rpartition(":")[2].partition("-")[0]


def debian_packages(version: str = f"{VERSION}-1") -> tuple[Deb, ...]:
    """The driver as Debian cuts it, newer than Debian's own, in a folder that needs nothing of non-free."""
    same = f"(= {version})"
    return (
        source_package("nvidia-kernel-dkms", version, modules="proprietary", dkms="nvidia", Provides="nvidia-kernel"),
        source_package(
            "nvidia-open-kernel-dkms",
            version,
            modules="open",
            dkms="nvidia",
            Provides="nvidia-kernel",
            Conflicts="nvidia-kernel-dkms",
        ),
        library_package("libcuda1", version, "libcuda"),
        library_package("libnvidia-ml1", version, "libnvidia-ml"),
        program_package("nvidia-smi", version, "nvidia-smi", Depends=f"libnvidia-ml1 {same}"),
        program_package("nvidia-modprobe", version, "nvidia-modprobe"),
        program_package("nvidia-persistenced", version, "nvidia-persistenced"),
    )


def local_folder(path: Path, *, modules: str = "open") -> Path:
    """A folder of packages for `driver.source: local` on Debian: a whole driver with one kind of modules."""
    other = {"open": "nvidia-kernel-dkms", "proprietary": "nvidia-open-kernel-dkms"}[modules]
    deb.build((package for package in debian_packages() if package.name != other), path)
    return path
