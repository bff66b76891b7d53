"""Cached kernel modules: installed as if this build had compiled them, and never where they do not fit.

With real DKMS, compiler and kernel headers; the driver's modules are small test doubles.
"""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.build import module_cache
from pipelines.cache import store
from tests.support.paths import DIB_ELEMENTS, ELEMENTS
from tests.support.standins import driver, ubuntu, workshop
from tests.support.standins.guest import Guest
from tests.support.standins.site import Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

OURS = ("debian-family", "target-kernel", "driver-prerequisites", "nvidia-driver", "nvidia-archive")
KNOWN = ("dpkg", "pkg-map")
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
MODULE = f"nvidia-srv {driver.VERSION}"
NO_MAKE = (
    "printf '#!/bin/sh\\necho somebody compiles; exit 1\\n' > /usr/local/sbin/make; chmod 755 /usr/local/sbin/make"
)
# What two builds from the same may differ in. DKMS's log has the time and the order of what ran side by side.
ALLOWED = ("make.log",)
# Changes to a guest → what they stand for.
OTHERS = {
    "echo CONFIG_OTHER=y >> /lib/modules/$KERNEL/build/.config": "a kernel configured otherwise",
    "echo 0x0 other vmlinux EXPORT_SYMBOL >> /lib/modules/$KERNEL/build/Module.symvers": "a kernel with other symbols",
    "echo '// other' >> /lib/modules/$KERNEL/source/include/linux/pci.h": "other headers under the same release",
    'echo >> "$(gcc-14 -print-prog-name=cc1)"': "another compiler of the same name",
    "echo '// other' >> /usr/src/nvidia-srv-*/nvidia.c": "another source of the same version",
    "echo 'STRIP[0]=no' >> /usr/src/nvidia-srv-*/dkms.conf": "compiled in another way",
    "echo other=1 > /etc/dkms/framework.conf.d/other.conf": "DKMS with other settings",
}


@dataclass(frozen=True)
class Build:
    """What a build printed, the tree that it made, and what it left to the host."""

    output: str
    guest: Guest
    new: Path

    @property
    def key(self) -> str:
        """The one entry that it left."""
        (path,) = self.new.glob("*/content")
        return path.parent.name


Building = Callable[..., Build]


def phases(guest: Guest, *names: str, **environment: str) -> str:
    elements = {name: ELEMENTS / name for name in OURS} | {
        name: DIB_ELEMENTS / name for name in (*KNOWN, "install-static")
    }
    given = {**ubuntu.ENVIRONMENT, "DIB_NVIDIA_SOURCE": "archive", **environment}
    result = guest.phases(elements, given, *names, known=KNOWN)
    assert result.returncode == 0, result.stdout[-6000:]
    return result.stdout


@pytest.fixture(scope="module")
def packages(site: Site, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """The trees of a guest with the driver's packages, of which nothing is compiled yet."""
    guest = workshop.guest(site, tmp_path_factory.mktemp("packages"))
    guest.run("apt-get -qq update")
    phases(guest, "pre-install.d", "install.d")
    return guest.changes, *workshop.ready(site)


@pytest.fixture(scope="module")
def build(packages: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory) -> Building:
    """Finish a build of that guest, after a change to it."""

    def made(kept: Path, change: str = "true") -> Build:
        folder = tmp_path_factory.mktemp("build")
        guest = Guest(folder / "guest", *packages)
        assert guest.run(change).returncode == 0
        new = folder / "new"
        new.mkdir()
        output = phases(guest, "post-install.d", DIB_KERNEL_MODULES_KEPT=str(kept), DIB_KERNEL_MODULES_NEW=str(new))
        assert "Kernel contract holds" in output
        return Build(output=output, guest=guest, new=new)

    return made


@pytest.fixture(scope="module")
def first(build: Building, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A build that compiles, since nothing is kept yet."""
    return build(tmp_path_factory.mktemp("nothing") / "absent")


@pytest.fixture
def root(first: Build, tmp_path: Path) -> Path:
    """The cache after the first build."""
    left = shutil.copytree(first.new, tmp_path / "new")
    assert module_cache.take(left, tmp_path / "cache", NOW) == ""
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def second(first: Build, build: Building, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A build of the same guest after that, in which nobody can compile."""
    folder = tmp_path_factory.mktemp("second")
    module_cache.take(shutil.copytree(first.new, folder / "new"), folder / "cache", NOW)
    return build(folder / "cache" / module_cache.KIND, NO_MAKE)


def contents(guest: Guest) -> dict[str, str]:
    """The files that a build has changed where DKMS and depmod work, and what is in them."""
    found = {}
    for folder in ("var/lib/dkms", "usr/lib/modules", "etc", "usr/src", "tmp"):
        for path in sorted((guest.changes / folder).rglob("*")):
            name = str(path.relative_to(guest.changes))
            if path.is_symlink():
                found[name] = str(path.readlink())
            else:
                mode = oct(path.lstat().st_mode)
                found[name] = mode + (hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
    return found


def test_the_first_build_compiles_and_leaves_its_modules(first: Build, root: Path) -> None:
    assert f"Compiling {MODULE}" in first.output
    (entry,) = store.entries(root)
    assert (entry.key, entry.about.split(" for ")[0], entry.hits) == (first.key, MODULE, 0)


def test_the_second_takes_them_without_compiling(first: Build, second: Build, root: Path) -> None:
    assert f"Compiling {MODULE}" not in second.output
    assert "somebody compiles" not in second.output
    assert ": installed\n" in second.guest.run("dkms status").stdout
    assert module_cache.take(second.new, root, NOW) == first.key
    assert [entry.hits for entry in store.entries(root)] == [1]


def test_what_differs_is_dkms_log_alone(first: Build, second: Build) -> None:
    compiled, taken = contents(first.guest), contents(second.guest)
    assert any(name.endswith("nvidia.ko.xz") for name in taken)
    differing = {name for name in compiled | taken if compiled.get(name) != taken.get(name)}
    assert [name for name in differing if not name.endswith(ALLOWED)] == []


def test_a_later_kernel_still_gets_modules_of_its_own(second: Build) -> None:
    script = """
    kernel=$(ls /lib/modules)
    rm /usr/local/sbin/make
    mkdir "/lib/modules/$kernel-next"
    cp -a "/lib/modules/$kernel"/{build,source} "/lib/modules/$kernel-next"
    dkms autoinstall -k "$kernel-next"
    dkms status
    """
    status = second.guest.run(script).stdout
    assert status.count(": installed\n") == 2, status
    assert "-next, x86_64: installed\n" in status


def test_damaged_modules_are_compiled_again_and_removed(first: Build, build: Building, root: Path) -> None:
    content = root / module_cache.KIND / first.key / "content"
    good = content.read_bytes()
    content.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    third = build(root / module_cache.KIND)
    assert f"The cached modules {first.key} are damaged" in third.output
    assert f"Compiling {MODULE}" in third.output
    assert module_cache.take(third.new, root, NOW) == ""
    with store.reading(root, module_cache.KIND, first.key) as kept:
        assert kept is not None


def test_whatever_shapes_the_modules_gives_another_key(
    first: Build, packages: tuple[Path, ...], tmp_path: Path
) -> None:
    guest = Guest(tmp_path, *packages)
    shutil.copytree(ELEMENTS / "nvidia-driver/bin", guest.changes / "usr/local/bin", dirs_exist_ok=True)
    key = f"guest-modules-key {MODULE} $KERNEL gcc-14"
    steps = [key, *(f"{change}; {key}" for change in OTHERS)]
    keys = guest.run("KERNEL=$(ls /lib/modules)\n" + "\n".join(steps)).stdout.split()
    assert keys[0] == first.key
    assert len(set(keys)) == len(OTHERS) + 1, dict(zip(["unchanged", *OTHERS.values()], keys, strict=True))
