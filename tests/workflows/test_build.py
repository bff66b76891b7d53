"""Builds of several variants. diskimage-builder is a fake on PATH."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.artifacts import store
from pipelines.catalog.loader import Catalog
from pipelines.util import failures
from pipelines.util.errors import VerifyError
from pipelines.workflows import build as workflows_build

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def now() -> datetime:
    return NOW


def test_a_build_that_fails_verification_is_left_for_inspection(images: Catalog, tmp_path: Path) -> None:
    # The fake's image is an empty disk: real verification refuses it.
    with pytest.raises(VerifyError, match="partition-table"):
        workflows_build.build(images.select("good"), tmp_path / "builds", now)
    (build,) = store.builds(tmp_path / "builds", "good")
    assert build.state == "complete"
    assert build.image().exists()
    verification = build.verification()
    assert verification is not None
    assert not verification.passed


def test_a_failing_variant_does_not_stop_the_others(
    images: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(failures.SeveralFailed) as caught:
        workflows_build.build(images.select("broken,good"), tmp_path / "builds", now)
    assert caught.value.exit_code == 3
    assert "2 of 2 failed: broken, good" in caught.value.what
    assert "does not compile" in capsys.readouterr().err
    assert [build.state for build in store.builds(tmp_path / "builds", "good")] == ["complete"]
