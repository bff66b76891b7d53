"""Releases to a real Glance: the order, the repeats, and every way in which they can break off."""

import dataclasses
import hashlib
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from pipelines.artifacts.store import Build
from pipelines.build import importer
from pipelines.catalog.clouds import Delivery
from pipelines.catalog.variant import Glance, Variant
from pipelines.devcloud import manager
from pipelines.glance import client
from pipelines.release import cloud_images, image_metadata, payload, publish
from pipelines.util import files, locks
from pipelines.util.errors import CatalogError, CloudError, HostError, VerifyError
from pipelines.verify.verifier import verify
from tests.support.cloud_fixtures import NOW, QUOTA_MIB, TestCloud, make_variant, revoke, verified
from tests.support.fakes.proxy import Proxy, Request, answer, cut_after
from tests.support.ready_image import converted, gpt_disk
from tests.support.ready_image import variant as imported

MakeBuild = Callable[..., Build]


def release(cloud: client.Cloud, variant: Variant, build: Build) -> publish.Outcome:
    """Upload a build that is verified."""
    return publish.release(cloud, variant, build, verified(build), NOW)


def rows(
    cloud: client.Cloud, variants: Sequence[Variant], fingerprints: Mapping[str, str] | None = None
) -> list[cloud_images.Row]:
    return cloud_images.rows(cloud, cloud.images(), variants, fingerprints or {})


def visible(cloud: client.Cloud, variant: Variant) -> list[client.Image]:
    """The good images that users get by the variant's name."""
    images = cloud.images(owner=cloud.project_id, hidden=False, properties={"name": variant.name})
    return [image for image in images if image.status == "active"]


def states(cloud: client.Cloud, variant: Variant) -> dict[str, str]:
    """Image ID → state, of the images that are ours."""
    return {image.id: image.state for image in cloud_images.inventory(cloud) if image.variant == variant.name}


# --- a release ---


def test_a_released_image_is_what_was_built(cloud: client.Cloud, variant: Variant, make_build: MakeBuild) -> None:
    build = make_build(variant)
    outcome = release(cloud, variant, build)
    sink = io.BytesIO()
    image = cloud.download(outcome.image_id, sink)
    assert sink.getvalue() == build.image().read_bytes()
    assert (image.name, image.hidden, image.visibility, image.min_disk) == (variant.name, False, "private", 2)
    assert (outcome.did, outcome.uploaded) == ("promoted", True)


def test_a_released_image_is_described_by_its_properties(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild
) -> None:
    build = make_build(variant)
    image = cloud.image(release(cloud, variant, build).image_id)
    about = build.manifest()
    assert variant.properties.items() <= image.properties.items()
    assert image.properties["gpu_image_id"] == image.id
    assert image.properties["gpu_image_variant"] == variant.name
    assert image.properties["gpu_image_build_id"] == build.build_id
    assert image.properties["gpu_image_fingerprint"] == about.fingerprint
    assert image.properties["gpu_image_sha256"] == about.artifact.sha256
    assert image.properties["gpu_image_kernel"] == about.kernel
    assert image.properties["gpu_image_release_digest"] == image_metadata.release_digest(variant)


def test_a_ready_windows_image_is_released_with_what_windows_needs(cloud: client.Cloud, tmp_path: Path) -> None:
    wanted = imported(converted(gpt_disk(tmp_path / "windows.raw"), "vhdx"))
    build = importer.build(wanted, tmp_path / "builds", NOW)
    outcome = publish.release(cloud, wanted, build, verify(build, wanted, NOW), NOW)
    image = cloud.image(outcome.image_id)
    assert wanted.properties.items() <= image.properties.items()
    assert (image.disk_format, image.properties["os_type"], image.min_disk) == ("qcow2", "windows", 1)
    assert image.properties["gpu_image_sha256"] == build.manifest().artifact.sha256


def test_a_released_image_is_labelled_as_it_was_made_and_not_as_the_catalog_is_now(
    cloud: client.Cloud, make_build: MakeBuild
) -> None:
    variant = make_variant(properties={"os_admin_user": "admin"})
    build = make_build(variant)
    made = dataclasses.replace(
        build.manifest(),
        base={"distribution": "ubuntu", "release": "24.04", "architecture": "amd64"},
        artifacts=(dataclasses.replace(build.manifest().artifact, virtual_size=4 * 2**30 + 1),),
        driver={"version": "580.1", "modules": "open"},
        packages={"qemu-guest-agent": "1:8.2"},
    )
    files.write_json(build.folder / "manifest.json", made)
    image = cloud.image(release(cloud, variant, build).image_id)
    assert image.min_disk == 5
    wanted = {
        "os_distro": "ubuntu",
        "os_version": "24.04",
        "architecture": "x86_64",
        "hw_firmware_type": "uefi",
        "hw_qemu_guest_agent": "yes",
        "os_admin_user": "admin",
    }
    assert wanted.items() <= image.properties.items()
    again = release(cloud, variant, build)
    assert (again.did, again.uploaded) == ("unchanged", False)


def test_releasing_again_does_nothing_and_reports_that(
    proxy: Proxy, proxied: Path, variant: Variant, make_build: MakeBuild
) -> None:
    behind = client.connect("local", file=proxied)
    build = make_build(variant)
    release(behind, variant, build)
    proxy.reset()
    again = release(behind, variant, build)
    assert proxy.changes() == []
    assert "nothing to do" in str(again)


def test_a_newer_build_takes_the_name_and_the_older_is_hidden(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild
) -> None:
    old_build, new_build = make_build(variant), make_build(variant)
    old, new = release(cloud, variant, old_build), release(cloud, variant, new_build)
    assert [image.id for image in visible(cloud, variant)] == [new.image_id]
    retired = cloud.image(old.image_id)
    assert (retired.name, retired.hidden) == (f"{variant.name} {old_build.build_id}", True)
    assert states(cloud, variant) == {old.image_id: "retired", new.image_id: "current"}
    assert new.retired == (old.image_id,)


def test_an_older_build_never_takes_the_place_of_a_newer(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild
) -> None:
    old_build, new_build = make_build(variant), make_build(variant)
    new = release(cloud, variant, new_build)
    old = release(cloud, variant, old_build)
    assert old.did == "superseded"
    assert states(cloud, variant) == {old.image_id: "candidate", new.image_id: "current"}


@pytest.mark.slow
def test_the_loser_of_a_race_is_hidden(
    cloud: client.Cloud, proxy: Proxy, proxied: Path, variant: Variant, make_build: MakeBuild
) -> None:
    old_build, new_build = make_build(variant), make_build(variant)
    behind = client.connect("local", file=proxied)

    def meanwhile() -> None:
        # The newer build becomes visible between the older one's last check and its promotion.
        if proxy.changes()[-1][0] == "PUT":
            release(cloud, variant, new_build)

    proxy.after_change = meanwhile
    slow = release(behind, variant, old_build)
    assert slow.did == "superseded"
    assert [image.properties[image_metadata.BUILD_ID] for image in visible(cloud, variant)] == [new_build.build_id]


@pytest.mark.slow
def test_two_runs_that_show_their_images_at_once_agree_on_the_newest(
    cloud: client.Cloud, proxy: Proxy, proxied: Path, variant: Variant, make_build: MakeBuild
) -> None:
    old_build, new_build = make_build(variant), make_build(variant)
    behind = client.connect("local", file=proxied)

    def just_before_showing(_: Request) -> None:
        release(cloud, variant, new_build)

    proxy.on("PATCH", "/v2/images", just_before_showing)
    slow = release(behind, variant, old_build)
    assert slow.did == "superseded"
    assert [image.properties[image_metadata.BUILD_ID] for image in visible(cloud, variant)] == [new_build.build_id]


def test_only_release_data_that_changed_is_updated_in_place(cloud: client.Cloud, make_build: MakeBuild) -> None:
    before = make_variant(tags=("a",), properties={"my.one": "1", "my.two": "2"})
    build = make_build(before)
    first = release(cloud, before, build)
    after = dataclasses.replace(before, glance=Glance(tags=("b",), properties={"my.one": "3"}, min_ram=4096))
    assert [row.note for row in rows(cloud, [after])] == ["stale: its metadata in images.yaml changed"]
    second = release(cloud, after, build)
    image = cloud.image(first.image_id)
    assert (second.did, second.uploaded, second.image_id) == ("updated", False, first.image_id)
    assert (image.tags, image.min_ram, image.properties["my.one"]) == (("b",), 4096, "3")
    assert "my.two" not in image.properties
    assert ["stale" in row.note for row in rows(cloud, [after])] == [False]


def test_a_new_name_is_given_to_the_image_that_users_see(cloud: client.Cloud, make_build: MakeBuild) -> None:
    before = make_variant()
    image_id = release(cloud, before, make_build(before)).image_id
    after = dataclasses.replace(before, glance=Glance(name="acme {variant}"))
    (done,) = publish.update(cloud, after, [image_id], lambda _: None)
    assert done.did == "updated"
    assert cloud.image(image_id).name == f"acme {before.name}"


def test_a_retired_image_in_another_format_is_no_leftover(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild
) -> None:
    build, raw = make_build(variant), Delivery(disk_format="raw")
    first = release(cloud, variant, build)
    second = publish.release(cloud, variant, build, verified(build), NOW, delivery=raw)
    assert second.uploaded
    again = publish.release(cloud, variant, build, verified(build), NOW, delivery=raw)
    assert (again.removed, again.uploaded) == ((), False)
    assert cloud.image(first.image_id).status == "active"


def test_a_shared_image_has_its_members_and_a_public_one_is_seen_by_all(
    cloud: client.Cloud, member: client.Cloud, make_build: MakeBuild
) -> None:
    shared, public = make_variant(visibility="shared", members=(member.project_id,)), make_variant(visibility="public")
    one = release(cloud, shared, make_build(shared))
    two = release(cloud, public, make_build(public))
    assert cloud.members(one.image_id) == {member.project_id: "pending"}
    assert [image.id for image in member.images() if image.name == public.name] == [two.image_id]


def test_a_protected_image_is_released_and_stays_protected_when_it_is_superseded(
    cloud: client.Cloud, make_build: MakeBuild
) -> None:
    variant = make_variant(protected=True)
    first = release(cloud, variant, make_build(variant))
    second = release(cloud, variant, make_build(variant))
    assert [cloud.image(id_).protected for id_ in (first.image_id, second.image_id)] == [True, True]
    with pytest.raises(CloudError):
        cloud.delete(first.image_id)


# --- refused before anything is sent ---


def test_a_build_that_failed_verification_is_refused(
    proxy: Proxy, proxied: Path, variant: Variant, make_build: MakeBuild
) -> None:
    build = make_build(variant)
    behind = client.connect("local", file=proxied)
    with pytest.raises(VerifyError, match="image is what was built"):
        publish.release(behind, variant, build, verified(build, passed=False), NOW)
    assert proxy.seen == []


def test_a_verification_of_another_build_is_refused(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild
) -> None:
    build, other = make_build(variant), make_build(variant)
    with pytest.raises(VerifyError, match="not the build that was verified"):
        publish.release(cloud, variant, build, verified(other), NOW)


def test_wrong_properties_are_refused(proxy: Proxy, proxied: Path, make_build: MakeBuild) -> None:
    variant = make_variant(properties={"os_secure_boot": "required"})
    with pytest.raises(CatalogError, match="os_secure_boot"):
        release(client.connect("local", file=proxied), variant, make_build(variant))
    assert proxy.seen == []


def test_a_user_who_may_not_publish_is_told_before_the_upload(
    proxy: Proxy, proxied: Path, make_build: MakeBuild
) -> None:
    variant = make_variant(visibility="public")
    behind = client.connect("local-member", file=proxied)
    with pytest.raises(CloudError, match="may not make"):
        release(behind, variant, make_build(variant))
    assert "PUT" not in {method for method, _ in proxy.seen}
    assert states(behind, variant) == {}


@pytest.mark.parametrize("damage", ["truncated", "changed"])
def test_a_file_that_is_not_what_was_built_never_becomes_an_image(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild, damage: str
) -> None:
    build = make_build(variant)
    content = build.image().read_bytes()
    build.image().write_bytes(content[:-512] if damage == "truncated" else content[:-1] + b"\1")
    with pytest.raises(VerifyError, match="not the file that was built"):
        release(cloud, variant, build)
    assert states(cloud, variant) == {}


def test_a_build_that_is_being_uploaded_is_not_uploaded_twice(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild
) -> None:
    build = make_build(variant)
    with (
        locks.hold(build.folder / ".upload-local.lock", "{holder}"),
        pytest.raises(HostError, match="already being uploaded to local by process"),
    ):
        release(cloud, variant, build)


# --- what is ours ---


def test_a_servers_snapshot_is_never_taken_for_ours(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild
) -> None:
    build = make_build(variant)
    original = cloud.image(release(cloud, variant, build).image_id)
    # As Nova makes one: all properties inherited, its marks added, the name the user's.
    marks = {"image_type": "snapshot", "instance_uuid": str(uuid.uuid4()), "base_image_ref": original.id}
    snapshot = _image_with(cloud, variant.name, {**original.properties, **marks}, build)
    # And one by a tool that drops Nova's marks and copies the rest.
    copy = _image_with(cloud, variant.name, original.properties, build)
    before = [cloud.image(id_) for id_ in (snapshot, copy)]
    release(cloud, variant, make_build(variant))
    assert [cloud.image(id_) for id_ in (snapshot, copy)] == before
    whose = {row.id: (row.state, row.whose) for row in rows(cloud, [variant])}
    assert whose[snapshot] == ("foreign", "a server's snapshot")
    assert whose[copy] == ("foreign", "this project's, not ours")
    assert not {snapshot, copy} & set(states(cloud, variant))


def test_an_unfinished_snapshot_is_not_cleaned_away(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild
) -> None:
    build = make_build(variant)
    original = cloud.image(release(cloud, variant, build).image_id)
    snapshot = str(uuid.uuid4())
    inherited = {**original.properties, "image_type": "snapshot", "gpu_image_id": snapshot}
    cloud.create(snapshot, name="mine", disk_format="raw", min_disk=1, min_ram=1, tags=[], properties=inherited)
    release(cloud, variant, build)
    assert cloud.image(snapshot).status == "queued"


def test_images_of_other_projects_are_shown_as_theirs_and_left_alone(
    local_cloud: TestCloud, cloud: client.Cloud, variant: Variant, make_build: MakeBuild
) -> None:
    other = client.connect("local-other", file=local_cloud.root / "clouds.yaml")
    theirs = release(other, variant, make_build(variant))
    ours = release(cloud, variant, make_build(variant))
    assert [image.id for image in visible(other, variant)] == [theirs.image_id]
    found = {row.id: (row.state, row.whose) for row in rows(cloud, [variant])}
    assert found == {ours.image_id: ("current", "ours"), theirs.image_id: ("foreign", f"project {other.project_id}")}


def test_status_tells_that_the_definition_changed(cloud: client.Cloud, variant: Variant, make_build: MakeBuild) -> None:
    build = make_build(variant)
    release(cloud, variant, build)
    same, other = {variant.name: build.manifest().fingerprint}, {variant.name: "0" * 64}
    assert [row.note for row in rows(cloud, [variant], same)] == [""]
    assert "stale" in rows(cloud, [variant], other)[0].note


# --- broken off, and finished by the next run ---


# Each way of breaking off has the image of the one before as its older image.
_PROTECTED = make_variant(protected=True)
_HOURS = itertools.count(1)


def _break_before(proxy: Proxy, nth: int) -> None:
    """The nth change and all that follows is cut before it reaches Glance, as when we die there."""
    count = itertools.count()

    def fault(request: Request) -> None:
        request.drop = next(count) >= nth

    proxy.on("POST|PUT|PATCH|DELETE", "", fault, always=True)


def _break_after(proxy: Proxy, nth: int) -> None:
    """The nth change reaches Glance and its answer is lost; nothing that follows arrives."""
    count = itertools.count()

    def fault(request: Request) -> None:
        number = next(count)
        request.drop, request.drop_answer = number > nth, number == nth

    proxy.on("POST|PUT|PATCH|DELETE", "", fault, always=True)


@pytest.mark.slow
@pytest.mark.parametrize("breaks", [_break_before, _break_after])
@pytest.mark.parametrize("nth", range(5), ids=["create", "upload", "protect", "show", "hide the older"])
def test_a_release_that_breaks_off_anywhere_is_finished_by_the_next_run(
    *,
    cloud: client.Cloud,
    proxy: Proxy,
    proxied: Path,
    make_build: MakeBuild,
    breaks: Callable[[Proxy, int], None],
    nth: int,
) -> None:
    variant = _PROTECTED
    if not visible(cloud, variant):
        release(cloud, variant, make_build(variant))
    build = make_build(variant, later=next(_HOURS))
    behind = client.connect("local", file=proxied)
    seen: list[list[str | None]] = []

    def look() -> None:
        seen.append([image.hash_value for image in visible(cloud, variant)])

    proxy.after_change = look
    breaks(proxy, nth)
    with pytest.raises(CloudError):
        release(behind, variant, build)
    look()
    proxy.faults.clear()
    release(behind, variant, build)
    look()
    assert all(seen), "there was a moment without a good image"
    assert seen[-1] == [build.manifest().artifact.sha512]
    assert set(states(cloud, variant).values()) == {"current", "retired"}


@pytest.mark.parametrize(
    "status", [403, pytest.param(409, marks=pytest.mark.slow), pytest.param(500, marks=pytest.mark.slow)]
)
def test_a_refused_promotion_leaves_the_older_image_in_place(
    *, cloud: client.Cloud, proxy: Proxy, proxied: Path, variant: Variant, make_build: MakeBuild, status: int
) -> None:
    old = release(cloud, variant, make_build(variant))
    proxy.on("PATCH", "/v2/images", answer(status), always=True)
    with pytest.raises(CloudError):
        release(client.connect("local", file=proxied), variant, make_build(variant))
    assert [image.id for image in visible(cloud, variant)] == [old.image_id]


def test_an_upload_that_is_cut_leaves_nothing_behind(
    proxy: Proxy, proxied: Path, variant: Variant, make_build: MakeBuild
) -> None:
    behind = client.connect("local", file=proxied)
    proxy.on("PUT", "/file", cut_after(100_000))
    with pytest.raises(CloudError, match="cannot upload"):
        release(behind, variant, make_build(variant))
    assert states(behind, variant) == {}


@pytest.mark.slow
def test_an_upload_over_the_quota_leaves_nothing_behind(
    member: client.Cloud, variant: Variant, make_build: MakeBuild
) -> None:
    build = make_build(variant, kib=(QUOTA_MIB + 1) * 1024)
    with pytest.raises(CloudError, match="413") as failure:
        release(member, variant, build)
    assert "quota" in failure.value.remedy
    assert states(member, variant) == {}


@pytest.mark.slow
def test_a_token_that_ends_during_the_release_is_renewed(
    local_cloud: TestCloud, proxy: Proxy, proxied: Path, variant: Variant, make_build: MakeBuild
) -> None:
    behind = client.connect("local", file=proxied)
    for method in ("POST", "PATCH"):
        proxy.on(method, "/v2/images", lambda _: revoke(local_cloud, behind))
    build = make_build(variant)
    release(behind, variant, build)
    assert [status for _, _, status in proxy.changes()] == [401, 201, 204, 401, 200]
    assert [image.hash_value for image in visible(behind, variant)] == [build.manifest().artifact.sha512]


@pytest.mark.slow
def test_glance_killed_during_an_upload(
    local_cloud: TestCloud, proxy: Proxy, proxied: Path, variant: Variant, make_build: MakeBuild
) -> None:
    direct = client.connect("local", file=local_cloud.root / "clouds.yaml")
    old = release(direct, variant, make_build(variant))
    build = make_build(variant)
    behind = client.connect("local", file=proxied)

    def kill() -> None:
        deadline = time.monotonic() + 60
        while "saving" not in {image.status for image in cloud_images.ours(direct, variant.name)}:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(json.loads((local_cloud.root / "services.json").read_text())["glance"], signal.SIGKILL)

    proxy.on("PUT", "/file", cut_after(100_000, kill))
    with pytest.raises(CloudError):
        release(behind, variant, build)
    while locks.holder(local_cloud.root / ".lock"):  # the cloud ends with its Glance
        time.sleep(0.02)
    local_cloud.again()
    assert [image.id for image in visible(direct, variant)] == [old.image_id]
    assert sorted(states(direct, variant).values()) == ["broken", "current"]
    outcome = release(behind, variant, build)
    assert len(outcome.removed) == 1
    assert [image.hash_value for image in visible(direct, variant)] == [build.manifest().artifact.sha512]
    assert sorted(states(direct, variant).values()) == ["current", "retired"]


@pytest.mark.slow
def test_our_own_death_during_an_upload(
    local_cloud: TestCloud, proxy: Proxy, proxied: Path, variant: Variant, make_build: MakeBuild
) -> None:
    direct = client.connect("local", file=local_cloud.root / "clouds.yaml")
    build = make_build(variant)
    code = (
        "import pathlib, sys; from tests.support.cloud_fixtures import NOW, make_variant, verified\n"
        "import dataclasses; from pipelines.artifacts import store\n"
        "from pipelines.glance import client; from pipelines.release import publish\n"
        "folder, clouds, name = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]\n"
        "build = store.Build(folder=folder, variant=name, build_id=folder.name, state='complete')\n"
        "variant = dataclasses.replace(make_variant(), name=name)\n"
        "publish.release(client.connect('local', file=clouds), variant, build, verified(build), NOW)"
    )
    env = {**os.environ, "PYTHONPATH": str(manager.ROOT)}
    argv = [sys.executable, "-c", code, str(build.folder), str(proxied), variant.name]
    with subprocess.Popen(argv, env=env) as uploader:
        proxy.on("PUT", "/file", cut_after(100_000, uploader.kill))
    assert uploader.returncode == -signal.SIGKILL
    assert list(states(direct, variant).values()) == ["broken"]
    assert len(release(direct, variant, build).removed) == 1
    assert list(states(direct, variant).values()) == ["current"]


def test_an_upload_that_may_be_under_way_elsewhere_is_left_alone_for_a_day(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild
) -> None:
    build, elsewhere = make_build(variant), make_build(variant)
    image_id = str(uuid.uuid4())
    marks = image_metadata.properties(variant, elsewhere.manifest(), image_id)
    elsewhere.folder.rename(elsewhere.folder.with_name("not-here"))
    made = cloud.create(image_id, name="theirs", disk_format="qcow2", min_disk=1, min_ram=1, tags=[], properties=marks)
    release(cloud, variant, build)
    assert cloud.image(image_id).status == "queued"
    later = publish.datetime.fromisoformat(made.created_at) + timedelta(days=1, seconds=1)
    assert publish.release(cloud, variant, build, verified(build), later).removed == (image_id,)


def test_an_unfinished_upload_of_an_older_build_here_is_removed(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild
) -> None:
    older, build = make_build(variant), make_build(variant)
    image_id = str(uuid.uuid4())
    marks = image_metadata.properties(variant, older.manifest(), image_id)
    cloud.create(image_id, name="older", disk_format="qcow2", min_disk=1, min_ram=1, tags=[], properties=marks)
    (older.folder / f".upload-{cloud.name}.begun").write_text(f"{image_id}\n")
    assert release(cloud, variant, build).removed == (image_id,)


def test_an_active_image_with_other_data_is_replaced(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild
) -> None:
    build = make_build(variant)
    image_id = str(uuid.uuid4())
    marks = image_metadata.properties(variant, build.manifest(), image_id)
    cloud.create(image_id, name="wrong", disk_format="raw", min_disk=1, min_ram=1, tags=[], properties=marks)
    cloud.put_data(image_id, lambda: iter([b"half of it"]), len(b"half of it"))
    outcome = release(cloud, variant, build)
    assert (outcome.removed, outcome.uploaded) == ((image_id,), True)
    assert [image.hash_value for image in visible(cloud, variant)] == [build.manifest().artifact.sha512]


def test_a_digest_in_another_algorithm_is_compared_too(variant: Variant, make_build: MakeBuild) -> None:
    build = make_build(variant)
    expected = hashlib.sha3_256(build.image().read_bytes()).hexdigest()
    assert payload.canonical(build, build.manifest()).digest("sha3_256") == expected
    with pytest.raises(CloudError, match="whirlpool2"):
        payload.canonical(build, build.manifest()).digest("whirlpool2")


def _image_with(cloud: client.Cloud, name: str, properties: dict[str, str], build: Build) -> str:
    image_id = str(uuid.uuid4())
    content = build.image().read_bytes()
    cloud.create(image_id, name=name, disk_format="qcow2", min_disk=1, min_ram=1, tags=[], properties=properties)
    cloud.put_data(image_id, lambda: iter([content]), len(content))
    cloud.update(image_id, os_hidden=False)
    return image_id
