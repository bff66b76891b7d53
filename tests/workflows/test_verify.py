"""Verification of several builds. diskimage-builder is a fake on PATH."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.catalog.loader import Catalog
from pipelines.util import failures
from pipelines.util.errors import UsageError, VerifyError
from pipelines.workflows import build as workflows_build
from pipelines.workflows import verify as workflows_verify
from tests.support.command_line import inv

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def now() -> datetime:
    return NOW


def test_of_several_what_was_verified_is_reported_beside_what_could_not_be(
    images: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(VerifyError):
        workflows_build.build(images.select("good"), tmp_path / "builds", now)
    found = workflows_verify.verify(
        images.select("good,other"), tmp_path / "builds", None, now, boot=False, firmware=None
    )
    assert [(result.variant, result.passed) for result in found.results] == [("good", False)]
    with pytest.raises(failures.SeveralFailed, match="2 of 2 failed: good, other") as caught:
        found.require_passed()
    assert caught.value.exit_code == 1
    reported = capsys.readouterr().err
    assert "partition-table" in reported
    assert "no complete build of other" in reported


@pytest.mark.slow
def test_the_command_prints_the_results_and_then_every_failure(images: Catalog, tmp_path: Path) -> None:
    with pytest.raises(VerifyError):
        workflows_build.build(images.select("good"), tmp_path / "builds", now)
    common = ("--catalog", tmp_path / "images.yaml", "--builds", tmp_path / "builds")
    several = inv("verify", "good,other", "--json", *common)
    assert [result["variant"] for result in json.loads(several.stdout)] == ["good"]
    assert several.returncode == 1
    assert "2 of 2 failed: good, other" in several.stderr
    assert "partition-table" in inv("verify", "good,other", *common).stdout
    one = inv("verify", "good", "--json", *common)
    assert (json.loads(one.stdout)["variant"], one.returncode) == ("good", 4)


def test_a_wrong_firmware_is_reported_once(images: Catalog, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="floppy is not a valid firmware"):
        workflows_verify.verify(images.select(None), tmp_path, None, now, boot=False, firmware="floppy")
