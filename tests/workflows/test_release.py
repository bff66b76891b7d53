"""Do the verbs fit together? Against a real Glance; diskimage-builder is a fake on PATH."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.artifacts import records, store
from pipelines.artifacts.store import Build
from pipelines.build import fingerprint
from pipelines.catalog import loader
from pipelines.catalog.loader import Catalog
from pipelines.catalog.variant import Glance, Variant
from pipelines.glance import client
from pipelines.release import cloud_images, image_metadata
from pipelines.util import failures, files
from pipelines.util.errors import UsageError, VerifyError
from pipelines.workflows import build as workflows_build
from pipelines.workflows import release
from pipelines.workflows import site as workflows_site
from tests.support.cloud_fixtures import make_variant, verified
from tests.support.command_line import inv
from tests.support.paths import FAKES

MakeBuild = Callable[..., Build]
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def now() -> datetime:
    return NOW


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


def test_a_build_that_fails_verification_is_kept_for_inspection(images: Catalog, tmp_path: Path) -> None:
    # The fake's image is an empty disk: real verification refuses it.
    with pytest.raises(VerifyError, match="partition-table"):
        workflows_build.build(images.select("good"), tmp_path / "builds", now)
    (kept,) = store.builds(tmp_path / "builds", "good")
    assert kept.state == "complete"
    assert kept.image().exists()
    verification = kept.verification()
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


def made_from(variant: Variant, build: Build, *, good: bool | None = True, **changes: object) -> Build:
    """The build as one of what the variant is now, with the verdict of its verification."""
    fields = {"fingerprint": fingerprint.present(variant, builds_root(build)).digest} | changes
    files.write_json(build.folder / "manifest.json", replace(build.manifest(), **fields))
    if good is not None:
        files.write_json(build.folder / "verify.json", verified(build, passed=good))
    return build


def builds_root(build: Build) -> Path:
    return build.folder.parent.parent


def shown(cloud: client.Cloud, variant: Variant) -> list[str]:
    """The builds that users get by the variant's name."""
    return [image.properties[image_metadata.BUILD_ID] for image in cloud_images.current(cloud, variant.name)]


def only(*variants: Variant) -> Catalog:
    return Catalog(version=1, records="builds", clouds={}, variants={variant.name: variant for variant in variants})


def site(images: Catalog, root: Path, cloud: client.Cloud) -> workflows_site.Site:
    return workflows_site.Site(catalog=images, root=root, records=records.open("builds", root), clouds=[cloud])


def planned(cloud: client.Cloud, variant: Variant, root: Path) -> list[str]:
    return [action.verb for action in workflows_site.planned(site(only(variant), root, cloud), [variant], NOW)]


# Verification


def test_of_several_what_was_verified_is_reported_beside_what_could_not_be(
    images: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(VerifyError):
        workflows_build.build(images.select("good"), tmp_path / "builds", now)
    found = workflows_build.verify(
        images.select("good,other"), tmp_path / "builds", None, now, boot=False, firmware=None
    )
    assert [(result.variant, result.passed) for result in found.results] == [("good", False)]
    with pytest.raises(failures.SeveralFailed, match="2 of 2 failed: good, other") as caught:
        found.require_passed()
    assert caught.value.exit_code == 1
    said = capsys.readouterr().err
    assert "partition-table" in said
    assert "no complete build of other" in said


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


def test_a_wrong_firmware_is_said_once(images: Catalog, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no firmware floppy"):
        workflows_build.verify(images.select(None), tmp_path, None, now, boot=False, firmware="floppy")


# Releases


def test_a_build_that_was_never_verified_is_verified_before_it_is_uploaded(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild
) -> None:
    made = made_from(variant, make_build(variant), good=None)
    with pytest.raises(VerifyError, match="is not good"):
        release.upload([variant], cloud, builds_root(made), None, now)
    assert (made.folder / "verify.json").exists()
    assert cloud_images.current(cloud, variant.name) == []


def test_an_upload_of_what_was_never_built_says_how_to_build_it(
    cloud: client.Cloud, variant: Variant, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        release.upload([variant], cloud, tmp_path, None, now)
    assert f"inv build {variant.name}" in caught.value.remedy


def test_among_several_a_variant_without_a_build_is_only_noted(
    images: Catalog, cloud: client.Cloud, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release.upload(images.select(None), cloud, tmp_path, None, now)
    assert "good: no complete build; nothing to upload" in capsys.readouterr().err


def test_a_stale_build_is_not_released_unless_it_is_named(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = made_from(variant, make_build(variant), fingerprint="0" * 64)
    with pytest.raises(UsageError, match=f"{stale.build_id} is stale") as caught:
        release.upload([variant], cloud, builds_root(stale), None, now)
    assert "--build" in caught.value.remedy
    assert shown(cloud, variant) == []
    release.upload([variant], cloud, builds_root(stale), stale.build_id, now)
    assert shown(cloud, variant) == [stale.build_id]
    assert "stale" in capsys.readouterr().err


@pytest.mark.parametrize("newest", [{"good": False}, {"fingerprint": "0" * 64}], ids=["failed", "stale"])
def test_the_newest_good_build_of_what_is_wanted_now_is_released(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild, newest: dict[str, object]
) -> None:
    made_from(variant, make_build(variant))
    wanted = made_from(variant, make_build(variant))
    made_from(variant, make_build(variant), **newest)
    release.upload([variant], cloud, builds_root(wanted), None, now)
    assert shown(cloud, variant) == [wanted.build_id]


def test_a_build_that_is_named_is_released_alone(cloud: client.Cloud, make_build: MakeBuild) -> None:
    variants = [make_variant(), make_variant()]
    first, second = (made_from(variant, make_build(variant)) for variant in variants)
    release.upload(variants, cloud, builds_root(first), second.build_id, now)
    assert [shown(cloud, variant) for variant in variants] == [[], [second.build_id]]


def test_a_build_that_nobody_has_is_a_usage_error(cloud: client.Cloud, make_build: MakeBuild) -> None:
    variants = [make_variant(), make_variant()]
    made = made_from(variants[0], make_build(variants[0]))
    with pytest.raises(UsageError, match="no complete build 20261122T000000Z-nothere of"):
        release.upload(variants, cloud, builds_root(made), "20261122T000000Z-nothere", now)


# The plan


def test_uploading_what_the_plan_says_makes_it_empty(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild
) -> None:
    made = made_from(variant, make_build(variant))
    assert planned(cloud, variant, builds_root(made)) == ["upload", "promote"]
    release.upload([variant], cloud, builds_root(made), None, now)
    assert planned(cloud, variant, builds_root(made)) == []
    changed = replace(variant, glance=Glance(tags=("changed",)))
    assert planned(cloud, changed, builds_root(made)) == ["update"]
    release.upload([changed], cloud, builds_root(made), None, now)
    assert planned(cloud, changed, builds_root(made)) == []


@pytest.mark.slow
def test_images_beyond_keep_stay_hidden_for_a_while_and_are_pruned_then(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild
) -> None:
    kept_one = replace(variant, keep=1, prune_after=timedelta(days=3))
    for _ in range(2):
        made = made_from(kept_one, make_build(kept_one))
        release.upload([kept_one], cloud, builds_root(made), None, now)
    place = site(only(kept_one), builds_root(made), cloud)
    assert release.prunable(place, [kept_one], NOW + timedelta(days=2)) == []
    later = NOW + timedelta(days=3)
    release.prune(place, release.prunable(place, [kept_one], later), later)
    assert [image.properties[image_metadata.BUILD_ID] for image in cloud_images.ours(cloud, kept_one.name)] == [
        made.build_id
    ]
    assert release.prunable(place, [kept_one], later) == []


def test_release_data_of_what_is_in_the_cloud_alone_are_updated(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild, tmp_path: Path
) -> None:
    made = made_from(variant, make_build(variant))
    release.upload([variant], cloud, builds_root(made), None, now)
    assert planned(cloud, variant, tmp_path / "empty") == []
    changed = replace(variant, glance=Glance(tags=("changed",)))
    assert planned(cloud, changed, tmp_path / "empty") == ["update"]


def test_a_corrupt_manifest_is_reported_with_its_path(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild
) -> None:
    made = made_from(variant, make_build(variant), created_at="yesterday")
    with pytest.raises(VerifyError, match=r"manifest\.json cannot be used: .*yesterday") as caught:
        planned(cloud, variant, builds_root(made))
    assert caught.value.exit_code == 4
    assert "Build the variant again" in caught.value.remedy
