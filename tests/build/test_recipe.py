"""Recipe of a build, and what changes its fingerprint."""

from pathlib import Path

import pytest

from pipelines.build import recipe
from pipelines.catalog import loader
from pipelines.catalog.variant import Variant
from pipelines.util.errors import CatalogError

CATALOG = """
version: 1
images:
  gpu:
    base: {distribution: debian, release: trixie}
    disk: {size: 10GiB}
    driver: {source: archive, modules: proprietary}
  plain:
    base: {distribution: debian, release: trixie}
    disk: {size: 4GiB}
"""


def variant(tmp_path: Path, name: str = "gpu", **replaced: str) -> Variant:
    text = CATALOG
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "images.yaml"
    path.write_text(text)
    return loader.load(path).variants[name]


def test_dependencies_come_before_what_needs_them(tmp_path: Path) -> None:
    closure = list(recipe.resolve(variant(tmp_path)).closure)
    assert closure.index("target-kernel") < closure.index("driver-prerequisites") < closure.index("nvidia-driver")
    assert closure.index("nvidia-driver") < closure.index("seal-guest")


def test_an_image_without_a_gpu_has_no_compiler_and_no_driver(tmp_path: Path) -> None:
    closure = recipe.resolve(variant(tmp_path, "plain")).closure
    assert not {"nvidia-driver", "driver-prerequisites", "cuda-toolkit"} & set(closure)


def test_each_element_is_in_one_layer(tmp_path: Path) -> None:
    resolved = recipe.resolve(variant(tmp_path))
    assert set(resolved.layer_of) == set(resolved.closure)
    assert resolved.layer_of["package-installs"] == "base"
    assert resolved.layer_of["disable-nouveau"] == "driver"
    assert resolved.layer_of["gpt-disk"] == "variant"


def test_the_fingerprint_does_not_depend_on_when_or_where(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    first = recipe.resolve(variant(tmp_path)).fingerprint
    assert first == recipe.resolve(variant(tmp_path / "elsewhere")).fingerprint


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("10GiB", "11GiB", "disk"),
        ("proprietary", "open", "driver"),
        ("gpu:", "gpu:\n    packages: [htop]", "packages"),
        ("gpu:", "gpu:\n    environment: {DIB_SOMETHING: '1'}", "environment of the base layer"),
    ],
)
def test_a_field_that_shapes_the_image_changes_the_fingerprint_by_its_name(
    tmp_path: Path, old: str, new: str, part: str
) -> None:
    before, after = recipe.resolve(variant(tmp_path)), recipe.resolve(variant(tmp_path, **{old: new}))
    assert before.fingerprint != after.fingerprint
    assert part in {name for name in after.parts if before.parts.get(name) != after.parts[name]}


@pytest.mark.parametrize(
    "new",
    ["gpu:\n    description: other", "gpu:\n    keep: 5", "gpu:\n    glance: {tags: [x]}", "gpu:\n    rebuild_age: 3d"],
)
def test_what_does_not_shape_the_image_leaves_the_fingerprint(tmp_path: Path, new: str) -> None:
    before, after = recipe.resolve(variant(tmp_path)), recipe.resolve(variant(tmp_path, **{"gpu:": new}))
    assert before.fingerprint == after.fingerprint


def test_a_changed_driver_leaves_the_base_layers_key(tmp_path: Path) -> None:
    before = {layer.name: layer.key for layer in recipe.resolve(variant(tmp_path)).layers}
    after = {layer.name: layer.key for layer in recipe.resolve(variant(tmp_path, proprietary="open")).layers}
    assert before["base"] == after["base"]
    assert before["driver"] != after["driver"]
    assert before["variant"] != after["variant"]


def test_the_command_names_the_elements_and_the_catalog_has_the_last_word_on_the_mirror(tmp_path: Path) -> None:
    own = variant(tmp_path, **{"gpu:": "gpu:\n    environment: {DIB_DISTRIBUTION_MIRROR: http://mine.example/debian}"})
    resolved = recipe.resolve(own)
    mirrors = {"DIB_DISTRIBUTION_MIRROR": "http://host.example/debian"}
    folder = tmp_path / "20261122T000000Z-abcdef01"
    run = recipe.whole(resolved)
    command = recipe.command(resolved, run, folder, tmp_path / "cache", mirrors=mirrors, files={})
    assert command.environment["DIB_DISTRIBUTION_MIRROR"] == "http://mine.example/debian"
    assert command.environment["DIB_GPU_IMAGE_BUILD_ID"] == "20261122T000000Z-abcdef01"
    assert command.argv[-3:] == ("guest-identity", "gpt-disk", "seal-guest")


def test_inputs_reach_the_elements_by_their_variables(tmp_path: Path) -> None:
    files = {"DIB_BASE_IMAGE": Path("/cache/noble.squashfs")}
    resolved = recipe.resolve(variant(tmp_path))
    run = recipe.whole(resolved)
    command = recipe.command(resolved, run, tmp_path / "build", tmp_path / "cache", mirrors={}, files=files)
    assert command.environment["DIB_BASE_IMAGE"] == "/cache/noble.squashfs"


def test_another_input_is_another_fingerprint_by_its_name(tmp_path: Path) -> None:
    before = recipe.resolve(variant(tmp_path), {"base image": "a" * 64})
    after = recipe.resolve(variant(tmp_path), {"base image": "b" * 64})
    assert before.fingerprint != after.fingerprint
    assert [name for name in after.parts if after.parts[name] != before.parts[name]] == ["base image"]
    assert {layer.name for layer in after.layers} & {layer.name for layer in before.layers}
    assert not {layer.key for layer in after.layers} & {layer.key for layer in before.layers}


@pytest.mark.parametrize(
    ("variable", "layer"),
    [("DIB_GPU_CHECK_FIRST_BOOT", "variant"), ("DIB_CLOUD_INIT_DATASOURCES", "base"), ("DIB_OF_NOBODY", "base")],
)
def test_a_variable_of_the_catalog_belongs_to_the_layer_whose_element_reads_it(
    tmp_path: Path, variable: str, layer: str
) -> None:
    more = f"gpu:\n    elements: [gpu-check]\n    environment: {{{variable}: '1'}}"
    resolved = recipe.resolve(variant(tmp_path, **{"gpu:": more}))
    assert [each.name for each in resolved.layers if variable in each.environment] == [layer]


def test_a_shared_layer_has_no_variable_of_one_build(tmp_path: Path) -> None:
    resolved = recipe.resolve(variant(tmp_path, **{"gpu:": "gpu:\n    packages: [htop]"}))
    run = recipe.Run(layers=resolved.layers[:2], begins_with_tree=True, ends_with_tree=True)
    command = recipe.command(resolved, run, tmp_path / "build", tmp_path / "cache", mirrors={}, files={})
    assert not {"DIB_GPU_IMAGE_BUILD_ID", "DIB_GPU_IMAGE_VARIANT"} & set(command.environment)
    assert "htop" not in command.argv
    assert command.argv[-1] == "end-with-tree"


def test_an_unknown_element_is_a_catalog_error(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no-such-element"):
        recipe.resolve(variant(tmp_path, **{"gpu:": "gpu:\n    elements: [no-such-element]"}))
