"""Which elements does an element need, and what is in them?"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import closure


@pytest.fixture
def own_elements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of our elements that a test may change; caches of the real ones do not count."""
    import shutil

    copy = tmp_path / "elements"
    shutil.copytree(closure.OURS, copy)
    monkeypatch.setattr(closure, "OURS", copy)
    closure._closure.cache_clear()
    yield copy
    closure._closure.cache_clear()


def test_ours_are_found_before_those_of_diskimage_builder() -> None:
    found = closure.cumulative({"base": ("debian-minimal", "nvidia-driver")})["base"]
    assert found["nvidia-driver"].parent == closure.OURS
    assert found["package-installs"].parent != closure.OURS


def test_a_changed_script_is_another_digest(own_elements: Path) -> None:
    before = closure.element_digest(own_elements / "seal-guest")
    script = own_elements / "seal-guest/cleanup.d/95-seal-tree"
    script.write_text(script.read_text() + "# changed\n")
    closure.element_digest.cache_clear()
    assert closure.element_digest(own_elements / "seal-guest") != before


def test_a_script_that_is_no_longer_executable_is_a_change(own_elements: Path) -> None:
    before = closure.element_digest(own_elements / "seal-guest")
    (own_elements / "seal-guest/cleanup.d/95-seal-tree").chmod(0o644)
    closure.element_digest.cache_clear()
    assert closure.element_digest(own_elements / "seal-guest") != before


def test_a_reworded_readme_is_no_change(own_elements: Path) -> None:
    before = closure.element_digest(own_elements / "seal-guest")
    (own_elements / "seal-guest/README.rst").write_text("other words")
    closure.element_digest.cache_clear()
    assert closure.element_digest(own_elements / "seal-guest") == before


def test_the_umask_of_a_checkout_is_no_change(own_elements: Path) -> None:
    before = closure.element_digest(own_elements / "seal-guest")
    (own_elements / "seal-guest/cleanup.d/95-seal-tree").chmod(0o700)
    closure.element_digest.cache_clear()
    assert closure.element_digest(own_elements / "seal-guest") == before
