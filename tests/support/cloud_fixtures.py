"""A real Keystone and Glance for the tests, one for the whole run, and a proxy before that Glance."""

import hashlib
import itertools
import os
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from pipelines.artifacts import manifest, records, store
from pipelines.catalog.loader import Catalog
from pipelines.catalog.variant import Base, Disk, Glance, Variant
from pipelines.devcloud import manager
from pipelines.glance import client
from pipelines.util import files
from pipelines.workflows.site import Site
from tests.support.fakes.proxy import Proxy

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
QUOTA_MIB = 64
_VENV = manager.ROOT / ".cloud" / "venv"
DEFINITIONS = _VENV / "etc" / "glance" / "metadefs"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class TestCloud:
    """The cloud below `root`. `again` starts it after its end, with the same settings and data."""

    root: Path

    __test__ = False

    def again(self) -> manager.LocalCloud:
        # One of the twenty namespaces that come with Glance: each upload reads them all.
        definitions = DEFINITIONS / "compute-libvirt-image.json"
        options = {"user_storage_quota": f"{QUOTA_MIB}MB", "metadata_source_path": str(definitions)}
        return manager.up(self.root, venv=_VENV, options=options, tied=True)


@pytest.fixture(scope="session")
def local_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCloud]:
    """A cloud that runs, and ends with the tests, however they end."""
    cloud = TestCloud(root=tmp_path_factory.mktemp("cloud"))
    cloud.again()
    yield cloud
    manager.down(cloud.root)


@pytest.fixture
def proxy(local_cloud: TestCloud) -> Iterator[Proxy]:
    """A proxy before Glance; connect to the clouds of `proxied` to go through it."""
    host, _, port = local_cloud.again().glance_url.removeprefix("http://").partition(":")
    started = Proxy(upstream=(host, int(port)))
    started.start()
    yield started
    started.stop()


@pytest.fixture
def proxied(local_cloud: TestCloud, proxy: Proxy, tmp_path: Path) -> Path:
    """A clouds.yaml with the same clouds, their Glance behind the proxy."""
    clouds = yaml.safe_load((local_cloud.root / "clouds.yaml").read_text())
    for cloud in clouds["clouds"].values():
        cloud["image_endpoint_override"] = proxy.url
    path = tmp_path / "clouds.yaml"
    path.write_text(yaml.safe_dump(clouds))
    return path


@pytest.fixture(scope="session")
def cloud(local_cloud: TestCloud) -> client.Cloud:
    """The operator's project, an administrator's."""
    return client.connect("local", file=local_cloud.root / "clouds.yaml")


@pytest.fixture(scope="session")
def member(local_cloud: TestCloud) -> client.Cloud:
    """A project without an administrator's rights."""
    return client.connect("local-member", file=local_cloud.root / "clouds.yaml")


@pytest.fixture
def variant() -> Variant:
    """A variant of which the cloud has nothing yet."""
    return make_variant()


def make_variant(**release: object) -> Variant:
    """A variant with a name of its own; `release` is its `glance`."""
    return Variant(
        name=f"test-{next(_numbers)}",
        base=Base(distribution="debian", release="trixie"),
        disk=Disk(size="2GiB"),
        glance=Glance(**release),  # type: ignore[arg-type]
    )


@pytest.fixture
def make_build(tmp_path: Path) -> Callable[..., store.Build]:
    """Makes complete builds, each a minute younger than the one before (and `later`, in hours); real qcow2 images."""
    ages = itertools.count()

    def make(variant: Variant, *, kib: int = 200, later: int = 0) -> store.Build:
        made_at = NOW + timedelta(minutes=next(ages), hours=later)
        fingerprint = hashlib.sha256(os.urandom(8)).hexdigest()
        build_id = store.build_id(made_at, fingerprint)
        folder = tmp_path / "builds" / variant.name / build_id
        folder.mkdir(parents=True)
        image = folder / "image.qcow2"
        _qcow2(image, kib)
        about = manifest.Manifest(
            variant=variant.name,
            build_id=build_id,
            fingerprint=fingerprint,
            created_at=made_at.isoformat(),
            base={"distribution": "debian", "release": "trixie", "architecture": "amd64"},
            kernel="6.12.57+deb13-amd64",
            driver={},
            cuda={},
            artifacts=(_artifact(image),),
        )
        files.write_json(folder / "manifest.json", about)
        store.set_state(folder, store.COMPLETE)
        return store.Build(folder=folder, variant=variant.name, build_id=build_id, state="complete")

    return make


def verified(build: store.Build, *, passed: bool = True) -> manifest.Verification:
    """The result of a build's verification."""
    check = manifest.Check(name="image is what was built", passed=passed, detail="")
    return manifest.Verification(
        variant=build.variant, build_id=build.build_id, checked_at=NOW.isoformat(), checks=(check,)
    )


def revoke(local_cloud: TestCloud, cloud: client.Cloud) -> None:
    """End a token's life at Keystone, without its holder being told."""
    token = cloud._changes.http_client.get_token()
    request = urllib.request.Request(f"{local_cloud.again().keystone_url}/v3/auth/tokens", method="DELETE")
    request.add_header("X-Auth-Token", token)
    request.add_header("X-Subject-Token", token)
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()
    time.sleep(1.1)  # Glance remembers for a second that the token was good


def site(variants: Sequence[Variant], root: Path, *clouds: client.Cloud) -> Site:
    """All that a workflow knows of the site with these variants and clouds, its builds below `root`."""
    catalog = Catalog(version=1, records="builds", clouds={}, variants={variant.name: variant for variant in variants})
    return Site(catalog=catalog, root=root, records=records.open("builds", root), clouds=clouds)


def _qcow2(path: Path, kib: int) -> None:
    raw = path.with_suffix(".raw")
    raw.write_bytes(os.urandom(kib * 1024))
    # Small clusters: all images of a run together have to stay below the quota.
    options = ("-f", "raw", "-O", "qcow2", "-o", "cluster_size=4096")
    subprocess.run(["qemu-img", "convert", *options, raw, path], check=True)
    raw.unlink()


def _artifact(image: Path) -> manifest.Artifact:
    content = image.read_bytes()
    return manifest.Artifact(
        path=image.name,
        format="qcow2",
        size=len(content),
        virtual_size=2 * 2**30,
        sha256=hashlib.sha256(content).hexdigest(),
        sha512=hashlib.sha512(content).hexdigest(),
    )
