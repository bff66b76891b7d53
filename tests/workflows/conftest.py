"""A catalog for workflows that build."""

import os
from pathlib import Path

import pytest

from pipelines.catalog import loader
from pipelines.catalog.loader import Catalog
from tests.support.paths import FAKES


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """A catalog whose `good` and `other` a fake diskimage-builder makes, and whose `broken` it does not."""
    monkeypatch.setenv("PATH", f"{FAKES}:{os.environ['PATH']}")
    path = tmp_path / "images.yaml"
    variant = "    base: {distribution: debian, release: trixie}\n    disk: {size: 1GiB}\n"
    path.write_text(
        f"version: 1\nimages:\n  good:\n{variant}  broken:\n{variant}    environment: {{DIB_FAKE: fail}}\n"
        f"  other:\n{variant}"
    )
    return loader.load(path)
