"""Elements of a variant, and their variables."""

from pathlib import Path
from textwrap import indent

import pytest

from pipelines.build import element_selection
from pipelines.build import elements as build_elements
from pipelines.catalog import loader
from pipelines.catalog.variant import Variant
from pipelines.util import paths

SHA256 = "ab" * 32
DEBIAN = "base: {distribution: debian, release: trixie}"
UBUNTU = f'base: {{distribution: ubuntu, release: "24.04", source: cloud-image, path: x.squashfs, sha256: {SHA256}}}'
ROCKY = f'base: {{distribution: rocky, release: "9", source: cloud-image, path: x.qcow2, sha256: {SHA256}}}'
ALMALINUX = ROCKY.replace("rocky", "almalinux")
REPOSITORY = f"nvidia_repository: {{keyring_sha256: {SHA256}}}"
RUNFILE = f'driver: {{source: runfile, path: r.run, sha256: {SHA256}, version: "580.95.05", modules: open}}'


def variant(tmp_path: Path, *lines: str) -> Variant:
    path = tmp_path / "images.yaml"
    text = indent("\n".join(("disk: {size: 8GiB}", *lines)), "    ")
    path.write_text(f"version: 1\nimages:\n  a:\n{text}\n")
    return loader.load(path).variants["a"]


@pytest.mark.parametrize(
    ("base", "elements"),
    [
        (DEBIAN, ("debian-minimal", "debian-family")),
        (UBUNTU, ("trusted-base", "debian-family")),
        (ROCKY, ("trusted-base", "redhat-family")),
        (ALMALINUX, ("trusted-base", "redhat-family")),
    ],
)
def test_the_operating_system_comes_first_with_the_commands_of_its_family(
    tmp_path: Path, base: str, elements: tuple[str, ...]
) -> None:
    assert element_selection.elements(variant(tmp_path, base))["base"][:2] == elements


@pytest.mark.parametrize(
    ("lines", "element"),
    [
        ((DEBIAN, "driver: {source: archive, modules: open}"), "nvidia-archive"),
        ((DEBIAN, "driver: {source: nvidia-repo, branch: 580, modules: open}", REPOSITORY), "nvidia-repository"),
        ((DEBIAN, "driver: {source: local, path: p, modules: open}"), "nvidia-local"),
        (
            (
                DEBIAN,
                f'driver: {{source: runfile, path: r.run, sha256: {SHA256}, version: "580.95.05", modules: open}}',
            ),
            "nvidia-runfile",
        ),
        ((UBUNTU, "driver: {source: precompiled, branch: 580, modules: open}"), "nvidia-precompiled"),
    ],
)
def test_each_source_of_the_driver_has_its_element(tmp_path: Path, lines: tuple[str, ...], element: str) -> None:
    assert element in element_selection.elements(variant(tmp_path, *lines))["driver"]


@pytest.mark.parametrize(
    ("line", "layer", "element"),
    [
        ("cuda: {toolkit: archive}", "driver", "cuda-toolkit"),
        ("cuda: {toolkit: archive, samples: true}", "driver", "cuda-samples"),
        (f'cuda: {{toolkit: "12.8", cudnn: true}}\n{REPOSITORY}', "driver", "cuda-libraries"),
        (f'cuda: {{toolkit: "12.8"}}\n{REPOSITORY}', "driver", "nvidia-packages"),
        (f"containers: podman\n{REPOSITORY}", "variant", "container-toolkit"),
        (
            "secrets: {module-signing-key: {file: k}, module-signing-certificate: {file: c}}",
            "driver",
            "module-signing",
        ),
        ("elements: [gpu-check]", "variant", "gpu-check"),
    ],
)
def test_each_request_has_its_element_and_each_element_exists(
    tmp_path: Path, line: str, layer: str, element: str
) -> None:
    driver = "driver: {source: nvidia-repo, branch: 580, modules: open}" if "12.8" in line else None
    lines = (UBUNTU, driver or "driver: {source: archive, branch: 580, modules: open}", *line.split("\n"))
    requested = element_selection.elements(variant(tmp_path, *lines))
    assert element in requested[layer]
    assert all((paths.ELEMENTS / name).is_dir() for names in requested.values() for name in names)


def test_a_toolkit_without_a_driver_brings_none(tmp_path: Path) -> None:
    for toolkit in ("archive", '"12.8"'):
        requested = element_selection.elements(variant(tmp_path, DEBIAN, f"cuda: {{toolkit: {toolkit}}}", REPOSITORY))
        assert {"nvidia-driver", "driver-prerequisites"}.isdisjoint(build_elements.cumulative(requested)["variant"])


def test_the_elements_are_told_what_the_resolver_chose(tmp_path: Path) -> None:
    line = "driver: {source: archive, modules: auto, desktop: true}"
    told = element_selection.environments(variant(tmp_path, UBUNTU, "gpus: [v100, h100]", line))["driver"]
    assert (told["DIB_NVIDIA_MODULES"], told["DIB_NVIDIA_BRANCH"]) == ("proprietary", "580")
    assert told["DIB_NVIDIA_DESKTOP"] == "1"


@pytest.mark.parametrize(("repository", "toolkit"), [(REPOSITORY, "12.9"), ("packages: []", "archive")])
def test_a_toolkit_that_is_left_open_is_the_best_that_can_be_had(tmp_path: Path, repository: str, toolkit: str) -> None:
    lines = ("gpus: [v100]", "driver: {source: archive}", "cuda: {toolkit: auto}", repository)
    told = element_selection.environments(variant(tmp_path, UBUNTU, *lines))["driver"]
    assert told["DIB_CUDA_TOOLKIT"] == toolkit


def test_a_file_of_the_host_is_in_no_environment(tmp_path: Path) -> None:
    """It would make a fingerprint of where the file lies."""
    lines = (UBUNTU, "driver: {source: local, path: packages, modules: open}")
    told = element_selection.environments(variant(tmp_path, *lines))
    assert not [value for values in told.values() for value in values.values() if str(tmp_path) in value]
