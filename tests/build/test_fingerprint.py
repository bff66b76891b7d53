"""Fingerprints of the catalog's images: a change of our code alone builds no image anew.

`fingerprints.json` beside this file has the digest of each part that comes from the catalog and our code, and the
parts that each layer's key is over. Parts that follow from files of elements, or from diskimage-builder's version, are
not in it: those change whenever these do.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from pipelines.build import importer, recipe
from pipelines.build.recipe import Recipe
from pipelines.catalog import loader
from pipelines.catalog.variant import Variant
from pipelines.util import files, paths

RECORDED = Path(__file__).with_name("fingerprints.json")
AT_EVERY_SITE = "Every site would build these images again. If that is meant, say why in the commit, and "
HOW_PARTS = f"{AT_EVERY_SITE}record the new digests:\n  .venv/bin/python -m tests.build.test_fingerprint"
HOW_LAYERS = f"{AT_EVERY_SITE}list the parts of the layer's key in {RECORDED.name}."
FROM_FILES_OF_ELEMENTS = ("element ", "layout", "diskimage-builder")

# What the images of images.yaml leave out.
MORE = f"""
version: 1
images:
  more-nvidia-repository:
    base: {{distribution: debian, release: trixie, guest_mirror: "https://mirror.example/debian"}}
    disk: {{size: 24GiB, compression: zlib}}
    gpus: [h100]
    driver: {{source: nvidia-repo, branch: 580, modules: open, fabric_manager: true}}
    cuda: {{toolkit: "12.9", cudnn: true, nccl: true, samples: true}}
    nvidia_repository: {{keyring_sha256: {"ab" * 32}}}
    containers: podman
    packages: [htop]
    environment: {{DIB_GPU_CHECK_FIRST_BOOT: "1", DIB_CLOUD_INIT_DATASOURCES: OpenStack}}
    elements: [gpu-check]
    secrets: {{module-signing-key: {{file: key.pem}}, module-signing-certificate: {{file: certificate.pem}}}}
  more-rocky:
    base: {{distribution: rocky, release: "9", source: cloud-image, path: rocky.qcow2, sha256: {"cd" * 32}}}
    disk: {{size: 12GiB, filesystem: xfs}}
    driver: {{source: runfile, path: driver.run, sha256: {"ef" * 32}, version: "580.95.05", modules: open}}
  more-local:
    base: {{distribution: ubuntu, release: "24.04", source: cloud-image, path: noble.img, sha256: {"cd" * 32}}}
    disk: {{size: 12GiB}}
    driver: {{source: local, path: packages, modules: open, vgpu: true}}
  more-imported:
    kind: import
    source: {{url: "https://images.example/windows.qcow2", sha256: {"cd" * 32}, format: qcow2}}
    guest: {{type: windows, distribution: windows, version: "2025"}}
    disk: {{size: 40GiB}}
"""


def variants() -> dict[str, Variant]:
    """The images of images.yaml, and those with what these leave out."""
    with tempfile.TemporaryDirectory() as folder:
        more = Path(folder, "images.yaml")
        more.write_text(MORE, encoding="utf-8")
        return {**loader.load(paths.PROJECT / "images.yaml").variants, **loader.load(more).variants}


def digests(variant: Variant) -> dict[str, str]:
    """The parts of an image's fingerprint that do not come from files of elements."""
    if variant.kind == "import":
        return dict(importer.fingerprint_parts(variant))
    parts = recipe.resolve(variant).parts
    return {name: digest for name, digest in parts.items() if not name.startswith(FROM_FILES_OF_ELEMENTS)}


@pytest.fixture(scope="module")
def resolved() -> dict[str, Recipe]:
    """The recipe of each image that is built, without digests of its inputs."""
    return {name: recipe.resolve(variant) for name, variant in variants().items() if variant.kind != "import"}


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    return dict(json.loads(RECORDED.read_text(encoding="utf-8")))


def test_each_image_has_the_parts_that_are_recorded(recorded: dict[str, Any]) -> None:
    found = {image: digests(variant) for image, variant in variants().items()}
    changed = [
        f"{image}: {part}"
        for image in found.keys() | recorded["images"].keys()
        for part in found.get(image, {}).keys() | recorded["images"].get(image, {}).keys()
        if found.get(image, {}).get(part) != recorded["images"].get(image, {}).get(part)
    ]
    assert not changed, f"changed: {', '.join(sorted(changed))}\n{HOW_PARTS}"


def test_a_fingerprint_is_over_all_its_parts(resolved: dict[str, Recipe]) -> None:
    assert {each.fingerprint for each in resolved.values()} == {
        files.canonical_digest(dict(each.parts)) for each in resolved.values()
    }


def test_a_layers_key_is_over_the_parts_that_are_recorded_its_elements_and_the_layer_before(
    resolved: dict[str, Recipe], recorded: dict[str, Any]
) -> None:
    for image, each in resolved.items():
        before = ""
        for layer in each.layers:
            names = [*recorded["layers"][layer.name]]
            names += [f"element {element}" for element, its in each.layer_of.items() if its == layer.name]
            expected = files.canonical_digest([before, {name: each.parts.get(name, "") for name in names}])
            assert layer.key == expected, f"the key of the {layer.name} layer of {image} changed\n{HOW_LAYERS}"
            before = layer.key


def record() -> None:
    """Record the digests as they are now. What the layers' keys are over is written by hand."""
    layers = json.loads(RECORDED.read_text(encoding="utf-8"))["layers"]
    images = {image: digests(each) for image, each in sorted(variants().items())}
    RECORDED.write_text(f"{json.dumps({'layers': layers, 'images': images}, indent=2)}\n", encoding="utf-8")


if __name__ == "__main__":
    record()
