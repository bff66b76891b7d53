"""Releases of several builds to a real Glance, and how they fit the plan."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.artifacts import records
from pipelines.artifacts.store import Build
from pipelines.build import fingerprint
from pipelines.catalog.loader import Catalog
from pipelines.catalog.variant import Glance, Variant
from pipelines.glance import client
from pipelines.release import cloud_images, image_metadata
from pipelines.util import files
from pipelines.util.errors import UsageError, VerifyError
from pipelines.workflows import release
from pipelines.workflows import site as workflows_site
from tests.support.cloud_fixtures import make_variant, verified

MakeBuild = Callable[..., Build]
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def now() -> datetime:
    return NOW


def made_from(variant: Variant, build: Build, *, good: bool | None = True, **changes: object) -> Build:
    """The build as one of what the variant is now, with the result of its verification."""
    fields = {"fingerprint": fingerprint.present(variant, builds_root(build)).digest} | changes
    files.write_json(build.folder / "manifest.json", replace(build.manifest(), **fields))
    if good is not None:
        files.write_json(build.folder / "verify.json", verified(build, passed=good))
    return build


def builds_root(build: Build) -> Path:
    return build.folder.parent.parent


def current(cloud: client.Cloud, variant: Variant) -> list[str]:
    """The builds that users get by the variant's name."""
    return [image.properties[image_metadata.BUILD_ID] for image in cloud_images.current(cloud, variant.name)]


def only(*variants: Variant) -> Catalog:
    return Catalog(version=1, records="builds", clouds={}, variants={variant.name: variant for variant in variants})


def site(images: Catalog, root: Path, cloud: client.Cloud) -> workflows_site.Site:
    return workflows_site.Site(catalog=images, root=root, records=records.open("builds", root), clouds=[cloud])


def planned(cloud: client.Cloud, variant: Variant, root: Path) -> list[str]:
    return [action.verb for action in workflows_site.planned(site(only(variant), root, cloud), [variant], NOW)]


def test_a_build_that_was_never_verified_is_verified_before_it_is_uploaded(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild
) -> None:
    made = made_from(variant, make_build(variant), good=None)
    with pytest.raises(VerifyError, match="is not good"):
        release.upload([variant], cloud, builds_root(made), None, now)
    assert (made.folder / "verify.json").exists()
    assert cloud_images.current(cloud, variant.name) == []


def test_the_remedy_for_an_upload_without_a_build_is_the_build_command(
    cloud: client.Cloud, variant: Variant, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        release.upload([variant], cloud, tmp_path, None, now)
    assert f"inv build {variant.name}" in caught.value.remedy


def test_among_several_a_variant_without_a_build_is_only_noted(
    cloud: client.Cloud, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    variants = [make_variant(), make_variant()]
    release.upload(variants, cloud, tmp_path, None, now)
    assert f"{variants[0].name}: no complete build; nothing to upload" in capsys.readouterr().err


def test_a_stale_build_is_not_released_unless_it_is_named(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = made_from(variant, make_build(variant), fingerprint="0" * 64)
    with pytest.raises(UsageError, match=f"{stale.build_id} is stale") as caught:
        release.upload([variant], cloud, builds_root(stale), None, now)
    assert "--build" in caught.value.remedy
    assert current(cloud, variant) == []
    release.upload([variant], cloud, builds_root(stale), stale.build_id, now)
    assert current(cloud, variant) == [stale.build_id]
    assert "stale" in capsys.readouterr().err


@pytest.mark.parametrize("newest", [{"good": False}, {"fingerprint": "0" * 64}], ids=["failed", "stale"])
def test_the_newest_good_build_of_what_is_wanted_now_is_released(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild, newest: dict[str, object]
) -> None:
    made_from(variant, make_build(variant))
    wanted = made_from(variant, make_build(variant))
    made_from(variant, make_build(variant), **newest)
    release.upload([variant], cloud, builds_root(wanted), None, now)
    assert current(cloud, variant) == [wanted.build_id]


def test_a_build_that_is_named_is_released_alone(cloud: client.Cloud, make_build: MakeBuild) -> None:
    variants = [make_variant(), make_variant()]
    first, second = (made_from(variant, make_build(variant)) for variant in variants)
    release.upload(variants, cloud, builds_root(first), second.build_id, now)
    assert [current(cloud, variant) for variant in variants] == [[], [second.build_id]]


def test_a_build_that_does_not_exist_is_a_usage_error(cloud: client.Cloud, make_build: MakeBuild) -> None:
    variants = [make_variant(), make_variant()]
    made = made_from(variants[0], make_build(variants[0]))
    with pytest.raises(UsageError, match="no complete build 20261122T000000Z-nothere of"):
        release.upload(variants, cloud, builds_root(made), "20261122T000000Z-nothere", now)


# The plan


def test_uploading_what_is_planned_makes_the_plan_empty(
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
def test_retention_waits_until_prune_after(cloud: client.Cloud, variant: Variant, make_build: MakeBuild) -> None:
    one_kept = replace(variant, keep=1, prune_after=timedelta(days=3))
    for _ in range(2):
        made = made_from(one_kept, make_build(one_kept))
        release.upload([one_kept], cloud, builds_root(made), None, now)
    place = site(only(one_kept), builds_root(made), cloud)
    assert release.prunable(place, [one_kept], NOW + timedelta(days=2)) == []
    later = NOW + timedelta(days=3)
    release.prune(place, release.prunable(place, [one_kept], later), later)
    assert [image.properties[image_metadata.BUILD_ID] for image in cloud_images.ours(cloud, one_kept.name)] == [
        made.build_id
    ]
    assert release.prunable(place, [one_kept], later) == []


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
    assert "build the variant again" in caught.value.remedy
