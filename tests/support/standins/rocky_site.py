"""Rocky, EPEL and NVIDIA's repository for them on one web server on loopback.

/rocky is a mirror laid out as Rocky's own, /epel is EPEL, /cuda NVIDIA's network repository. The cloud image is a file.
"""

import hashlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.support.fakes.web_server import WebServer
from tests.support.standins import cache, keys, rocky, rocky_tree, rpm
from tests.support.standins.guest import Guest
from tests.support.standins.keys import Key
from tests.support.standins.rpm import Rpm

_IN_THE_IMAGE = {"cloud-init", "sudo", "dbus", "selinux-policy-targeted"}
_MIRRORS = {"rocky": "https://dl.rockylinux.org/pub/rocky", "almalinux": "https://repo.almalinux.org/almalinux"}
OLD_KERNEL = "5.14.0-503.el9"


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """What a test needs to know of it."""

    server: WebServer
    folder: Path
    release: str
    distribution: str = "rocky"

    @property
    def mirror(self) -> str:
        """Rocky's mirror."""
        return f"{self.server.url}/rocky"

    @property
    def repository(self) -> str:
        """NVIDIA's network repository."""
        return f"{self.server.url}/cuda"

    @property
    def key_file(self) -> Path:
        """The public key of NVIDIA's repository."""
        return self.folder / "cuda/D42D0685.pub"

    @property
    def key_sha256(self) -> str:
        """That file's digest."""
        return hashlib.sha256(self.key_file.read_bytes()).hexdigest()

    def add_driver(self, packages: Iterable[Rpm]) -> None:
        """Publish a driver in NVIDIA's repository, in place of what is there."""
        shutil.rmtree(self.folder / "cuda", ignore_errors=True)
        packages = tuple(packages)
        built = rpm.build(packages, self.folder / "packages/cuda")
        modules = rocky.streams(packages) if self.release == "9" else ""  # Rocky 10 has no modularity
        rpm.publish(self.folder / "cuda", built, key("nvidia"), modules=modules)
        self.key_file.write_bytes(key("nvidia").armored)

    def cloud_image(self, path: Path) -> None:
        """The cloud image as a tarball: an older kernel, and the distribution's own repositories, never asked here."""
        guest = Guest(self.folder / "image", rocky_tree.tree())
        packages = rpm.build(
            (
                rocky.release_package(self.release, _MIRRORS[self.distribution], key("rocky"), self.distribution),
                *(each for each in rocky.kernel_packages(rocky_tree.tree(), OLD_KERNEL) if each.name == "kernel-core"),
                *(each for each in rocky.base_packages(self.distribution) if each.name in _IN_THE_IMAGE),
            ),
            guest.changes / "packages",
        )
        names = " ".join(f"/packages/{package.name}" for package in packages)
        # The tree's own package manager is not in a Rocky guest.
        script = (
            f"rpm --install --nosignature {names}\ncp /lib/modules/*/vmlinuz /boot/vmlinuz-{OLD_KERNEL}.x86_64\n"
            "rm -rf /packages /etc/apt /var/lib/dpkg /var/lib/apt /var/log/*\n"
            "tar --create --one-file-system --file /image.tar --exclude ./image.tar --directory / ."
        )
        result = guest.run(script)
        assert result.returncode == 0, result.stdout
        shutil.move(guest.changes / "image.tar", path)


def build(
    server: WebServer, folder: Path, release: str, *, distribution: str = "rocky", dkms_in_mirror: bool = False
) -> Site:
    """Make all of it in a folder, and serve it. dkms is in EPEL, unless the mirror carries it."""
    site = Site(server=server, folder=folder, release=release, distribution=distribution)
    kernel = rocky.kernel(release).removesuffix(".x86_64")
    base = (*rocky.base_packages(distribution), *rocky.kernel_packages(rocky_tree.tree(), kernel))
    base += rocky.epel_packages() if dkms_in_mirror else ()
    extras = (rocky.epel_release(f"{server.url}/epel", key("epel")),)
    packages, more, epel = (
        rpm.build(each, folder / "packages" / name)
        for name, each in (("base", base), ("extras", extras), ("epel", rocky.epel_packages()))
    )
    rocky.mirror(folder / "rocky", release, packages, key("rocky"), extras=more)
    rpm.publish(folder / "epel", epel, key("epel"))
    site.add_driver(rocky.driver_packages(release=release))
    for name in ("rocky", "epel", "cuda"):
        server.put(f"/{name}/", folder / name)
    return site


def key(name: str) -> Key:
    """One of the keys."""
    return keys.make(cache.FOLDER / "keys" / f"rpm-{name}", f"A stand-in's {name} <{name}@example.org>")
