"""Drift found and repaired in a real Glance, without touching what is not ours."""

import dataclasses
import json
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipelines.artifacts.store import Build
from pipelines.catalog.loader import Cloud as CloudSettings
from pipelines.catalog.variant import Variant
from pipelines.glance import client
from pipelines.release import cloud_images, publish
from pipelines.reports import tables
from pipelines.util.errors import UsageError
from pipelines.util.failures import SeveralFailed
from pipelines.workflows import status
from pipelines.workflows.status import Survey
from tests.support.cloud_fixtures import NOW, TestCloud, make_variant, site, verified
from tests.support.command_line import inv
from tests.support.fakes.proxy import Proxy, answer

MakeBuild = Callable[..., Build]


@pytest.fixture
def behind(proxied: Path) -> client.Cloud:
    """The same cloud, its Glance behind the proxy."""
    return client.connect("local", file=proxied)


def release(cloud: client.Cloud, variant: Variant, build: Build) -> client.Image:
    return cloud.image(publish.release(cloud, variant, build, verified(build), NOW).image_id)


def asked(cloud: client.Cloud, variant: Variant, root: Path, *, fix: bool = False) -> Survey:
    [found] = status.survey(site([variant], root, cloud), [variant], NOW, fix=fix)
    return found


def drifts(found: Survey) -> dict[str, list[str]]:
    """Image ID → what drifted, but for the fingerprint: the tests' builds have one of their own."""
    return {image.row.id: [each.what for each in image.drift if each.what != "build"] for image in found.images}


def test_every_change_by_hand_is_found_and_repaired_without_a_build(
    cloud: client.Cloud, make_build: MakeBuild, tmp_path: Path
) -> None:
    variant = make_variant(visibility="shared", members=("a" * 32,), tags=("gpu",), properties={"mycompany.x": "1"})
    image = release(cloud, variant, make_build(variant))
    before = cloud.image(image.id)
    assert drifts(asked(cloud, variant, tmp_path / "builds")) == {image.id: []}
    cloud.remove_member(image.id, "a" * 32)
    cloud.add_member(image.id, "b" * 32)
    changed = {"name": "other", "tags": ("x",), "min_ram": 1, "hw_disk_bus": "ide", "hw_machine_type": "pc"}
    cloud.update(image.id, remove=["mycompany.x"], **changed)
    assert set(drifts(asked(cloud, variant, tmp_path / "builds"))[image.id]) == {
        *("name", "tags", "min_ram", "property hw_disk_bus", "property hw_machine_type", "property mycompany.x"),
        *(f"member {'a' * 32}", f"member {'b' * 32}"),
    }
    assert drifts(asked(cloud, variant, tmp_path / "builds", fix=True)) == {image.id: []}
    assert cloud.image(image.id) == before
    assert set(cloud.members(image.id)) == {"a" * 32}


@pytest.mark.slow
def test_an_image_that_was_made_private_is_shared_with_its_members_again(
    cloud: client.Cloud, make_build: MakeBuild, tmp_path: Path
) -> None:
    variant = make_variant(visibility="shared", members=("c" * 32,))
    image = release(cloud, variant, make_build(variant))
    cloud.update(image.id, visibility="private")
    assert drifts(asked(cloud, variant, tmp_path / "builds")) == {image.id: ["visibility"]}
    assert drifts(asked(cloud, variant, tmp_path / "builds", fix=True)) == {image.id: []}
    assert set(cloud.members(image.id)) == {"c" * 32}


@pytest.mark.slow
def test_repairing_again_changes_nothing(
    proxy: Proxy, behind: client.Cloud, variant: Variant, make_build: MakeBuild, tmp_path: Path
) -> None:
    image = release(behind, variant, make_build(variant))
    behind.update(image.id, visibility="community")
    proxy.reset()
    asked(behind, variant, tmp_path / "builds", fix=True)
    assert len(proxy.changes()) == 1
    proxy.reset()
    asked(behind, variant, tmp_path / "builds", fix=True)
    assert proxy.changes() == []


@pytest.mark.slow
def test_a_current_image_that_was_hidden_by_hand_is_made_visible_again(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild, tmp_path: Path
) -> None:
    old, new = (release(cloud, variant, make_build(variant)) for _ in range(2))
    cloud.update(new.id, os_hidden=True)
    found = drifts(asked(cloud, variant, tmp_path / "builds"))
    assert "current image" in found[new.id]
    assert drifts(asked(cloud, variant, tmp_path / "builds", fix=True)) == {old.id: [], new.id: []}
    assert [image.id for image in cloud_images.current(cloud, variant.name)] == [new.id]


@pytest.mark.slow
def test_of_several_visible_images_the_newest_stays(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild, tmp_path: Path
) -> None:
    old, new = (release(cloud, variant, make_build(variant)) for _ in range(2))
    cloud.update(old.id, os_hidden=False)
    assert drifts(asked(cloud, variant, tmp_path / "builds"))[new.id] == ["visible images"]
    assert drifts(asked(cloud, variant, tmp_path / "builds", fix=True)) == {old.id: [], new.id: []}
    assert [image.id for image in cloud_images.current(cloud, variant.name)] == [new.id]


def test_an_image_of_the_same_name_is_reported_where_users_find_it_and_never_repaired(
    cloud: client.Cloud, member: client.Cloud, variant: Variant, make_build: MakeBuild, tmp_path: Path
) -> None:
    image = release(cloud, variant, make_build(variant))
    content = make_build(variant).image().read_bytes()
    copies = [copied(where, image, content) for where in (cloud, member)]
    found = asked(cloud, variant, tmp_path / "builds", fix=True)
    # The other project's is private, and only an administrator sees it.
    assert drifts(found) == {image.id: ["image of the same name"], copies[0].id: [], copies[1].id: []}
    assert [cloud.image(copy.id) for copy in copies] == copies


def copied(cloud: client.Cloud, image: client.Image, content: bytes) -> client.Image:
    """A copy of an image with all its properties, and visible."""
    copy = str(uuid.uuid4())
    cloud.create(
        copy, name=image.name, disk_format="qcow2", min_disk=1, min_ram=1, tags=(), properties=image.properties
    )
    cloud.put_data(copy, lambda: iter([content]), len(content))
    return cloud.update(copy, os_hidden=False, min_ram=7)


@pytest.mark.slow
def test_the_fix_of_one_variant_that_is_refused_stops_no_other_and_is_an_error(
    proxy: Proxy, behind: client.Cloud, make_build: MakeBuild, tmp_path: Path
) -> None:
    first, second = make_variant(), make_variant()
    images = [release(behind, variant, make_build(variant)) for variant in (first, second)]
    for image in images:
        behind.update(image.id, min_ram=1)
    proxy.on("PATCH", images[0].id, answer(403))
    found = status.survey(site([first, second], tmp_path / "builds", behind), [first, second], NOW, fix=True)
    assert [drifts(found[0])[image.id] for image in images] == [["min_ram"], []]
    with pytest.raises(SeveralFailed) as failure:
        status.require_all(found)
    assert failure.value.exit_code == 5


@pytest.mark.slow
def test_a_cloud_that_fails_stops_no_other_and_is_an_error(
    proxy: Proxy, behind: client.Cloud, cloud: client.Cloud, variant: Variant, make_build: MakeBuild
) -> None:
    build = make_build(variant)
    image = release(cloud, variant, build)
    proxy.on("GET", "/v2/images", answer(403), always=True)
    found = status.survey(site([variant], build.folder.parent.parent, behind, cloud), [variant], NOW)
    assert [list(drifts(each)) for each in found] == [[], [image.id]]
    with pytest.raises(SeveralFailed) as failure:
        status.require_all(found)
    assert failure.value.exit_code == 5


def test_the_json_has_every_image_of_ours_with_its_drift(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = release(cloud, variant, make_build(variant))
    cloud.update(image.id, min_ram=1)
    found = asked(cloud, variant, tmp_path / "builds")
    capsys.readouterr()
    tables.status([found], as_json=True)
    [row] = json.loads(capsys.readouterr().out)
    assert (row["id"], row["state"], row["cloud"]) == (image.id, "current", "local")
    wanted = {"what": "min_ram", "wanted": "512", "found": "1", "repairable": True, "asked_for": False}
    assert wanted in row["drift"]
    assert found.needs_attention


def in_json(found: Sequence[Survey], capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    tables.status(found, as_json=True)
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


def test_the_json_has_images_in_conflict_with_ours_and_no_other_foreign_one(
    *,
    cloud: client.Cloud,
    member: client.Cloud,
    variant: Variant,
    make_build: MakeBuild,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    build = make_build(variant)
    ours = publish.release(cloud, variant, build, verified(build), NOW, promotes=False).image_id
    theirs = copied(member, cloud.image(ours), build.image().read_bytes())
    member.update(theirs.id, name=variant.name)
    found = asked(cloud, variant, tmp_path / "builds")
    assert [row["id"] for row in in_json([found], capsys)] == [ours]
    cloud.update(theirs.id, visibility="public")
    cloud.delete(ours)
    found = asked(cloud, variant, tmp_path / "builds")
    theirs_in_json, absent = in_json([found], capsys)
    assert (theirs_in_json["id"], theirs_in_json["state"]) == (theirs.id, "foreign")
    assert [each["what"] for each in theirs_in_json["drift"]] == ["somebody else's image"]
    assert (absent["variant"], absent["state"]) == (variant.name, "absent")


def test_the_json_has_a_cloud_that_failed_and_a_variant_that_is_absent(
    *,
    proxy: Proxy,
    behind: client.Cloud,
    cloud: client.Cloud,
    variant: Variant,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    proxy.on("GET", "/v2/images", answer(403), always=True)
    found = status.survey(site([variant], tmp_path / "builds", behind, cloud), [variant], NOW)
    failed, absent = in_json(found, capsys)
    assert (failed["cloud"], set(failed)) == ("local", {"cloud", "error", "remedy"})
    assert "list images" in failed["error"]
    assert absent == {"cloud": "local", "variant": variant.name, "state": "absent", "drift": []}


def test_a_format_or_a_store_that_is_configured_differently_by_now_is_drift(
    cloud: client.Cloud, variant: Variant, make_build: MakeBuild, tmp_path: Path
) -> None:
    image = release(cloud, variant, make_build(variant))
    plain = site([variant], tmp_path / "builds", cloud)
    for settings, wrong in (
        (CloudSettings(), []),
        (CloudSettings(stores=("main",)), []),
        (CloudSettings(stores=("second",), disk_format="raw"), ["disk_format", "stores"]),
        (CloudSettings(stores=("all",)), ["stores"]),
    ):
        wanted = dataclasses.replace(plain, catalog=dataclasses.replace(plain.catalog, clouds={"local": settings}))
        [found] = status.survey(wanted, [variant], NOW)
        assert drifts(found) == {image.id: wrong}


def test_a_variant_that_was_never_released_is_absent_and_no_drift(
    cloud: client.Cloud, variant: Variant, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = asked(cloud, variant, tmp_path / "builds")
    assert (found.absent, found.images, found.needs_attention) == ((variant.name,), (), False)
    tables.status([found], as_json=False)
    assert variant.name in capsys.readouterr().err


def test_without_a_cloud_nothing_is_asked(variant: Variant, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        status.survey(site([variant], tmp_path), [variant], NOW)


def test_the_command_repairs_and_writes_a_page(
    local_cloud: TestCloud, cloud: client.Cloud, variant: Variant, make_build: MakeBuild, tmp_path: Path
) -> None:
    image = release(cloud, variant, make_build(variant))
    cloud.update(image.id, min_ram=1)
    images, page = tmp_path / "images.yaml", tmp_path / "status.html"
    about = "{base: {distribution: debian, release: trixie}, disk: {size: 2GiB}, glance: {min_ram: 512}}"
    images.write_text(f"version: 1\nimages:\n  {variant.name}: {about}\n")
    options = ("--cloud", "local", "--catalog", images, "--builds", tmp_path / "builds", "--json", "--html", page)
    result = inv("status", *options, "--fix", "--check", OS_CLIENT_CONFIG_FILE=str(local_cloud.root / "clouds.yaml"))
    assert result.returncode == 7, result.stderr  # the test's build has a fingerprint of its own
    [row] = json.loads(result.stdout)
    assert [each["what"] for each in row["drift"]] == ["build"]
    assert "repaired: min_ram: 1, not 512" in result.stderr
    assert image.id in page.read_text()
    assert "1 build on record" in page.read_text()


def test_the_command_needs_a_cloud() -> None:
    result = inv("status")
    assert (result.returncode, "--cloud" in result.stderr) == (1, True)
