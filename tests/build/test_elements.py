"""What elements depend on, compared with diskimage-builder's own answer, and the digest of their files."""

import logging
import shutil
from pathlib import Path

import pytest
from diskimage_builder import element_dependencies, paths

from pipelines.build import elements as build_elements
from pipelines.util import paths as util_paths
from pipelines.util.errors import CatalogError


@pytest.fixture
def own_elements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of our elements that a test may change."""
    copy = tmp_path / "elements"
    shutil.copytree(util_paths.ELEMENTS, copy)
    monkeypatch.setattr(util_paths, "ELEMENTS", copy)
    return copy


def test_ours_are_found_before_those_of_diskimage_builder() -> None:
    found = build_elements.cumulative({"base": ("debian-minimal", "nvidia-driver")})["base"]
    assert found["nvidia-driver"].parent == util_paths.ELEMENTS
    assert found["package-installs"].parent != util_paths.ELEMENTS


def test_a_closure_is_what_diskimage_builder_finds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)  # it warns of our `dkms`, which is meant
    known = element_dependencies._find_all_elements(f"{util_paths.ELEMENTS}:{paths.get_path('elements')}")
    systems = sorted(name for name, element in known.items() if "operating-system" in element.provides)
    assert {"debian-minimal", "trusted-base"} <= set(systems)
    for system in systems:
        for name in sorted(known):
            assert ours((system, name)) == dibs((system, name), known), f"{system} {name}"


def ours(requested: tuple[str, ...]) -> dict[str, str] | None:
    try:
        return {name: str(folder) for name, folder in build_elements.cumulative({"all": requested})["all"].items()}
    except CatalogError:
        return None


def dibs(requested: tuple[str, ...], known: object) -> dict[str, str] | None:
    try:
        found = element_dependencies._expand_element_dependencies(requested, known)
    except (element_dependencies.AlreadyProvidedException, element_dependencies.MissingElementException):
        return None
    return {element.name: element.path for element in found}


def test_what_an_element_needs_comes_before_it() -> None:
    order = list(build_elements.cumulative({"base": ("debian-minimal", "nvidia-driver")})["base"])
    assert order.index("dpkg") < order.index("debian-minimal")
    assert order.index("target-kernel") < order.index("driver-prerequisites") < order.index("nvidia-driver")


@pytest.mark.parametrize(
    ("elements", "what"),
    [
        (("debian-minimal", "nvidia-drivers"), "nvidia-drivers"),
        (("debian-minimal", "ubuntu-minimal"), "provides operating-system, as debian-minimal does already"),
        (("nvidia-driver",), "is an operating system"),
    ],
    ids=["unknown", "two systems", "no system"],
)
def test_elements_that_cannot_be_together_are_refused(elements: tuple[str, ...], what: str) -> None:
    with pytest.raises(CatalogError, match=what):
        build_elements.cumulative({"base": elements})


def test_a_changed_script_is_another_digest(own_elements: Path) -> None:
    before = build_elements.element_digest(own_elements / "seal-guest")
    script = own_elements / "seal-guest/cleanup.d/95-seal-tree"
    script.write_text(script.read_text() + "# changed\n")
    build_elements.element_digest.cache_clear()
    assert build_elements.element_digest(own_elements / "seal-guest") != before


def test_a_script_that_is_no_longer_executable_is_a_change(own_elements: Path) -> None:
    before = build_elements.element_digest(own_elements / "seal-guest")
    (own_elements / "seal-guest/cleanup.d/95-seal-tree").chmod(0o644)
    build_elements.element_digest.cache_clear()
    assert build_elements.element_digest(own_elements / "seal-guest") != before


def test_a_reworded_readme_is_no_change(own_elements: Path) -> None:
    before = build_elements.element_digest(own_elements / "seal-guest")
    (own_elements / "seal-guest/README.rst").write_text("other words")
    build_elements.element_digest.cache_clear()
    assert build_elements.element_digest(own_elements / "seal-guest") == before


def test_the_umask_of_a_checkout_is_no_change(own_elements: Path) -> None:
    before = build_elements.element_digest(own_elements / "seal-guest")
    (own_elements / "seal-guest/cleanup.d/95-seal-tree").chmod(0o700)
    build_elements.element_digest.cache_clear()
    assert build_elements.element_digest(own_elements / "seal-guest") == before


def test_a_variable_is_mentioned_by_the_elements_that_read_it() -> None:
    assert build_elements.mentions(util_paths.ELEMENTS / "gpt-disk", "DIB_GPT_DISK_SIZE")
    assert not build_elements.mentions(util_paths.ELEMENTS / "seal-guest", "DIB_GPT_DISK_SIZE")
