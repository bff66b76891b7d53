"""Ubuntu, NVIDIA and Canonical's images on one web server on loopback.

/ubuntu is its repository: its own packages are test doubles; for all others apt is sent to this machine's mirror.
/images has the signed cloud image, /cuda NVIDIA's network repository.
"""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.support.fakes.web_server import Fault, Request, WebServer
from tests.support.standins import archive, cache, cloud_image, deb, debian, keys, ubuntu
from tests.support.standins.archive import Suite
from tests.support.standins.deb import Deb
from tests.support.standins.keys import Key

SUITE = "noble"
SOURCES = """\
Types: deb
URIs: @MIRROR@
Suites: noble noble-updates noble-security
Components: main universe restricted multiverse
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg
"""
_REPOSITORY = "/cuda/repos/ubuntu2404/x86_64"


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """What a test needs to know of it. `tree` is the unpacked cloud image."""

    server: WebServer
    folder: Path
    tree: Path
    image_key: Key

    @property
    def mirror(self) -> str:
        """Ubuntu's archive."""
        return f"{self.server.url}/ubuntu"

    @property
    def image_url(self) -> str:
        """The cloud image."""
        return f"{self.server.url}/images/{cloud_image.NAME}.squashfs"

    @property
    def image_sha256(self) -> str:
        """The cloud image's digest."""
        return (self.folder / "images/SHA256SUMS").read_text().split()[0]

    @property
    def sums_url(self) -> str:
        """Its checksums; the signature is beside them, with .gpg."""
        return f"{self.server.url}/images/SHA256SUMS"

    @property
    def repository(self) -> str:
        """NVIDIA's network repository."""
        return f"{self.server.url}{_REPOSITORY}"

    @property
    def keyring_url(self) -> str:
        """The package that makes NVIDIA's repository known."""
        return f"{self.repository}/cuda-keyring_1.1-1_all.deb"

    @property
    def keyring_sha256(self) -> str:
        """The digest of that package."""
        path = self.folder / f"cuda{_REPOSITORY.removeprefix('/cuda')}/cuda-keyring_1.1-1_all.deb"
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def add(self, *packages: Deb) -> None:
        """Publish more packages in the archive's updates."""
        built = deb.build(packages, self.folder / "updates")
        _publish(self.folder / "ubuntu", [Suite(name=f"{SUITE}-updates", packages=built)])


def build(server: WebServer, folder: Path) -> Site:
    """Make all of it in a folder, and serve it. What takes long comes from the cache."""
    index = debian.index(cache.FOLDER / "debian")
    tree = cloud_image.tree(index, _key("archive"))
    _archive(folder, index)
    _repository(folder, server)
    image = cloud_image.squashfs(tree)
    cloud_image.sign([image], folder / "images", _key("images"))
    server.put(f"/images/{image.name}", image)
    for name in ("ubuntu", "cuda", "images"):
        server.put(f"/{name}/", folder / name)
    server.on("^/ubuntu/pool/", _debians(server), always=True)
    return Site(server=server, folder=folder, tree=tree, image_key=_key("images"))


def _archive(folder: Path, index: Path) -> None:
    built = deb.build(ubuntu.archive_packages(), folder / "packages")
    empty = [Suite(name=f"{SUITE}-{pocket}") for pocket in ("updates", "security", "backports")]
    _publish(folder / "ubuntu", [Suite(name=SUITE, packages=built, index=index), *empty])


def _repository(folder: Path, server: WebServer) -> None:
    root = folder / f"cuda{_REPOSITORY.removeprefix('/cuda')}"
    key = _key("nvidia")
    keyring = ubuntu.keyring_package(key.keyring, f"{server.url}{_REPOSITORY}")
    packages = deb.build((*ubuntu.repository_packages(), keyring), folder / "nvidia")
    archive.publish_flat(root, packages, key, label="NVIDIA CUDA")


def _publish(root: Path, suites: list[Suite]) -> None:
    for suite in suites:
        shutil.rmtree(root / "dists" / suite.name, ignore_errors=True)
    archive.publish(root, suites, _key("archive"), origin="Ubuntu")


def _debians(server: WebServer) -> Fault:
    """Send apt to Debian's mirror for a package that is not among ours."""
    mirror = debian.mirror()

    def fault(request: Request) -> None:
        if server.find(request.path) is None:
            request.location = mirror + request.path.removeprefix("/ubuntu")

    return fault


def _key(name: str) -> Key:
    return keys.make(cache.FOLDER / "keys" / name, f"A stand-in's {name} <{name}@example.org>")
