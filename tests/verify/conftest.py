"""Good builds of small images, for tests to break."""

import shutil
from pathlib import Path

import pytest

from pipelines.artifacts.store import Build
from tests.support.small_image import Guest


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a good build; its raw disk is disk.raw."""
    root = tmp_path_factory.mktemp("good")
    Guest().build(root)
    return root


@pytest.fixture
def good(made: Path, tmp_path: Path) -> Build:
    """A good build of one's own."""
    folder = tmp_path / "build"
    shutil.copytree(next(made.glob("debian-cuda/*")), folder)
    return Build(folder=folder, variant="debian-cuda", build_id=folder.name, state="complete")
