"""Timings, from manifests of this version and of older ones."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.artifacts import store
from pipelines.artifacts.manifest import Artifact, Manifest
from pipelines.reports import timings
from pipelines.util import files
from pipelines.util.errors import UsageError
from tests.support.command_line import inv

CACHED = {"base layer": "key", "kernel modules": "key"}
COLD = {"base/root.d/08-debootstrap": 18.2, "driver/post-install.d/50-compile-modules": 175.6, "variant/convert": 13.3}
WARM = {"base/take from cache": 4.0, "base/root.d/00-short": 0.2, "variant/short": 0.3, "variant/convert": 5.0}


def made(second: int = 0, **fields: Any) -> Manifest:
    artifact = Artifact(path="image.qcow2", format="qcow2", size=644 * 2**20, virtual_size=1, sha256="0", sha512="0")
    given: dict[str, Any] = {
        "variant": "a",
        "build_id": f"20261122T2222{second:02d}Z-717284c3",
        "fingerprint": "0",
        "created_at": "2026-11-22T22:22:09Z",
        "base": {},
        "kernel": "",
        "driver": {},
        "cuda": {},
        "artifacts": (artifact,),
    }
    return Manifest(**(given | fields))


def recorded(root: Path, *manifests: Manifest) -> None:
    for each in manifests:
        folder = root / each.variant / each.build_id
        folder.mkdir(parents=True)
        files.write_json(folder / "manifest.json", each)
        store.set_state(folder, store.COMPLETE)


def test_what_takes_longest_now_comes_first_then_what_took_longest_before() -> None:
    assert timings.stage_rows([made(stages=WARM), made(stages=COLD)]) == [
        ("variant/convert", "5.0", "13.3"),
        ("base/take from cache", "4.0", "-"),
        ("driver/post-install.d/50-compile-modules", "-", "175.6"),
        ("base/root.d/08-debootstrap", "-", "18.2"),
        ("others", "0.5", "0.0"),
    ]


def test_a_stage_that_was_long_once_is_shown_in_all_builds() -> None:
    assert timings.stage_rows([made(stages={"base/a": 0.4}), made(stages={"base/a": 1.0})]) == [
        ("base/a", "0.4", "1.0"),
        ("others", "0.0", "0.0"),
    ]


def test_a_build_as_a_whole_has_its_layers_total_cache_scratch_and_size() -> None:
    about = made(
        stages=COLD,
        layers={"base": 18.2, "driver": 175.6, "variant": 13.3},
        seconds=215.0,
        cached=CACHED,
        scratch={"tree": 2 * 2**30, "peak": 5 * 2**30},
    )
    assert timings.build_rows([about]) == [
        ("base layer", "18.2"),
        ("driver layer", "175.6"),
        ("variant layer", "13.3"),
        ("total, seconds", "215.0"),
        ("taken from the cache", "base layer, kernel modules"),
        ("scratch space at its peak", "5120 MiB, 2.50 × the tree"),
        ("image", "644 MiB"),
    ]


def test_what_an_old_manifest_does_not_say_stays_open() -> None:
    assert timings.build_rows([made(stages={"base/a": 1.5, "base/b": 2.0})]) == [
        ("base layer", "3.5"),
        ("total, seconds", "-"),
        ("taken from the cache", "-"),
        ("scratch space at its peak", "-"),
        ("image", "644 MiB"),
    ]


def test_the_last_four_builds_are_shown_newest_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(tmp_path, *(made(second, stages=COLD) for second in range(6)))
    timings.show(tmp_path, "a", as_json=True)
    shown = [build["build_id"] for build in json.loads(capsys.readouterr().out)["builds"]]
    assert shown == [f"20261122T2222{second:02d}Z-717284c3" for second in (5, 4, 3, 2)]
    timings.show(tmp_path, "a", as_json=False)
    assert "  stage                                     20261122T222205Z  20261122T222204Z" in capsys.readouterr().out


def test_json_has_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(tmp_path, made(stages=WARM, seconds=10.5, cached=CACHED, scratch={"tree": 4, "peak": 6}))
    timings.show(tmp_path, "a", as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "variant": "a",
        "builds": [
            {
                "build_id": "20261122T222200Z-717284c3",
                "seconds": 10.5,
                "layers": {"base": 4.2, "variant": 5.3},
                "stages": WARM,
                "cached": CACHED,
                "scratch": {"tree": 4, "peak": 6, "ratio": 1.5},
                "size": 644 * 2**20,
            }
        ],
    }


def test_without_a_build_there_is_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        timings.show(tmp_path, "a", as_json=False)
    assert "inv build a" in caught.value.remedy


def test_the_command_shows_an_image_of_the_catalog(tmp_path: Path) -> None:
    (tmp_path / "images.yaml").write_text(
        "version: 1\nimages:\n  a: {base: {distribution: debian, release: trixie}, disk: {size: 4GiB}}\n"
    )
    recorded(tmp_path / "builds", made(stages=COLD))
    ended = inv("show", "a", "--timings", "--catalog", tmp_path / "images.yaml", "--builds", tmp_path / "builds")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "  driver/post-install.d/50-compile-modules  175.6\n" in ended.stdout
