"""Is an image out of the cache the same as one that is made in one run from nothing? File by file."""

import json
import re
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.artifacts import store as artifacts_store
from pipelines.build import builder
from pipelines.cache import store
from pipelines.catalog import loader
from pipelines.util import compression
from pipelines.verify import module_signatures
from tests.integration.conftest import BUILDS, PROJECT
from tests.support import same_image
from tests.support.same_image import Allowed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def without_build_id(content: bytes) -> object:
    """A guest's identity but for the build that it names."""
    return json.loads(content) | {"build_id": ""}


def without_signature(content: bytes) -> object:
    """A module's code, and whether it is signed."""
    module = compression.decompressed(content)
    try:
        return module_signatures.parted(module)[0], True
    except ValueError:
        return module, False


def without_times(content: bytes) -> object:
    """The lines of DKMS's log but for times, process numbers and the number of jobs, in no order."""
    return sorted(_OF_ONE_RUN.sub(b"", content).splitlines())


def without_days(content: bytes) -> object:
    """The accounts, but for the day on which each password was last changed."""
    accounts = [line.split(b":") for line in content.splitlines()]
    return [account[:2] + account[3:] for account in accounts]


_OF_ONE_RUN = re.compile(rb"\w{3} \w{3} [ \d]\d (?=\d\d:)|\d\d:\d\d:\d\d( [A-Z]+ \d{4})?|(?<=conftest)\d+|(?<= -j)\d+")
MADE_BY_DKMS = (
    r".*/lib/modules/[^/]+/updates/dkms/nvidia[\w-]*\.ko\.xz|/var/lib/dkms/nvidia.*/module/nvidia[\w-]*\.ko\.xz"
)
ALLOWED = (
    Allowed(
        thing="/etc/gpu-image.json",
        fact="content",
        why="a build has an ID of its own",
        but_for=without_build_id,
    ),
    Allowed(
        thing="/etc/shadow-?",
        fact="content",
        why="an account is made on the day of the build",
        but_for=without_days,
    ),
    Allowed(
        thing="file system",
        fact="Filesystem UUID|Directory Hash Seed|Checksum",
        why="drawn by lot for every file system; the checksum is over them",
    ),
    Allowed(
        thing="file system",
        fact="Filesystem created|Last checked|Last write time",
        why="when it was made",
    ),
    Allowed(
        thing=MADE_BY_DKMS,
        fact="content",
        why="DKMS signs with a key that every build makes and throws away",
        but_for=without_signature,
    ),
    Allowed(
        thing=r"/var/lib/dkms/nvidia.*/log/make\.log",
        fact="content",
        why="when it was compiled, by how many jobs, and in which order these ended",
        but_for=without_times,
    ),
)


@pytest.fixture(scope="module")
def builds() -> Iterator[Path]:
    """A folder for builds of these tests, beside the cache of all builds."""
    (BUILDS / ".cache").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".same-", dir=BUILDS) as folder:
        Path(folder, ".cache").symlink_to(BUILDS / ".cache")
        yield Path(folder)


@pytest.fixture(scope="module")
def plain(builds: Path) -> artifacts_store.Build:
    """Made in one run, from nothing."""
    return built(builds, cached=False)


@pytest.fixture(scope="module")
def of_layers(builds: Path) -> artifacts_store.Build:
    """Made of the base layer and the driver layer of an earlier build."""
    return out_of_cache(builds, {"driver layer"})


@pytest.fixture(scope="module")
def of_modules(builds: Path, of_layers: artifacts_store.Build) -> artifacts_store.Build:
    """Made of the base layer and the compiled kernel modules of an earlier build; its driver layer is new."""
    store.drop(builds / ".cache", store.LAYERS, of_layers.manifest().cached["driver layer"])
    return out_of_cache(builds, {"base layer", "kernel modules"})


def out_of_cache(builds: Path, wanted: set[str]) -> artifacts_store.Build:
    """A build that takes so much; the one before it has left that, where nothing else has."""
    made = built(builds, cached=True)
    if made.manifest().cached.keys() != wanted:
        made = built(builds, cached=True)
    assert made.manifest().cached.keys() == wanted
    return made


def built(builds: Path, *, cached: bool) -> artifacts_store.Build:
    variant = loader.load(PROJECT / "images.yaml").variants["debian-cuda"]
    return builder.build(variant, builds, datetime.now(UTC), cached=cached)


def differences(plain: artifacts_store.Build, accelerated: artifacts_store.Build) -> str:
    """What differs and may not, to be read."""
    images = [made.folder / made.manifest().artifact.path for made in (plain, accelerated)]
    kept = [entry.created_at for entry in store.entries(BUILDS / ".cache") if entry.kind in store.KINDS]
    began = min(datetime.fromisoformat(plain.manifest().created_at), *kept)  # no build made a file before that
    found = same_image.of_images(*images, since=began, allowed=ALLOWED)
    return "\n".join(map(str, found))


def test_an_image_of_kept_layers_is_the_plain_one(
    plain: artifacts_store.Build, of_layers: artifacts_store.Build
) -> None:
    assert differences(plain, of_layers) == ""


def test_an_image_of_kept_kernel_modules_is_the_plain_one(
    plain: artifacts_store.Build, of_modules: artifacts_store.Build
) -> None:
    assert differences(plain, of_modules) == ""


def test_the_manifests_say_the_same(plain: artifacts_store.Build, of_layers: artifacts_store.Build) -> None:
    one, two = plain.manifest(), of_layers.manifest()
    same = ("fingerprint", "base", "kernel", "driver", "cuda", "packages", "elements", "inputs", "archives")
    assert {name: getattr(one, name) for name in same} == {name: getattr(two, name) for name in same}
