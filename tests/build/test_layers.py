"""How much of a build is there already? diskimage-builder is a fake on PATH; the archive is a server on loopback."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.artifacts import store as artifacts_store
from pipelines.build import builder
from pipelines.cache import store
from pipelines.catalog import loader
from pipelines.catalog.variant import Variant
from pipelines.util.errors import BuildError
from tests.support.fakes.web_server import WebServer, answer, serving
from tests.support.paths import FAKES

NOW = datetime(2026, 11, 22, 3, 0, 0, tzinfo=UTC)
INDEX, LATER = "0123456789abcdef" * 4, "f" * 64
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


def test_the_second_build_begins_with_the_layer_that_the_first_one_kept(
    tmp_path: Path, builds: Path, archive: WebServer
) -> None:
    first = builder.build(variant(tmp_path, archive), builds, NOW)
    second = builder.build(variant(tmp_path, archive, "second"), builds, NOW)
    assert (stages(first), first.manifest().cached) == ({"base", "variant"}, {})
    assert stages(second) == {"variant"}
    assert list(second.manifest().cached) == ["base layer"]


def test_a_layer_from_an_archive_that_has_changed_is_never_used(
    tmp_path: Path, builds: Path, archive: WebServer, capsys: pytest.CaptureFixture[str]
) -> None:
    builder.build(variant(tmp_path, archive), builds, NOW)
    archive.put("/InRelease", release("f" * 64))
    second = builder.build(variant(tmp_path, archive, "second"), builds, NOW)
    assert stages(second) == {"base", "variant"}
    assert "the base layer is made anew" in capsys.readouterr().err


def test_a_layer_whose_archive_gives_no_answer_is_never_used(tmp_path: Path, builds: Path, archive: WebServer) -> None:
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


def test_without_the_cache_nothing_is_taken_and_nothing_kept(tmp_path: Path, builds: Path, archive: WebServer) -> None:
    builder.build(variant(tmp_path, archive), builds, NOW)
    before = store.entries(builds / ".cache")
    second = builder.build(variant(tmp_path, archive, "second"), builds, NOW, cached=False)
    assert stages(second) == {"base", "variant"}
    assert second.manifest().cached == {}
    assert store.entries(builds / ".cache") == before


@pytest.mark.slow
def test_a_damaged_layer_is_made_anew(
    tmp_path: Path, builds: Path, archive: WebServer, capsys: pytest.CaptureFixture[str]
) -> None:
    builder.build(variant(tmp_path, archive), builds, NOW)
    (packed,) = (builds / ".cache" / "layers").glob("*/content")
    packed.write_bytes(packed.read_bytes()[:-1])
    second = builder.build(variant(tmp_path, archive, "second"), builds, NOW)
    assert stages(second) == {"base", "variant"}
    assert "damaged" in capsys.readouterr().err


def test_a_layer_that_fails_is_not_kept(tmp_path: Path, builds: Path, archive: WebServer) -> None:
    with pytest.raises(BuildError, match="does not compile"):
        builder.build(variant(tmp_path, archive, how="fail"), builds, NOW)
    assert store.entries(builds / ".cache") == []


def test_the_manifest_says_which_archives_it_is_from(tmp_path: Path, builds: Path, archive: WebServer) -> None:
    made = builder.build(variant(tmp_path, archive), builds, NOW)
    assert made.manifest().archives == {f"{archive.url}/InRelease main/binary-amd64/Packages": INDEX}


@pytest.mark.parametrize("kept", [False, True], ids=["in one build", "from the cache"])
def test_what_an_archive_published_between_two_layers_is_not_taken_for_what_the_first_was_made_from(
    tmp_path: Path, builds: Path, archive: WebServer, kept: bool
) -> None:
    driven = variant(tmp_path, archive, "driven")
    made = builder.build(driven, builds, NOW)
    if kept:
        (driver,) = [each for each in store.entries(builds / ".cache") if each.about.startswith("driver")]
        store.drop(builds / ".cache", driver.kind, driver.key)
        made = builder.build(driven, builds, NOW + timedelta(minutes=1))
    assert list(made.manifest().cached) == (["base layer"] if kept else [])
    assert made.manifest().archives == {f"{archive.url}/InRelease main/binary-amd64/Packages": INDEX}
    archive.put("/InRelease", release(LATER))
    again = builder.build(driven, builds, NOW + timedelta(minutes=2))
    assert (stages(again), again.manifest().cached) == ({"base", "driver", "variant"}, {})
