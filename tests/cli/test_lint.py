"""`inv lint` finds errors in a catalog, for each cloud, without a network."""

from pathlib import Path

import pytest

from pipelines.cli import lint
from tests.support.paths import PROJECT

IMAGES = """\
version: 1
clouds:
  prod: {glance: {properties: {hw_disk_bus: %s}}}
images:
  plain:
    base: {distribution: debian, release: trixie}
    disk: {size: 4GiB}
"""


def test_our_own_catalog_is_valid(capsys: pytest.CaptureFixture[str]) -> None:
    assert lint.passes(PROJECT / "images.yaml")
    assert "images are valid" in capsys.readouterr().err


def test_every_image_is_checked_as_each_cloud_has_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "images.yaml"
    path.write_text(IMAGES % "virtio")
    assert lint.passes(path)
    assert "prod" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "says"), [("vitrio", "not one of"), ("ide, hw_machine_type: q35", "no IDE")])
def test_a_property_that_is_wrong_in_one_cloud_alone_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str, says: str
) -> None:
    path = tmp_path / "images.yaml"
    path.write_text(IMAGES % value)
    assert not lint.passes(path)
    assert says in capsys.readouterr().err
