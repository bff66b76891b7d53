"""Do the verbs fit together? Against a real Glance; diskimage-builder is a fake on PATH."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines import catalog, glance, manifest, refresh, released
from pipelines.errors import UsageError, VerifyError
from pipelines.variant import Variant

FAKES = Path(__file__).parent / "fakes"
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def now() -> datetime:
    return NOW


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> catalog.Catalog:
    """A catalog whose `good` and `other` a fake diskimage-builder makes, and whose `broken` it does not."""
    monkeypatch.setenv("PATH", f"{FAKES}:{os.environ['PATH']}")
    path = tmp_path / "images.yaml"
    variant = "    base: {distribution: debian, release: trixie}\n    disk: {size: 1GiB}\n"
    path.write_text(
        f"version: 1\nimages:\n  good:\n{variant}  broken:\n{variant}    environment: {{DIB_FAKE: fail}}\n"
        f"  other:\n{variant}"
    )
    return catalog.load(path)


def test_a_build_that_fails_verification_is_kept_for_inspection(images: catalog.Catalog, tmp_path: Path) -> None:
    # The fake's image is an empty disk: real verification refuses it.
    with pytest.raises(VerifyError, match="partition-table"):
        refresh.build(images.select("good"), tmp_path / "builds", now)
    (kept,) = manifest.builds(tmp_path / "builds", "good")
    assert kept.state == "complete"
    assert kept.image().exists()
    verification = kept.verification()
    assert verification is not None
    assert not verification.passed


def test_a_failing_variant_does_not_stop_the_others(
    images: catalog.Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(refresh.SeveralFailed) as caught:
        refresh.build(images.select("broken,good"), tmp_path / "builds", now)
    assert caught.value.exit_code == 3
    assert "2 of 2 failed: broken, good" in caught.value.what
    assert "does not compile" in capsys.readouterr().err
    assert [build.state for build in manifest.builds(tmp_path / "builds", "good")] == ["complete"]


def test_a_build_that_was_never_verified_is_verified_before_it_is_uploaded(
    cloud: glance.Cloud, variant: Variant, make_build: Callable[..., manifest.Build]
) -> None:
    made = make_build(variant)
    with pytest.raises(VerifyError, match="is not good"):
        refresh.upload([variant], cloud, made.folder.parent.parent, None, now)
    assert (made.folder / "verify.json").exists()
    assert released.current(cloud, variant.name) == []


def test_an_upload_of_what_was_never_built_says_how_to_build_it(
    cloud: glance.Cloud, variant: Variant, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        refresh.upload([variant], cloud, tmp_path, None, now)
    assert f"inv build {variant.name}" in caught.value.remedy


def test_among_several_a_variant_without_a_build_is_only_noted(
    images: catalog.Catalog, cloud: glance.Cloud, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refresh.upload(images.select(None), cloud, tmp_path, None, now)
    assert "good: no complete build; nothing to upload" in capsys.readouterr().err
