"""What of an element takes part in a run?"""

from pathlib import Path

import pytest

from pipelines.build import layers as build_layers
from pipelines.build import recipe
from pipelines.build.recipe import Recipe, Run
from pipelines.catalog import loader

# What diskimage-builder runs, in its order (its developer documentation, "Phase subdirectories").
PHASES = (
    *("root.d", "extra-data.d", "pre-install.d", "install.d", "post-install.d", "post-root.d", "block-device.d"),
    *("pre-finalise.d", "finalise.d", "cleanup.d"),
)


@pytest.fixture
def plan(tmp_path: Path) -> Recipe:
    path = tmp_path / "images.yaml"
    path.write_text(
        "version: 1\nimages:\n  gpu:\n    base: {distribution: debian, release: trixie}\n    disk: {size: 10GiB}\n"
        "    driver: {source: archive, modules: proprietary}\n"
    )
    return recipe.resolve(loader.load(path).variants["gpu"])


def written(plan: Recipe, folder: Path, layers: int, *, begins: bool, ends: bool) -> Path:
    run = Run(layers=plan.layers[:layers], begins_with_tree=begins, ends_with_tree=ends)
    build_layers.write(plan, run, folder)
    return folder


def phases(folder: Path, element: str) -> set[str]:
    return {path.name for path in (folder / element).iterdir()}


def test_a_phase_is_run_once_and_only_once_over_all_runs(plan: Recipe, tmp_path: Path) -> None:
    runs = [
        written(plan, tmp_path / "base", 1, begins=False, ends=True),
        written(plan, tmp_path / "driver", 2, begins=True, ends=True),
        written(plan, tmp_path / "variant", 3, begins=True, ends=False),
    ]
    for element, source in plan.closure.items():
        if element in {*build_layers.FOR_OTHERS, *build_layers.BETWEEN_RUNS}:
            continue
        scripts = {path.relative_to(source) for path in source.glob("*.d/*") if path.parent.name in PHASES}
        for script in scripts:
            assert len([run for run in runs if (run / element / script).exists()]) == 1, f"{element}/{script}"


def test_a_finished_element_still_tells_others_what_they_read_of_it(plan: Recipe, tmp_path: Path) -> None:
    folder = written(plan, tmp_path / "variant", 3, begins=True, ends=False)
    assert {"bin", "environment.d", "finalise.d"} <= phases(folder, "nvidia-driver")
    assert phases(folder, "nvidia-driver").isdisjoint({"install.d", "post-install.d", "package-installs.yaml"})
    assert "pkg-map" in phases(folder, "nvidia-archive")
    assert "package-installs.yaml" not in phases(folder, "target-kernel")


def test_what_acts_for_other_elements_is_whole_in_every_run(plan: Recipe, tmp_path: Path) -> None:
    folder = written(plan, tmp_path / "driver", 2, begins=True, ends=True)
    assert {"pre-install.d", "install.d", "post-install.d", "bin"} <= phases(folder, "package-installs")


def test_what_blacklists_a_module_for_a_later_layer_still_does(plan: Recipe, tmp_path: Path) -> None:
    folder = written(plan, tmp_path / "driver", 2, begins=True, ends=True)
    assert "extra-data.d" in phases(folder, "modprobe")
    assert "modprobe.d" in phases(folder, "disable-nouveau")


def test_a_run_has_no_element_of_a_later_layer(plan: Recipe, tmp_path: Path) -> None:
    folder = written(plan, tmp_path / "base", 1, begins=False, ends=True)
    assert not (folder / "nvidia-driver").exists()
    assert not (folder / "seal-guest").exists()


def test_a_build_keeps_the_elements_that_it_began_with(plan: Recipe, tmp_path: Path) -> None:
    folder = written(plan, tmp_path / "base", 1, begins=False, ends=True)
    assert not [path for path in folder.rglob("*") if path.is_symlink()]
    assert (folder / "target-kernel/install.d/50-keep-one-kernel").stat().st_mode & 0o100
