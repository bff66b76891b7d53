"""Promotion, rollback and pruning in a real Glance, interrupted anywhere."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from pipelines.artifacts.store import Build
from pipelines.catalog.variant import Variant
from pipelines.glance import client
from pipelines.release import cloud_images, image_metadata, prune, publish
from pipelines.util.errors import CloudError, UsageError
from tests.support.cloud_fixtures import NOW, make_variant, verified
from tests.support.fakes.proxy import Proxy, Request, answer

MakeBuild = Callable[..., Build]
_HOURS = itertools.count(1)


@pytest.fixture
def variant() -> Variant:
    return make_variant()


def release(cloud: client.Cloud, variant: Variant, build: Build, **options: bool) -> publish.Outcome:
    return publish.release(cloud, variant, build, verified(build), NOW, **options)


def visible(cloud: client.Cloud, variant: Variant) -> list[str]:
    """The builds that users get by the variant's name, and that are whole."""
    found = cloud.images(owner=cloud.project_id, hidden=False, properties={"name": variant.name})
    return [image.properties[image_metadata.BUILD_ID] for image in found if image.status == "active"]


def states(cloud: client.Cloud, variant: Variant) -> dict[str, str]:
    return {image.build_id: image.state for image in cloud_images.inventory(cloud) if image.variant == variant.name}


def nothing_known(_: str) -> None:
    return None


# --- rollback ---


def test_a_rollback_makes_current_the_image_before_and_sends_nothing(
    proxy: Proxy, proxied: Path, variant: Variant, make_build: MakeBuild
) -> None:
    behind = client.connect("local", file=proxied)
    old, new = make_build(variant), make_build(variant)
    release(behind, variant, old)
    release(behind, variant, new)
    proxy.reset()
    outcome = publish.rollback(behind, variant, None, nothing_known, NOW)
    assert outcome.build_id == old.build_id
    assert visible(behind, variant) == [old.build_id]
    assert states(behind, variant) == {old.build_id: "current", new.build_id: "retired"}
    assert {method for method, _, _ in proxy.changes()} == {"PATCH"}


@pytest.mark.slow
def test_a_rollback_to_a_build_goes_there(cloud: client.Cloud, variant: Variant, make_build: MakeBuild) -> None:
    builds = [make_build(variant) for _ in range(3)]
    for build in builds:
        release(cloud, variant, build)
    publish.rollback(cloud, variant, builds[0].build_id, nothing_known, NOW)
    assert visible(cloud, variant) == [builds[0].build_id]
    publish.rollback(cloud, variant, builds[0].build_id, nothing_known, NOW)
    assert visible(cloud, variant) == [builds[0].build_id]


def test_what_was_rolled_back_is_not_promoted_by_the_next_release(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild
) -> None:
    old, bad = make_build(variant), make_build(variant)
    release(cloud, variant, old)
    release(cloud, variant, bad)
    publish.rollback(cloud, variant, None, nothing_known, NOW)
    assert release(cloud, variant, bad).did == "superseded"
    assert visible(cloud, variant) == [old.build_id]
    assert [
        image.build_id for image in cloud_images.inventory(cloud) if image.variant == variant.name and image.rolled_back
    ]
    better = make_build(variant)
    release(cloud, variant, better)
    assert visible(cloud, variant) == [better.build_id]


@pytest.mark.slow
def test_promoting_it_by_its_name_shows_it_again(cloud: client.Cloud, variant: Variant, make_build: MakeBuild) -> None:
    old, new = make_build(variant), make_build(variant)
    release(cloud, variant, old)
    release(cloud, variant, new)
    publish.rollback(cloud, variant, None, nothing_known, NOW)
    publish.promote(cloud, variant, new.build_id, nothing_known, NOW)
    assert visible(cloud, variant) == [new.build_id]


def test_nothing_between_is_taken_for_the_newest_after_a_rollback_to_a_build(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild
) -> None:
    old, between, new = builds = [make_build(variant) for _ in range(3)]
    for build in builds:
        release(cloud, variant, build)
    publish.rollback(cloud, variant, old.build_id, nothing_known, NOW)
    rejected = [
        image.build_id for image in cloud_images.inventory(cloud) if image.variant == variant.name and image.rolled_back
    ]
    assert rejected == [between.build_id, new.build_id]


def test_users_who_may_see_an_image_may_see_the_one_that_a_rollback_makes_current(
    cloud: client.Cloud, make_build: MakeBuild
) -> None:
    before = make_variant()
    old, new = make_build(before), make_build(before)
    release(cloud, before, old, promotes=False)
    shared = replace(before, glance=replace(before.glance, visibility="community"))
    release(cloud, shared, new)
    publish.rollback(cloud, shared, old.build_id, nothing_known, NOW)
    (image,) = cloud_images.current(cloud, before.name)
    assert (image.properties[image_metadata.BUILD_ID], image.visibility) == (old.build_id, "community")


@pytest.mark.slow
def test_there_is_nothing_to_go_back_to_before_the_first(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild
) -> None:
    build = make_build(variant)
    release(cloud, variant, build)
    release(cloud, variant, make_build(variant), promotes=False)
    with pytest.raises(UsageError, match="no good image"):
        publish.rollback(cloud, variant, None, nothing_known, NOW)
    with pytest.raises(UsageError, match="20261122T000000Z-nothere"):
        publish.rollback(cloud, variant, "20261122T000000Z-nothere", nothing_known, NOW)
    assert visible(cloud, variant) == [build.build_id]


@pytest.mark.slow
@pytest.mark.parametrize("nth", range(3), ids=["reject", "show the older", "hide the newer"])
@pytest.mark.parametrize("lost", ["change", "answer"])
def test_a_rollback_that_breaks_off_anywhere_is_finished_by_the_next_and_goes_no_further(
    *,
    cloud: client.Cloud,
    proxy: Proxy,
    proxied: Path,
    variant: Variant,
    make_build: MakeBuild,
    nth: int,
    lost: str,
) -> None:
    builds = [make_build(variant) for _ in range(3)]
    for build in builds:
        release(cloud, variant, build)
    count = itertools.count()
    seen: list[list[str]] = []
    proxy.after_change = lambda: seen.append(visible(cloud, variant))

    def fault(request: Request) -> None:
        number = next(count)
        request.drop = number > nth or (number == nth and lost == "change")
        request.drop_answer = number == nth

    proxy.on("PATCH", "", fault, always=True)
    behind = client.connect("local", file=proxied)
    with pytest.raises(CloudError):
        publish.rollback(behind, variant, None, nothing_known, NOW)
    proxy.faults.clear()
    done = visible(cloud, variant) == [builds[1].build_id]
    publish.rollback(behind, variant, builds[1].build_id if done else None, nothing_known, NOW)
    assert visible(cloud, variant) == [builds[1].build_id]
    assert all(seen), "there was a moment without a good image"


# --- promotion of what was only uploaded ---


def test_an_upload_without_promotion_is_hidden_until_it_is_promoted(cloud: client.Cloud, make_build: MakeBuild) -> None:
    variant = make_variant(visibility="public", tags=("gpu",))
    old, new = make_build(variant), make_build(variant)
    release(cloud, variant, old)
    assert release(cloud, variant, new, promotes=False).did == "candidate"
    assert visible(cloud, variant) == [old.build_id]
    outcome = publish.promote(cloud, variant, None, nothing_known, NOW)
    image = cloud.image(outcome.image_id)
    assert (outcome.did, image.visibility, image.tags) == ("promoted", "public", ("gpu",))
    assert visible(cloud, variant) == [new.build_id]


def test_members_see_an_image_from_the_moment_that_it_is_visible(
    *, cloud: client.Cloud, member: client.Cloud, proxy: Proxy, proxied: Path, make_build: MakeBuild
) -> None:
    variant = make_variant(visibility="shared", members=(member.project_id,))
    members: list[set[str]] = []

    def look() -> None:
        for build_id in visible(cloud, variant):
            for image in cloud_images.ours(cloud, variant.name):
                if image.properties[image_metadata.BUILD_ID] == build_id:
                    members.append(set(cloud.members(image.id)))

    proxy.after_change = look
    release(client.connect("local", file=proxied), variant, make_build(variant))
    assert members
    assert all(each == {member.project_id} for each in members)


def test_without_a_manifest_declared_properties_follow_the_catalog_and_derived_ones_stay(
    cloud: client.Cloud, make_build: MakeBuild
) -> None:
    variant = make_variant(properties={"os_admin_user": "debian"})
    image_id = release(cloud, variant, make_build(variant)).image_id
    before = cloud.image(image_id).properties
    changed = Variant(
        name=variant.name,
        base=variant.base,
        disk=variant.disk,
        glance=make_variant(properties={"os_admin_user": "root", "hw_rng_model": "virtio"}).glance,
    )
    (outcome,) = publish.update(cloud, changed, [image_id], nothing_known)
    after = cloud.image(image_id).properties
    assert outcome.did == "updated"
    assert (after["os_admin_user"], after["hw_rng_model"]) == ("root", "virtio")
    kept = {name: value for name, value in before.items() if name not in ("os_admin_user", "hw_rng_model")}
    changing = {image_metadata.RELEASE_DIGEST, image_metadata.PROPERTIES}
    assert {n: v for n, v in kept.items() if n not in changing}.items() <= after.items()
    assert publish.update(cloud, changed, [image_id], nothing_known)[0].did == "unchanged"


# --- pruning ---


@pytest.fixture
def several(cloud: client.Cloud, variant: Variant, make_build: MakeBuild) -> list[str]:
    """The IDs of three images of a variant, the last of them visible."""
    return [release(cloud, variant, make_build(variant)).image_id for _ in range(3)]


def test_what_is_visible_or_is_the_last_good_one_is_never_deleted(
    cloud: client.Cloud, variant: Variant, several: list[str]
) -> None:
    done = prune.prune(cloud, variant.name, tuple(several), NOW)
    assert [(each.image_id, each.kept) for each in done] == [
        (several[0], ""),
        (several[1], ""),
        (several[2], "it is visible"),
    ]
    cloud.update(several[2], os_hidden=True)
    (kept,) = prune.prune(cloud, variant.name, tuple(several), NOW)
    assert kept.kept == "it is the last good one"
    assert cloud.image(several[2]).status == "active"


@pytest.mark.slow
def test_an_image_that_glance_will_not_delete_stays_as_it_was_and_the_rest_goes(
    *, cloud: client.Cloud, proxy: Proxy, proxied: Path, make_build: MakeBuild
) -> None:
    variant = make_variant(protected=True)
    first, second, _ = (release(cloud, variant, make_build(variant)).image_id for _ in range(3))
    proxy.on("DELETE", first, answer(409))
    done = prune.prune(client.connect("local", file=proxied), variant.name, (first, second), NOW)
    assert [bool(each.kept) for each in done] == [True, False]
    assert cloud.image(first).protected


def test_an_upload_that_may_be_under_way_is_left_alone_for_a_day(
    cloud: client.Cloud, variant: Variant, several: list[str], make_build: MakeBuild
) -> None:
    build = make_build(variant)
    held = image_metadata.properties(variant, build.manifest(), "00000000-0000-4000-8000-00000000beef")
    cloud.create(
        "00000000-0000-4000-8000-00000000beef",
        name="half",
        disk_format="qcow2",
        min_disk=1,
        min_ram=0,
        tags=(),
        properties=held,
    )
    unfinished = ("00000000-0000-4000-8000-00000000beef",)
    (kept,) = prune.prune(cloud, variant.name, unfinished, NOW - timedelta(days=3650))
    assert kept.kept == "its upload may be in progress"
    (gone,) = prune.prune(cloud, variant.name, unfinished, NOW + timedelta(days=3650))
    assert gone.kept == ""
    assert len(several) == len(cloud_images.ours(cloud, variant.name))


def test_what_is_not_ours_is_not_deleted_even_when_it_is_named(
    cloud: client.Cloud, variant: Variant, several: list[str]
) -> None:
    snapshot = cloud.image(several[0])
    cloud.update(several[0], image_type="snapshot")
    assert prune.prune(cloud, variant.name, (several[0],), NOW) == ()
    assert cloud.image(snapshot.id).status == "active"
