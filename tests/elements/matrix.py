"""Expected drivers by release, source and kind of modules: the table of test_driver_matrix.py.

A line of `_TABLE` is `release source modules` and either `element: packages` or `refused: words of the refusal`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from pipelines.gpus.database import Modules
from pipelines.gpus.resolver import Request

SOURCES = ("archive", "nvidia-repo", "precompiled", "runfile", "local")
FLAVOURS: tuple[Modules, ...] = ("open", "proprietary")
_DISTRIBUTIONS: Mapping[str, Literal["debian", "ubuntu"]] = {
    "bookworm": "debian",
    "trixie": "debian",
    "jammy": "ubuntu",
    "noble": "ubuntu",
    "resolute": "ubuntu",
}
_TWINS = {"almalinux": "AlmaLinux", "rhel": "RHEL"}  # of Rocky


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One guest's driver."""

    distribution: str
    release: str
    source: str
    modules: Modules

    def __str__(self) -> str:
        return f"{self.distribution}-{self.release}-{self.source}-{self.modules}"

    def request(self, branch: int | None) -> Request:
        """The case as the catalog asks its resolver."""
        return Request(
            distribution=self.distribution,
            release=self.release,
            source=self.source,
            modules=self.modules,
            branch=branch,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What makes it: an element and the packages that it asks for; or words of the catalog's refusal."""

    element: str = ""
    packages: str = ""
    refusal: str = ""


_TABLE = """
bookworm archive     open        nvidia-archive: nvidia-open-kernel-dkms libcuda1 libnvidia-ml1 nvidia-smi nvidia-modprobe nvidia-persistenced
bookworm archive     proprietary nvidia-archive: nvidia-kernel-dkms libcuda1 libnvidia-ml1 nvidia-smi nvidia-modprobe nvidia-persistenced
bookworm nvidia-repo open        nvidia-repository: nvidia-driver-pinning-580 nvidia-kernel-open-dkms nvidia-driver-cuda nvidia-persistenced nvidia-modprobe
bookworm nvidia-repo proprietary nvidia-repository: nvidia-driver-pinning-580 nvidia-kernel-dkms nvidia-driver-cuda nvidia-persistenced nvidia-modprobe
bookworm precompiled open        refused: Debian 12 has no precompiled NVIDIA modules
bookworm precompiled proprietary refused: Debian 12 has no precompiled NVIDIA modules
bookworm runfile     open        nvidia-runfile:
bookworm runfile     proprietary nvidia-runfile:
bookworm local       open        nvidia-local:
bookworm local       proprietary nvidia-local:

trixie archive     open        nvidia-archive: nvidia-open-kernel-dkms libcuda1 libnvidia-ml1 nvidia-smi nvidia-modprobe nvidia-persistenced
trixie archive     proprietary nvidia-archive: nvidia-kernel-dkms libcuda1 libnvidia-ml1 nvidia-smi nvidia-modprobe nvidia-persistenced
trixie nvidia-repo open        nvidia-repository: nvidia-driver-pinning-580 nvidia-kernel-open-dkms nvidia-driver-cuda nvidia-persistenced nvidia-modprobe
trixie nvidia-repo proprietary nvidia-repository: nvidia-driver-pinning-580 nvidia-kernel-dkms nvidia-driver-cuda nvidia-persistenced nvidia-modprobe
trixie precompiled open        refused: Debian 13 has no precompiled NVIDIA modules
trixie precompiled proprietary refused: Debian 13 has no precompiled NVIDIA modules
trixie runfile     open        nvidia-runfile:
trixie runfile     proprietary nvidia-runfile:
trixie local       open        nvidia-local:
trixie local       proprietary nvidia-local:

jammy archive     open        nvidia-archive: nvidia-dkms-580-server-open libnvidia-compute-580-server nvidia-utils-580-server nvidia-compute-utils-580-server nvidia-modprobe
jammy archive     proprietary nvidia-archive: nvidia-dkms-580-server libnvidia-compute-580-server nvidia-utils-580-server nvidia-compute-utils-580-server nvidia-modprobe
jammy nvidia-repo open        nvidia-repository: nvidia-driver-pinning-580 nvidia-dkms-580-open libnvidia-compute-580 nvidia-persistenced nvidia-modprobe
jammy nvidia-repo proprietary nvidia-repository: nvidia-driver-pinning-580 nvidia-dkms-580 libnvidia-compute-580 nvidia-persistenced nvidia-modprobe
jammy precompiled open        nvidia-precompiled: linux-modules-nvidia-580-server-open-generic nvidia-headless-no-dkms-580-server-open nvidia-utils-580-server nvidia-compute-utils-580-server nvidia-modprobe
jammy precompiled proprietary nvidia-precompiled: linux-modules-nvidia-580-server-generic nvidia-headless-no-dkms-580-server nvidia-utils-580-server nvidia-compute-utils-580-server nvidia-modprobe
jammy runfile     open        nvidia-runfile:
jammy runfile     proprietary nvidia-runfile:
jammy local       open        nvidia-local:
jammy local       proprietary nvidia-local:

noble archive     open        nvidia-archive: nvidia-dkms-580-server-open libnvidia-compute-580-server nvidia-utils-580-server nvidia-compute-utils-580-server nvidia-modprobe
noble archive     proprietary nvidia-archive: nvidia-dkms-580-server libnvidia-compute-580-server nvidia-utils-580-server nvidia-compute-utils-580-server nvidia-modprobe
noble nvidia-repo open        nvidia-repository: nvidia-driver-pinning-580 nvidia-dkms-580-open libnvidia-compute-580 nvidia-persistenced nvidia-modprobe
noble nvidia-repo proprietary nvidia-repository: nvidia-driver-pinning-580 nvidia-dkms-580 libnvidia-compute-580 nvidia-persistenced nvidia-modprobe
noble precompiled open        nvidia-precompiled: linux-modules-nvidia-580-server-open-generic nvidia-headless-no-dkms-580-server-open nvidia-utils-580-server nvidia-compute-utils-580-server nvidia-modprobe
noble precompiled proprietary nvidia-precompiled: linux-modules-nvidia-580-server-generic nvidia-headless-no-dkms-580-server nvidia-utils-580-server nvidia-compute-utils-580-server nvidia-modprobe
noble runfile     open        nvidia-runfile:
noble runfile     proprietary nvidia-runfile:
noble local       open        nvidia-local:
noble local       proprietary nvidia-local:

resolute archive     open        nvidia-archive: nvidia-dkms-580-server-open libnvidia-compute-580-server nvidia-utils-580-server nvidia-compute-utils-580-server nvidia-modprobe
resolute archive     proprietary nvidia-archive: nvidia-dkms-580-server libnvidia-compute-580-server nvidia-utils-580-server nvidia-compute-utils-580-server nvidia-modprobe
resolute nvidia-repo open        nvidia-repository: nvidia-driver-pinning-595 nvidia-dkms-open libnvidia-compute nvidia-persistenced nvidia-modprobe
resolute nvidia-repo proprietary nvidia-repository: nvidia-driver-pinning-595 nvidia-dkms libnvidia-compute nvidia-persistenced nvidia-modprobe
resolute precompiled open        nvidia-precompiled: linux-modules-nvidia-580-server-open-generic nvidia-headless-no-dkms-580-server-open nvidia-utils-580-server nvidia-compute-utils-580-server nvidia-modprobe
resolute precompiled proprietary nvidia-precompiled: linux-modules-nvidia-580-server-generic nvidia-headless-no-dkms-580-server nvidia-utils-580-server nvidia-compute-utils-580-server nvidia-modprobe
resolute runfile     open        nvidia-runfile:
resolute runfile     proprietary nvidia-runfile:
resolute local       open        nvidia-local:
resolute local       proprietary nvidia-local:

rocky-9 archive     open        refused: Rocky 9's own archive has no NVIDIA driver
rocky-9 archive     proprietary refused: Rocky 9's own archive has no NVIDIA driver
rocky-9 nvidia-repo open        nvidia-repository: stream nvidia-driver:580-open kmod-nvidia-open-dkms=580.* nvidia-driver-cuda=580.* nvidia-persistenced=580.*
rocky-9 nvidia-repo proprietary nvidia-repository: stream nvidia-driver:580-dkms kmod-nvidia-latest-dkms=580.* nvidia-driver-cuda=580.* nvidia-persistenced=580.*
rocky-9 precompiled open        refused: Rocky 9 has no precompiled NVIDIA modules
rocky-9 precompiled proprietary refused: Rocky 9 has no precompiled NVIDIA modules
rocky-9 runfile     open        nvidia-runfile:
rocky-9 runfile     proprietary nvidia-runfile:
rocky-9 local       open        nvidia-local:
rocky-9 local       proprietary nvidia-local:

rocky-10 archive     open        refused: Rocky 10's own archive has no NVIDIA driver
rocky-10 archive     proprietary refused: Rocky 10's own archive has no NVIDIA driver
rocky-10 nvidia-repo open        nvidia-repository: kmod-nvidia-open-dkms=580.* nvidia-driver-cuda=580.* nvidia-persistenced=580.*
rocky-10 nvidia-repo proprietary nvidia-repository: kmod-nvidia-latest-dkms=580.* nvidia-driver-cuda=580.* nvidia-persistenced=580.*
rocky-10 precompiled open        refused: Rocky 10 has no precompiled NVIDIA modules
rocky-10 precompiled proprietary refused: Rocky 10 has no precompiled NVIDIA modules
rocky-10 runfile     open        nvidia-runfile:
rocky-10 runfile     proprietary nvidia-runfile:
rocky-10 local       open        nvidia-local:
rocky-10 local       proprietary nvidia-local:
"""  # noqa: E501  (a table reads by its columns)


def _parsed() -> dict[Case, Row]:
    rows = {}
    for line in filter(None, _TABLE.splitlines()):
        names, verdict, rest = re.fullmatch(r"(\S+ +\S+ +\S+) +(\S+): *(.*)", line).groups()  # type: ignore[union-attr]
        release, source, modules = names.split()
        row = Row(refusal=rest) if verdict == "refused" else Row(element=verdict, packages=rest)
        distribution, _, number = release.partition("-")
        case = Case(
            distribution=_DISTRIBUTIONS.get(release, distribution),
            release=number or release,
            source=source,
            modules=modules,
        )
        assert case not in rows, line
        rows[case] = row
    return rows


def _with_twins(rows: Mapping[Case, Row]) -> dict[Case, Row]:
    """AlmaLinux and RHEL have Rocky's rows."""
    together = dict(rows)
    for case, row in rows.items():
        for distribution, label in _TWINS.items() if case.distribution == "rocky" else ():
            twin = replace(case, distribution=distribution)
            together[twin] = replace(row, refusal=row.refusal.replace("Rocky", label))
    return together


ROWS = _with_twins(_parsed())
RELEASES = tuple(dict.fromkeys((case.distribution, case.release) for case in ROWS))


def branch(case: Case) -> int | None:
    """The branch that the case asks for, where its source has several."""
    several = case.source in {"nvidia-repo", "precompiled"} or case.distribution == "ubuntu"
    if case.source in {"runfile", "local"} or not several:
        return None
    return 595 if (case.release, case.source) == ("resolute", "nvidia-repo") else 580
