"""An image out of the cache compared, file by file, with one made in one run from nothing."""

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.artifacts import store as artifacts_store
from pipelines.build import builder
from pipelines.cache import store
from pipelines.catalog import loader
from tests.support import same_image
from tests.support.paths import BUILDS, PROJECT
from tests.support.same_image_allowed import ALLOWED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


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


def test_an_image_of_cached_layers_is_the_plain_one(
    plain: artifacts_store.Build, of_layers: artifacts_store.Build
) -> None:
    assert differences(plain, of_layers) == ""


def test_an_image_of_cached_kernel_modules_is_the_plain_one(
    plain: artifacts_store.Build, of_modules: artifacts_store.Build
) -> None:
    assert differences(plain, of_modules) == ""


def test_the_manifests_say_the_same(plain: artifacts_store.Build, of_layers: artifacts_store.Build) -> None:
    one, two = plain.manifest(), of_layers.manifest()
    same = ("fingerprint", "base", "kernel", "driver", "cuda", "packages", "elements", "inputs", "archives")
    assert {name: getattr(one, name) for name in same} == {name: getattr(two, name) for name in same}
