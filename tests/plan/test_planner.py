"""What a plan does and why: the reasons, the order, and laws over random worlds."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.plan.model import Action, CloudImage, Inventory, KnownBuild, Target
from pipelines.plan.planner import held_back_by, plan
from pipelines.plan.retention import prunable

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
PARTS = {"element nvidia-driver": "n1", "disk": "d1"}
OLD, NEW = "20261101T000000Z-aaaaaaaa", "20261122T000000Z-aaaaaaaa"


def target(**changes: object) -> Target:
    return replace(Target(variant="debian-cuda", fingerprint="f1", parts=PARTS), **changes)


def build(build_id: str = NEW, **changes: object) -> KnownBuild:
    made = KnownBuild(
        variant="debian-cuda",
        build_id=build_id,
        fingerprint="f1",
        created_at=datetime.strptime(build_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC),
        verified=True,
        parts=PARTS,
    )
    return replace(made, **changes)


def image(build_id: str = NEW, **changes: object) -> CloudImage:
    shown = CloudImage(
        cloud="prod",
        id=f"id-{build_id}",
        variant="debian-cuda",
        build_id=build_id,
        fingerprint="f1",
        release_digest="r1",
        state="current",
        created_at=datetime.strptime(build_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC),
    )
    return replace(shown, **changes)


def planned(
    wanted: Target, builds: Sequence[KnownBuild] = (), images: Sequence[CloudImage] = (), now: datetime = NOW
) -> list[tuple[str, str | None, str]]:
    actions = plan([wanted], Inventory(builds=tuple(builds), images=tuple(images)), now)
    return [(action.verb, action.cloud, action.reason) for action in actions]


def test_a_variant_that_was_never_built_is_built() -> None:
    assert planned(target()) == [("build", None, "no build yet")]


def test_a_verified_build_of_the_same_inputs_needs_nothing() -> None:
    assert planned(target(), [build()]) == []


def test_a_build_that_was_never_verified_is_verified() -> None:
    assert planned(target(), [build(verified=None)]) == [("verify", None, f"{NEW} is not verified yet")]


def test_the_reason_names_the_input_that_changed() -> None:
    changed = target(fingerprint="f2", parts=PARTS | {"element nvidia-driver": "n2"})
    assert planned(changed, [build()]) == [("build", None, "element nvidia-driver changed")]


def test_the_reason_names_inputs_that_came_and_went() -> None:
    changed = target(fingerprint="f2", parts={"disk": "d1", "element cuda-toolkit": "c1"})
    reason = "element cuda-toolkit added, element nvidia-driver removed"
    assert planned(changed, [build()]) == [("build", None, reason)]


def test_a_long_list_of_changes_is_cut_short() -> None:
    before = {f"element e{number}": "1" for number in range(8)}
    changed = target(fingerprint="f2", parts=dict.fromkeys(before, "2"))
    reason = "element e0, element e1, element e2 and 5 more changed"
    assert planned(changed, [build(parts=before)]) == [("build", None, reason)]


@pytest.mark.parametrize(("age", "shown"), [(timedelta(days=7), "7d"), (timedelta(hours=36), "36h")])
def test_an_old_build_is_built_again(age: timedelta, shown: str) -> None:
    old = build(created_at=NOW - age)
    assert planned(target(rebuild_age=age), [old]) == [("build", None, f"older than rebuild_age {shown}")]


def test_a_build_just_younger_than_rebuild_age_stays() -> None:
    young = build(created_at=NOW - timedelta(days=7) + timedelta(seconds=1))
    assert planned(target(rebuild_age=timedelta(days=7)), [young]) == []


def test_a_build_that_failed_verification_is_built_again_and_not_uploaded() -> None:
    actions = plan([target(clouds={"prod": "r1"})], Inventory(builds=(build(verified=False),)), NOW)
    assert actions[0].reason == f"{NEW} failed verification"
    assert all(action.build_id != NEW for action in actions)


def test_an_older_good_build_is_used_when_the_newest_failed() -> None:
    actions = plan([target(clouds={"prod": "r1"})], Inventory(builds=(build(OLD), build(NEW, verified=False))), NOW)
    assert [(action.verb, action.build_id) for action in actions] == [("upload", OLD), ("promote", OLD)]


def test_a_new_cloud_gets_the_build() -> None:
    reason = f"no image in prod; the newest verified build is {NEW}"
    assert planned(target(clouds={"prod": "r1"}), [build()]) == [
        ("upload", "prod", reason),
        ("promote", "prod", reason),
    ]


def test_an_outdated_cloud_gets_the_newest_build() -> None:
    reason = f"prod has {OLD}; the newest verified build is {NEW}"
    actions = planned(target(clouds={"prod": "r1"}), [build(OLD), build()], [image(OLD)])
    assert actions == [("upload", "prod", reason), ("promote", "prod", reason)]


def test_what_another_cloud_has_is_downloaded_and_not_built_again() -> None:
    actions = planned(target(clouds={"prod": "r1", "lab": "r1"}), [build(on_host=False)], [image(cloud="lab")])
    assert actions[0] == (
        "upload",
        "prod",
        f"no image in prod; the newest verified build is {NEW}, downloaded from lab",
    )
    assert [verb for verb, _, _ in actions] == ["upload", "promote"]


@pytest.mark.parametrize("known", [Inventory(images=(image(cloud="lab"),)), Inventory(builds=(build(on_host=False),))])
def test_a_build_that_cannot_be_obtained_is_built_again(known: Inventory) -> None:
    actions = plan([target(clouds={"prod": "r1", "lab": "r1"})], known, NOW)
    assert [(action.verb, action.cloud) for action in actions] == [
        ("build", None),
        ("upload", "prod"),
        ("promote", "prod"),
        ("upload", "lab"),
        ("promote", "lab"),
    ]
    assert actions[0].reason == f"prod needs {NEW}, which is not on this host"


def test_what_is_current_in_every_cloud_need_not_be_on_this_host() -> None:
    assert plan([target(clouds={"prod": "r1"})], Inventory(images=(image(),)), NOW) == []


def test_newer_packages_in_the_package_repository_are_a_reason_to_build() -> None:
    newer = "linux-image-amd64 6.12.107-1 → 6.12.110-1"
    assert planned(target(), [build(outdated=newer)]) == [("build", None, newer)]


def test_a_build_on_record_that_was_never_verified_is_built_again() -> None:
    reason = f"{NEW} is not verified, and not on this host"
    assert planned(target(), [build(on_host=False, verified=None)]) == [("build", None, reason)]


def test_a_build_on_record_alone_is_known_and_not_built_again() -> None:
    assert planned(target(), [build(on_host=False)]) == []


def test_nothing_is_built_that_would_only_repeat_a_rolled_back_build() -> None:
    rolled_back = image(state="retired", rolled_back=True)
    shown = image(OLD, fingerprint="f0")
    assert planned(target(clouds={"prod": "r1"}), [build()], [rolled_back, shown]) == []
    [action] = planned(target(clouds={"prod": "r2"}), [build()], [rolled_back, shown])
    assert action[0] == "update"


def test_a_build_rolled_back_in_one_cloud_is_released_to_no_other() -> None:
    rolled_back = image(state="retired", rolled_back=True)
    actions = planned(target(clouds={"prod": "r1", "lab": "r1"}), [build()], [rolled_back, image(OLD)])
    assert actions == []


def test_after_a_rollback_the_next_change_is_built_and_promoted() -> None:
    rolled_back = image(state="retired", rolled_back=True)
    changed = target(clouds={"prod": "r1"}, fingerprint="f2", parts={**PARTS, "disk": "d2"})
    actions = planned(changed, [build()], [rolled_back, image(OLD)])
    assert actions[0] == ("build", None, "disk changed")
    assert [verb for verb, _, _ in actions] == ["build", "upload", "promote"]


MIDDLE = "20261115T000000Z-aaaaaaaa"


@pytest.mark.parametrize("kept", [True, False], ids=["its image exists", "its image is deleted"])
def test_no_build_from_between_replaces_the_one_that_a_rollback_restored(*, kept: bool) -> None:
    between = [image(MIDDLE, state="retired")] if kept else []
    images = [image(OLD), *between, image(state="retired", rolled_back=True)]
    everything = [build(OLD), build(MIDDLE), build()]
    assert planned(target(clouds={"prod": "r1"}), everything, images) == []


def test_after_a_rollback_a_newer_package_is_a_reason_to_build() -> None:
    newer = "libc6 2.41-12 → 2.41-13"
    images = [image(OLD), image(state="retired", rolled_back=True)]
    actions = planned(target(clouds={"prod": "r1"}), [build(OLD), build(outdated=newer)], images)
    assert actions[0] == ("build", None, newer)


@pytest.mark.parametrize("clouds", [{}, {"prod": "r1"}])
def test_an_older_build_of_the_same_inputs_is_outdated_too(clouds: dict[str, str]) -> None:
    newer = "libc6 2.41-12 → 2.41-13"
    for images in ([], [image(OLD)], [image()]):
        actions = planned(target(clouds=clouds), [build(OLD), build(outdated=newer)], images)
        assert actions[0] == ("build", None, newer)


def test_a_cloud_without_a_rollback_yet_keeps_its_current_image() -> None:
    images = [image(OLD), image(state="retired", rolled_back=True), image(OLD, cloud="lab", state="retired")]
    images.append(image(cloud="lab"))
    assert planned(target(clouds={"prod": "r1", "lab": "r1"}), [build(OLD), build()], images) == []


def test_the_image_that_a_rollback_restored_is_promoted_again_where_it_was_hidden() -> None:
    images = [image(OLD, fingerprint="f0", state="retired"), image(state="retired", rolled_back=True)]
    [action] = plan([target(clouds={"prod": "r1"})], Inventory(builds=(build(),), images=tuple(images)), NOW)
    assert (action.verb, action.images) == ("promote", (f"id-{OLD}",))


def test_an_interrupted_rollback_is_finished_with_the_older_image() -> None:
    images = (image(OLD, fingerprint="f0"), image(rolled_back=True))
    [action] = plan([target(clouds={"prod": "r1"})], Inventory(builds=(build(),), images=images), NOW)
    assert (action.verb, action.images) == ("promote", (f"id-{OLD}",))


def test_what_clouds_have_as_raw_alone_cannot_be_downloaded_and_is_built() -> None:
    wanted = target(clouds={"prod": "r1", "lab": "r1"}, formats={"prod": "raw", "lab": "raw"})
    actions = planned(wanted, [build(on_host=False)], [image(disk_format="raw")])
    assert actions[0] == ("build", None, f"lab needs {NEW}, which is not on this host")


def test_what_a_cloud_converted_itself_has_the_wanted_format() -> None:
    wanted = target(clouds={"prod": "r1"}, formats={"prod": "qcow2"})
    assert planned(wanted, [build()], [image(disk_format="raw", converted=True)]) == []


def test_pruning_alone_keeps_as_many_images_as_a_plan() -> None:
    images = (image(OLD, state="retired", hidden_since=NOW), image())
    wanted = target(clouds={"prod": "r1"}, fingerprint="f2", keep=2)
    assert prunable([wanted], Inventory(images=images), NOW) == []
    [action] = prunable([replace(wanted, keep=1)], Inventory(images=images), NOW)
    assert action.images == (f"id-{OLD}",)


def test_what_an_administrator_deactivated_is_not_replaced_and_not_pruned() -> None:
    images = [image(OLD, state="retired", hidden_since=NOW, deactivated=True), image(deactivated=True)]
    assert planned(target(clouds={"prod": "r1"}, keep=1), [build()], images) == []
    beside = [image(OLD), image(deactivated=True)]
    assert planned(target(clouds={"prod": "r1"}), [build()], beside) == []


def test_an_older_build_never_replaces_the_current_one() -> None:
    other = image(NEW, fingerprint="f2")
    actions = planned(target(clouds={"prod": "r1"}), [build(OLD)], [other])
    reason = f"{NEW} is current in prod but out of date; only a newer build replaces it"
    assert actions[0] == ("build", None, reason)


def test_an_uploaded_candidate_is_only_promoted() -> None:
    actions = planned(target(clouds={"prod": "r1"}), [build()], [image(state="candidate"), image(OLD)])
    assert actions == [("promote", "prod", f"prod has {OLD}; the newest verified build is {NEW}")]


def test_an_uploaded_build_whose_verification_was_lost_is_not_verified_again() -> None:
    assert planned(target(clouds={"prod": "r1"}), [build(verified=None)], [image()]) == []


def test_a_changed_release_is_updated_without_a_build() -> None:
    actions = planned(target(clouds={"prod": "r2"}), [build()], [image()])
    assert actions == [("update", "prod", "its name, visibility, members, tags or properties changed")]


def test_a_cloud_that_wants_another_format_gets_the_same_build_again() -> None:
    wanted = target(clouds={"prod": "r1"}, formats={"prod": "raw"}, keep=2)
    actions = planned(wanted, [build()], [image()])
    assert [verb for verb, _, _ in actions] == ["upload", "promote"]
    assert planned(wanted, [build()], [image(disk_format="raw")]) == []


def test_of_two_current_images_one_is_promoted() -> None:
    actions = planned(target(clouds={"prod": "r1"}), [build()], [image(OLD), image()])
    assert actions == [("promote", "prod", f"2 images are current in prod at once: {OLD}, {NEW}")]


def test_a_half_uploaded_image_is_cleaned_up_and_uploaded_again() -> None:
    actions = planned(target(clouds={"prod": "r1"}), [build()], [image(state="broken")])
    assert [(verb, reason) for verb, _, reason in actions[2:]] == [("prune", "1 incomplete upload")]
    assert actions[0][0] == "upload"


def test_retention_deletes_the_oldest() -> None:
    ids = [f"202611{day:02}T000000Z-aaaaaaaa" for day in (1, 8, 15)]
    retired = [image(each, state="retired", hidden_since=NOW) for each in ids]
    [action] = plan([target(clouds={"prod": "r1"})], Inventory(builds=(build(),), images=(*retired, image())), NOW)
    assert action.verb == "prune"
    assert action.reason == f"retention (keep: 2): {ids[1]}, {ids[0]}"
    assert action.images == (f"id-{ids[1]}", f"id-{ids[0]}")


def test_retention_prefers_images_that_were_current_once() -> None:
    between = "20261115T000000Z-bbbbbbbb"
    images = (
        image(OLD, state="retired", hidden_since=NOW),
        image(between, state="candidate", hidden_since=NOW),
        image(),
    )
    [action] = plan([target(clouds={"prod": "r1"})], Inventory(builds=(build(),), images=images), NOW)
    assert action.images == (f"id-{between}",)


def test_retention_deletes_a_rolled_back_image_before_one_that_a_rollback_could_use() -> None:
    hidden = {"state": "retired", "hidden_since": NOW}
    images = (image(OLD, **hidden), image("20261120T000000Z-aaaaaaaa", rolled_back=True, **hidden), image())
    [action] = plan([target(clouds={"prod": "r1"})], Inventory(builds=(build(),), images=images), NOW)
    assert action.images == ("id-20261120T000000Z-aaaaaaaa",)


def test_a_rolled_back_image_is_not_pruned_while_it_prevents_a_build() -> None:
    rolled_back = image(state="retired", rolled_back=True, hidden_since=NOW)
    assert planned(target(clouds={"prod": "r1"}, keep=1), [build()], [rolled_back, image(OLD, fingerprint="f0")]) == []


def test_retention_waits_until_prune_after() -> None:
    wanted = target(clouds={"prod": "r1"}, keep=1, prune_after=timedelta(days=3))
    images = [image(OLD, state="retired", hidden_since=NOW - timedelta(days=3)), image()]
    assert planned(wanted, [build()], images, NOW - timedelta(seconds=1)) == []
    assert [verb for verb, _, _ in planned(wanted, [build()], images)] == ["prune"]


def test_a_cloud_that_is_not_a_target_is_left_alone() -> None:
    assert planned(target(clouds={}), [build()], [image(OLD), image(state="broken")]) == []


def test_other_variants_images_are_left_alone() -> None:
    others = [image(OLD, variant="another", state="retired") for _ in range(5)]
    assert planned(target(clouds={"prod": "r1"}), [build()], [image(), *others]) == []


def test_the_work_grows_with_what_there_is_and_not_with_its_square() -> None:
    def steps(variants: int) -> int:
        counted = _Counted(image(OLD, variant=f"v{n}", cloud=c) for n in range(variants) for c in ("prod", "lab"))
        targets = [target(variant=f"v{number}", clouds={"prod": "r1", "lab": "r1"}) for number in range(variants)]
        plan(targets, Inventory(images=counted), NOW)
        return counted.read

    assert 0 < steps(200) <= 2 * steps(100)


class _Counted(tuple[CloudImage, ...]):
    """Images that count how often one of them is read."""

    read = 0

    def __iter__(self) -> Iterator[CloudImage]:
        for item in super().__iter__():
            self.read += 1
            yield item


# --- Laws, over random worlds -----------------------------------------------------------------------------------

CLOUDS = ("prod", "lab")
TIMES = [NOW - timedelta(days=day) for day in (1, 3, 9, 30)]
made_at = st.sampled_from(TIMES)
fingerprints = st.sampled_from(["f1", "f2"])


def _id(created_at: datetime, fingerprint: str) -> str:
    return f"{created_at:%Y%m%dT%H%M%SZ}-{fingerprint}"


@st.composite
def builds(draw: st.DrawFn) -> KnownBuild:
    created_at, fingerprint = draw(made_at), draw(fingerprints)
    return KnownBuild(
        variant=draw(st.sampled_from(["a", "b"])),
        build_id=_id(created_at, fingerprint),
        fingerprint=fingerprint,
        created_at=created_at,
        verified=draw(st.sampled_from([True, True, None, False])),
        outdated=draw(st.sampled_from(["", "", "libc6 1 → 2"])),
        on_host=draw(st.booleans()),
        parts={"disk": draw(st.sampled_from("xy"))},
    )


@st.composite
def images(draw: st.DrawFn) -> CloudImage:
    created_at, fingerprint = draw(made_at), draw(fingerprints)
    state = draw(st.sampled_from(["current", "candidate", "retired", "broken"]))
    return CloudImage(
        cloud=draw(st.sampled_from(CLOUDS)),
        id=str(draw(st.uuids())),
        variant=draw(st.sampled_from(["a", "b"])),
        build_id=_id(created_at, fingerprint),
        fingerprint=fingerprint,
        release_digest=draw(st.sampled_from(["r1", "r2"])),
        state=state,
        created_at=created_at,
        disk_format=draw(st.sampled_from(["qcow2", "qcow2", "raw"])),
        converted=draw(st.booleans()),
        rolled_back=draw(st.integers(0, 9)) == 0,
        hidden_since=None if state == "current" else draw(made_at),
    )


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Target], Inventory]:
    targets = [
        Target(
            variant=variant,
            fingerprint=draw(fingerprints),
            clouds=draw(st.sampled_from([{}, {"prod": "r1"}, {"prod": "r1", "lab": "r2"}])),
            keep=draw(st.integers(1, 3)),
            prune_after=timedelta(days=2),
            rebuild_age=draw(st.sampled_from([None, timedelta(days=7)])),
        )
        for variant in ("a", "b")
    ]
    local = draw(st.lists(builds(), max_size=5, unique_by=lambda each: (each.variant, each.build_id)))
    remote = draw(st.lists(images(), max_size=9, unique_by=lambda each: each.id))
    return targets, Inventory(builds=tuple(local), images=tuple(remote))


def carried_out(actions: Sequence[Action], targets: Sequence[Target], inventory: Inventory) -> Inventory:
    """What the world is when every action succeeds: the executor's part of the contract, in a few lines."""
    wanted = {each.variant: each for each in targets}
    local, remote = list(inventory.builds), list(inventory.images)
    for action in actions:
        one = wanted[action.variant]
        build_id = action.build_id or _id(NOW, one.fingerprint)

        def here(item: KnownBuild | CloudImage, action: Action = action, build_id: str = build_id) -> bool:
            same_cloud = action.cloud is None or getattr(item, "cloud", action.cloud) == action.cloud
            return item.variant == action.variant and item.build_id == build_id and same_cloud

        match action.verb:
            case "build":
                made = KnownBuild(
                    variant=one.variant, build_id=build_id, fingerprint=one.fingerprint, created_at=NOW, verified=True
                )
                local.append(made)
            case "verify":
                local = [replace(each, verified=True) if here(each) else each for each in local]
            case "upload":
                assert action.cloud is not None
                source = next(each for each in (*local, *remote) if here(each, replace(action, cloud=None)))
                sent = CloudImage(
                    cloud=action.cloud,
                    id=f"{action.cloud}-{action.variant}-{build_id}",
                    variant=one.variant,
                    build_id=build_id,
                    fingerprint=source.fingerprint,
                    release_digest=one.clouds[action.cloud],
                    state="candidate",
                    created_at=NOW,
                    hidden_since=NOW,
                )
                remote.append(sent)
            case "update":
                assert action.cloud is not None
                digest = one.clouds[action.cloud]
                remote = [replace(each, release_digest=digest) if each.id in action.images else each for each in remote]
            case "promote":
                shown = action.images or tuple(each.id for each in remote if here(each) and each.state == "candidate")
                remote = [_promoted(each, action, shown) for each in remote]
            case "prune":
                remote = [each for each in remote if each.id not in action.images]
    return Inventory(builds=tuple(local), images=tuple(remote))


def _promoted(each: CloudImage, action: Action, shown: tuple[str, ...]) -> CloudImage:
    if (each.cloud, each.variant) != (action.cloud, action.variant):
        return each
    if each.id in shown:
        return replace(each, state="current", hidden_since=None)
    return replace(each, state="retired", hidden_since=NOW) if each.state == "current" else each


@settings(max_examples=120, deadline=None)
@given(worlds())
def test_planning_after_carrying_the_plan_out_gives_an_empty_plan(world: tuple[list[Target], Inventory]) -> None:
    targets, inventory = world
    after = carried_out(plan(targets, inventory, NOW), targets, inventory)
    assert plan(targets, after, NOW) == []


@settings(max_examples=120, deadline=None)
@given(worlds())
def test_nothing_is_uploaded_that_cannot_be_obtained(
    world: tuple[list[Target], Inventory],
) -> None:
    targets, inventory = world
    here = {(each.variant, each.build_id) for each in inventory.builds if each.on_host}
    known = {(each.variant, each.build_id) for each in inventory.builds}
    whole = [each for each in inventory.images if each.state != "broken" and each.disk_format == "qcow2"]
    kept = {(each.variant, each.build_id) for each in whole}
    for action in plan(targets, inventory, NOW):
        if action.verb == "upload" and action.build_id is not None:
            assert (action.variant, action.build_id) in here | (known & kept)


@settings(max_examples=120, deadline=None)
@given(worlds())
def test_no_rolled_back_build_is_uploaded_or_promoted(world: tuple[list[Target], Inventory]) -> None:
    targets, inventory = world
    rolled_back = {(i.variant, i.build_id) for i in inventory.images if i.rolled_back and i.state != "broken"}
    shown = {each.id for each in inventory.images if each.state == "current"}
    for action in plan(targets, inventory, NOW):
        if action.verb in ("upload", "promote") and not shown & set(action.images):
            assert (action.variant, action.build_id) not in rolled_back


@settings(max_examples=120, deadline=None)
@given(worlds())
def test_after_a_plan_every_cloud_has_one_good_current_image_of_each_target(
    world: tuple[list[Target], Inventory],
) -> None:
    targets, inventory = world
    after = carried_out(plan(targets, inventory, NOW), targets, inventory)
    for one in targets:
        for cloud in () if held_back_by(one, inventory, NOW) else one.clouds:
            there = [each for each in after.images if (each.cloud, each.variant) == (cloud, one.variant)]
            assert [each.fingerprint for each in there if each.state == "current"] == [one.fingerprint]
            waiting = [each for each in there if each.hidden_since and NOW - each.hidden_since >= one.prune_after]
            long_hidden = [each for each in waiting if not each.rolled_back]
            assert len(long_hidden) <= one.keep - 1


@settings(max_examples=120, deadline=None)
@given(worlds())
def test_no_moment_of_a_plan_takes_the_last_good_image_away(world: tuple[list[Target], Inventory]) -> None:
    targets, inventory = world
    now = inventory
    for action in plan(targets, inventory, NOW):
        before, now = now, carried_out([action], targets, now)
        for cloud in CLOUDS:
            for one in targets:
                assert _good(before, cloud, one) == 0 or _good(now, cloud, one) > 0
        if action.verb == "prune":
            current = {each.id for each in before.images if each.state == "current"}
            assert not current & set(action.images)


def _good(inventory: Inventory, cloud: str, one: Target) -> int:
    return sum(
        each.state == "current" for each in inventory.images if (each.cloud, each.variant) == (cloud, one.variant)
    )
