"""Elements and packages of each driver, for every release, source and kind of modules.

One table, each row read from the catalog's own resolver and from what the element's install phase really asks for: the
phase runs on this host with DIB's own pkg-map on the element's, and prints the names instead of installing them.
"""

import subprocess
import sys

import pytest

from pipelines.build import element_selection
from pipelines.gpus import resolver
from pipelines.gpus.database import facts
from tests.elements.matrix import FLAVOURS, RELEASES, ROWS, SOURCES, Case, branch
from tests.support.paths import DIB_ELEMENTS, ELEMENTS

_PKG_MAP = f"""#!/bin/bash
shift # --element
element=$1
shift
exec {sys.executable} -IS {DIB_ELEMENTS}/pkg-map/bin/pkg-map --pkg-map "{ELEMENTS}/$element/pkg-map" "$@"
"""
_GUEST_OS = """#!/bin/bash
case $1 in
    install-packages) echo "${@:2}" ;;
    enable-stream) echo "stream $2" ;;
    *) exit 2 ;;
esac
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH on which installing is saying what would be installed."""
    folder = tmp_path_factory.mktemp("bin")
    programs = {"pkg-map": _PKG_MAP, "guest-os": _GUEST_OS}
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def asked_for(case: Case, path: str, **more: str) -> str:
    """What the element's install phase asks for, in one line; its complaint when it refuses."""
    element = element_selection.DRIVERS[case.source]
    environment = {
        "PATH": path,
        "DISTRO_NAME": case.distribution,
        "DIB_RELEASE": case.release,
        "DIB_KERNEL_FLAVOUR": "generic",
        "DIB_NVIDIA_SOURCE": case.source,
        "DIB_NVIDIA_MODULES": case.modules,
        "DIB_NVIDIA_BRANCH": str(branch(case) or ""),
        "DIB_NVIDIA_VERSION": "",
        "DIB_NVIDIA_DESKTOP": "0",
        **more,
    }
    script = ELEMENTS / element / "install.d/70-install-driver"
    result = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, check=False, timeout=60)
    return " ".join(result.stdout.split())


def taken() -> list[Case]:
    return [case for case, row in ROWS.items() if not row.refusal]


def refused() -> list[Case]:
    return [case for case, row in ROWS.items() if row.refusal]


def packaged() -> list[Case]:
    """The cases in which names of packages are asked for."""
    return [case for case, row in ROWS.items() if row.packages]


def test_every_release_source_and_kind_of_modules_has_its_row() -> None:
    everything = {
        Case(distribution=distribution, release=release, source=source, modules=modules)
        for distribution, release in RELEASES
        for source in SOURCES
        for modules in FLAVOURS
    }
    assert set(ROWS) == everything
    assert {f"{distribution} {release}" for distribution, release in RELEASES} == set(facts().releases)
    assert set(SOURCES) == set(element_selection.DRIVERS)


@pytest.mark.parametrize("case", taken(), ids=str)
def test_the_catalog_takes_what_the_row_has_an_element_for(case: Case) -> None:
    assert resolver.resolve(case.request(branch(case))).modules == case.modules
    assert element_selection.DRIVERS[case.source] == ROWS[case].element


@pytest.mark.parametrize("case", refused(), ids=str)
def test_the_catalog_refuses_what_the_row_refuses(case: Case) -> None:
    with pytest.raises(resolver.Impossible, match=ROWS[case].refusal):
        resolver.resolve(case.request(branch(case)))


@pytest.mark.parametrize("case", packaged(), ids=str)
def test_the_element_asks_for_exactly_the_rows_packages(case: Case, path: str) -> None:
    assert asked_for(case, path) == ROWS[case].packages


def a_case(name: str) -> Case:
    return next(case for case in ROWS if str(case) == name)


def test_an_exact_version_is_pinned_by_name_where_nvidia_has_a_package_for_it(path: str) -> None:
    asked = asked_for(a_case("debian-trixie-nvidia-repo-open"), path, DIB_NVIDIA_VERSION="580.95.05")
    assert asked.split()[0] == "nvidia-driver-pinning-580.95.05"


def test_an_exact_version_is_asked_for_of_each_package_where_there_is_none(path: str) -> None:
    asked = asked_for(a_case("rocky-10-nvidia-repo-open"), path, DIB_NVIDIA_VERSION="580.95.05")
    assert asked.split()[0] == "kmod-nvidia-open-dkms=580.95.05"


def test_without_a_branch_the_newest_driver_comes(path: str) -> None:
    asked = asked_for(a_case("rocky-9-nvidia-repo-open"), path, DIB_NVIDIA_BRANCH="")
    assert asked == "stream nvidia-driver:open-dkms kmod-nvidia-open-dkms nvidia-driver-cuda nvidia-persistenced"


@pytest.mark.parametrize(
    ("name", "packages"),
    [
        ("debian-trixie-archive-open", "nvidia-open-kernel-dkms nvidia-driver"),
        ("debian-trixie-nvidia-repo-open", "nvidia-driver-pinning-580 nvidia-open"),
        ("ubuntu-noble-archive-proprietary", "nvidia-driver-580-server nvidia-modprobe"),
        ("ubuntu-noble-nvidia-repo-open", "nvidia-driver-pinning-580 nvidia-driver-580-open"),
        ("ubuntu-resolute-nvidia-repo-proprietary", "nvidia-driver-pinning-595 cuda-drivers"),
        ("rhel-10-nvidia-repo-proprietary", "cuda-drivers=580.*"),
    ],
)
def test_a_desktop_is_the_whole_driver(name: str, packages: str, path: str) -> None:
    assert asked_for(a_case(name), path, DIB_NVIDIA_DESKTOP="1").startswith(packages)


@pytest.mark.parametrize(
    ("flavour", "modules"),
    [("cloud", "linux-modules-nvidia-580-server-open-generic"), ("hwe", "…-open-generic-hwe-24.04")],
)
def test_precompiled_modules_are_of_the_kernels_flavour(flavour: str, modules: str, path: str) -> None:
    asked = asked_for(a_case("ubuntu-noble-precompiled-open"), path, DIB_KERNEL_FLAVOUR=flavour)
    assert asked.split()[0].endswith(modules.lstrip("…"))


def test_the_element_itself_refuses_compiled_modules_where_there_are_none(path: str) -> None:
    assert "debian has no precompiled NVIDIA modules for a generic kernel" in asked_for(
        a_case("debian-trixie-precompiled-open"), path
    )
