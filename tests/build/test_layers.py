"""Layers of a build. diskimage-builder is a fake on PATH; the package repository is a server on loopback."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.artifacts import store as artifacts_store
from pipelines.build import builder, recipe
from pipelines.build import layers as build_layers
from pipelines.build.recipe import Recipe, Run
from pipelines.cache import store
from pipelines.catalog import loader
from pipelines.catalog.variant import Variant
from pipelines.util.errors import BuildError
from tests.support.fakes.web_server import WebServer, answer, serving
from tests.support.paths import FAKES

NOW = datetime(2026, 11, 22, 3, 0, 0, tzinfo=UTC)
INDEX, LATER = "0123456789abcdef" * 4, "f" * 64
# What diskimage-builder runs, in its order (its developer documentation, "Phase subdirectories").
PHASES = (
    *("root.d", "extra-data.d", "pre-install.d", "install.d", "post-install.d", "post-root.d", "block-device.d"),
    *("pre-finalise.d", "finalise.d", "cleanup.d"),
)
CATALOG = """
version: 1
images:
  first:
    base: {{distribution: debian, release: trixie}}
    disk: {{size: 1GiB}}
    environment: {{DIB_FAKE: {how}, DIB_FAKE_ARCHIVE: {archive}}}
  second:
    parent: first
    disk: {{size: 2GiB}}
    elements: [gpu-check]
  driven:
    parent: first
    driver: {{source: archive, modules: proprietary}}
    environment: {{DIB_FAKE_LATER: {later}}}
"""


@pytest.fixture(autouse=True)
def _fake_dib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{FAKES}:{os.environ['PATH']}")


@pytest.fixture
def builds(tmp_path: Path) -> Path:
    return tmp_path / "builds"


@pytest.fixture
def archive() -> Iterator[WebServer]:
    with serving() as server:
        server.put("/InRelease", release(INDEX))
        yield server


def release(sha256: str) -> bytes:
    return f"Suite: stable\nSHA256:\n {sha256} 1234 main/binary-amd64/Packages\n".encode()


def variant(tmp_path: Path, archive: WebServer, name: str = "first", how: str = "well") -> Variant:
    path = tmp_path / "images.yaml"
    path.write_text(CATALOG.format(how=how, later=LATER, archive=f"{archive.url}/InRelease"))
    return loader.load(path).variants[name]


def stages(made: artifacts_store.Build) -> set[str]:
    return {stage.partition("/")[0] for stage in made.manifest().stages if "take" not in stage}


def test_the_second_build_begins_with_the_layer_that_the_first_one_cached(
    tmp_path: Path, builds: Path, archive: WebServer
) -> None:
    first = builder.build(variant(tmp_path, archive), builds, NOW)
    second = builder.build(variant(tmp_path, archive, "second"), builds, NOW)
    assert (stages(first), first.manifest().cached) == ({"base", "variant"}, {})
    assert stages(second) == {"variant"}
    assert list(second.manifest().cached) == ["base layer"]


def test_a_layer_from_a_package_repository_that_has_changed_is_never_used(
    tmp_path: Path, builds: Path, archive: WebServer, capsys: pytest.CaptureFixture[str]
) -> None:
    builder.build(variant(tmp_path, archive), builds, NOW)
    archive.put("/InRelease", release("f" * 64))
    second = builder.build(variant(tmp_path, archive, "second"), builds, NOW)
    assert stages(second) == {"base", "variant"}
    assert "the base layer is built again" in capsys.readouterr().err


def test_a_layer_whose_package_repository_gives_no_answer_is_never_used(
    tmp_path: Path, builds: Path, archive: WebServer
) -> None:
    builder.build(variant(tmp_path, archive), builds, NOW)
    archive.on("/InRelease", answer(503), always=True)
    second = builder.build(variant(tmp_path, archive, "second"), builds, NOW)
    assert second.manifest().cached == {}


def test_a_layer_made_with_another_mirror_of_the_host_is_not_used(
    tmp_path: Path, builds: Path, archive: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder.build(variant(tmp_path, archive), builds, NOW)
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert builder.build(variant(tmp_path, archive, "second"), builds, NOW).manifest().cached == {}


def test_without_the_cache_nothing_is_taken_from_it_and_nothing_put_into_it(
    tmp_path: Path, builds: Path, archive: WebServer
) -> None:
    builder.build(variant(tmp_path, archive), builds, NOW)
    before = store.entries(builds / ".cache")
    second = builder.build(variant(tmp_path, archive, "second"), builds, NOW, cached=False)
    assert stages(second) == {"base", "variant"}
    assert second.manifest().cached == {}
    assert store.entries(builds / ".cache") == before


@pytest.mark.slow
def test_a_damaged_layer_is_built_again(
    tmp_path: Path, builds: Path, archive: WebServer, capsys: pytest.CaptureFixture[str]
) -> None:
    builder.build(variant(tmp_path, archive), builds, NOW)
    (packed,) = (builds / ".cache" / "layers").glob("*/content")
    packed.write_bytes(packed.read_bytes()[:-1])
    second = builder.build(variant(tmp_path, archive, "second"), builds, NOW)
    assert stages(second) == {"base", "variant"}
    assert "damaged" in capsys.readouterr().err


def test_a_layer_that_fails_is_not_cached(tmp_path: Path, builds: Path, archive: WebServer) -> None:
    with pytest.raises(BuildError, match="does not compile"):
        builder.build(variant(tmp_path, archive, how="fail"), builds, NOW)
    assert store.entries(builds / ".cache") == []


def test_the_manifest_names_the_package_indexes_that_were_used(
    tmp_path: Path, builds: Path, archive: WebServer
) -> None:
    made = builder.build(variant(tmp_path, archive), builds, NOW)
    assert made.manifest().archives == {f"{archive.url}/InRelease main/binary-amd64/Packages": INDEX}


@pytest.mark.parametrize("from_cache", [False, True], ids=["in one build", "from the cache"])
def test_an_index_published_between_two_layers_does_not_count_as_the_one_that_the_first_used(
    tmp_path: Path, builds: Path, archive: WebServer, from_cache: bool
) -> None:
    driven = variant(tmp_path, archive, "driven")
    made = builder.build(driven, builds, NOW)
    if from_cache:
        (driver,) = [each for each in store.entries(builds / ".cache") if each.about.startswith("driver")]
        store.drop(builds / ".cache", driver.kind, driver.key)
        made = builder.build(driven, builds, NOW + timedelta(minutes=1))
    assert list(made.manifest().cached) == (["base layer"] if from_cache else [])
    assert made.manifest().archives == {f"{archive.url}/InRelease main/binary-amd64/Packages": INDEX}
    archive.put("/InRelease", release(LATER))
    again = builder.build(driven, builds, NOW + timedelta(minutes=2))
    assert (stages(again), again.manifest().cached) == ({"base", "driver", "variant"}, {})


# The elements of a run


@pytest.fixture
def gpu(tmp_path: Path) -> Recipe:
    path = tmp_path / "images.yaml"
    path.write_text(
        "version: 1\nimages:\n  gpu:\n    base: {distribution: debian, release: trixie}\n    disk: {size: 10GiB}\n"
        "    driver: {source: archive, modules: proprietary}\n"
    )
    return recipe.resolve(loader.load(path).variants["gpu"])


def written(gpu: Recipe, folder: Path, layers: int, *, begins: bool, ends: bool) -> Path:
    run = Run(layers=gpu.layers[:layers], begins_with_tree=begins, ends_with_tree=ends)
    build_layers.write_elements(gpu, run, folder)
    return folder


def parts(folder: Path, element: str) -> set[str]:
    return {path.name for path in (folder / element).iterdir()}


def test_a_phase_is_run_once_and_only_once_over_all_runs(gpu: Recipe, tmp_path: Path) -> None:
    runs = [
        written(gpu, tmp_path / "base", 1, begins=False, ends=True),
        written(gpu, tmp_path / "driver", 2, begins=True, ends=True),
        written(gpu, tmp_path / "variant", 3, begins=True, ends=False),
    ]
    for element, source in gpu.closure.items():
        if element in {*build_layers.FOR_OTHERS, *build_layers.BETWEEN_RUNS}:
            continue
        scripts = {path.relative_to(source) for path in source.glob("*.d/*") if path.parent.name in PHASES}
        for script in scripts:
            assert len([run for run in runs if (run / element / script).exists()]) == 1, f"{element}/{script}"


def test_an_element_whose_layer_is_done_still_has_what_others_read_of_it(gpu: Recipe, tmp_path: Path) -> None:
    folder = written(gpu, tmp_path / "variant", 3, begins=True, ends=False)
    assert {"bin", "environment.d", "finalise.d"} <= parts(folder, "nvidia-driver")
    assert parts(folder, "nvidia-driver").isdisjoint({"install.d", "post-install.d", "package-installs.yaml"})
    assert "pkg-map" in parts(folder, "nvidia-archive")
    assert "package-installs.yaml" not in parts(folder, "target-kernel")


def test_what_acts_for_other_elements_is_whole_in_every_run(gpu: Recipe, tmp_path: Path) -> None:
    folder = written(gpu, tmp_path / "driver", 2, begins=True, ends=True)
    assert {"pre-install.d", "install.d", "post-install.d", "bin"} <= parts(folder, "package-installs")


def test_what_blacklists_a_module_for_a_later_layer_still_does(gpu: Recipe, tmp_path: Path) -> None:
    folder = written(gpu, tmp_path / "driver", 2, begins=True, ends=True)
    assert "extra-data.d" in parts(folder, "modprobe")
    assert "modprobe.d" in parts(folder, "disable-nouveau")


def test_a_run_has_no_element_of_a_later_layer(gpu: Recipe, tmp_path: Path) -> None:
    folder = written(gpu, tmp_path / "base", 1, begins=False, ends=True)
    assert not (folder / "nvidia-driver").exists()
    assert not (folder / "seal-guest").exists()


def test_a_build_has_the_elements_that_it_started_with(gpu: Recipe, tmp_path: Path) -> None:
    folder = written(gpu, tmp_path / "base", 1, begins=False, ends=True)
    assert not [path for path in folder.rglob("*") if path.is_symlink()]
    assert (folder / "target-kernel/install.d/50-keep-one-kernel").stat().st_mode & 0o100
