"""A refresh brings images and clouds to what is wanted, wherever an earlier one was interrupted.

Real imports and verifications of small images, a real Glance; processes are killed for real.
"""

import itertools
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from pipelines.artifacts import records, store
from pipelines.catalog.loader import Catalog, load
from pipelines.glance import client
from pipelines.plan import model
from pipelines.release import cloud_images, image_metadata, publish, restore
from pipelines.reports import refresh_summary
from pipelines.util.errors import CloudError, HostError
from pipelines.util.failures import SeveralFailed
from pipelines.workflows import refresh, refresh_run
from pipelines.workflows import site as workflows_site
from pipelines.workflows.refresh_run import Refresh
from pipelines.workflows.site import Site
from tests.support.cloud_fixtures import TestCloud
from tests.support.command_line import inv
from tests.support.fakes.proxy import Proxy, answer
from tests.support.paths import PROJECT
from tests.support.ready_image import converted, gpt_disk, variant

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
_numbers = itertools.count(1)


@pytest.fixture
def name() -> str:
    """A name of an image that is in no cloud."""
    return f"refreshed-{next(_numbers)}"


@pytest.fixture
def images(tmp_path: Path, name: str) -> Path:
    return catalog_of(tmp_path, name)


def catalog_of(folder: Path, *names: str, tag: str = "gpu", more: str = "") -> Path:
    """images.yaml with images that are imported, verified and released for real, in a second."""
    image = folder / "windows.qcow2"
    if not image.exists():
        image = converted(gpt_disk(folder / "windows.raw"), "qcow2")
    made = variant(image)
    assert made.source is not None
    entries = "".join(
        f"  {each}:\n    kind: import\n    source: {{path: {image}, sha256: {made.source.sha256}}}\n"
        "    guest: {type: windows, distribution: windows, version: '11'}\n    disk: {size: 512MiB}\n"
        f"    keep: 1\n    prune_after: 1d\n    rebuild_age: 7d\n    glance: {{tags: [{tag}]}}\n"
        for each in names
    )
    path = folder / "images.yaml"
    path.write_text(f"version: 1\nrecords: {folder / 'records'}\n{more}images:\n{entries}")
    return path


def run_of(images: Path, *clouds: client.Cloud, now: datetime = NOW, builds: str = "builds") -> Refresh:
    catalog: Catalog = load(images)
    root = images.parent / builds
    return Refresh(
        site=Site(catalog=catalog, root=root, records=records.open(catalog.records, root), clouds=clouds),
        now=lambda: now,
    )


def refreshed(run: Refresh) -> list[tuple[str, str | None]]:
    """What a refresh of all images did: verbs and clouds."""
    refresh.refresh(run, run.site.catalog.select(None))
    return [(step.verb, step.cloud) for step in run.steps]


def rows_of(run: Refresh) -> list[refresh_summary.Row]:
    return refresh_summary.rows(run, run.site.catalog.select(None))


def current(cloud: client.Cloud, name: str) -> list[str]:
    found = cloud.images(owner=cloud.project_id, hidden=False, properties={"name": name})
    return [image.properties[image_metadata.BUILD_ID] for image in found if image.status == "active"]


def states(cloud: client.Cloud, name: str) -> list[str]:
    return [image.state for image in cloud_images.inventory(cloud) if image.variant == name]


def test_the_first_refresh_builds_and_releases_and_the_second_finds_nothing_to_do(
    cloud: client.Cloud, images: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refreshed(run_of(images, cloud)) == [("build", None), ("upload", "local")]
    assert len(current(cloud, name)) == 1
    assert refreshed(run_of(images, cloud)) == []
    assert f"{name}: nothing to do" in capsys.readouterr().out


@pytest.mark.slow
def test_an_old_image_is_replaced_and_the_one_before_goes_after_a_while(
    cloud: client.Cloud, images: Path, name: str
) -> None:
    refreshed(run_of(images, cloud))
    assert refreshed(run_of(images, cloud, now=NOW + timedelta(days=7))) == [("build", None), ("upload", "local")]
    assert states(cloud, name) == ["retired", "current"]
    assert refreshed(run_of(images, cloud, now=NOW + timedelta(days=8))) == [("prune", "local")]
    assert states(cloud, name) == ["current"]


def test_release_data_is_updated_without_a_build(cloud: client.Cloud, images: Path, name: str) -> None:
    refreshed(run_of(images, cloud))
    catalog_of(images.parent, name, tag="windows")
    assert refreshed(run_of(images, cloud)) == [("update", "local")]
    (image,) = cloud_images.current(cloud, name)
    assert image.tags == ("windows",)


def test_several_clouds_get_the_same_build(cloud: client.Cloud, member: client.Cloud, images: Path, name: str) -> None:
    run = run_of(images, cloud, member)
    assert sorted(map(str, refreshed(run))) == sorted(
        map(str, [("build", None), ("upload", "local"), ("upload", "local-member")])
    )
    assert current(cloud, name) == current(member, name)


@pytest.mark.slow
def test_one_cloud_that_fails_stops_neither_the_other_nor_the_other_images(
    *, member: client.Cloud, proxy: Proxy, proxied: Path, tmp_path: Path, name: str
) -> None:
    images = catalog_of(tmp_path, name, f"{name}-b")
    proxy.on("POST", "/v2/images", answer(413), always=True)
    run = run_of(images, client.connect("local", file=proxied), member)
    with pytest.raises(SeveralFailed) as caught:
        refresh.refresh(run, run.site.catalog.select(None))
    assert caught.value.exit_code == CloudError.exit_code
    assert len(current(member, name)) == len(current(member, f"{name}-b")) == 1
    failed = [(step.variant, step.cloud) for step in run.steps if step.error]
    assert failed == [(name, "local"), (f"{name}-b", "local")]


@pytest.mark.slow
def test_a_cloud_that_cannot_be_reached_is_an_error_and_the_others_are_served(
    local_cloud: TestCloud, cloud: client.Cloud, images: Path, name: str, tmp_path: Path
) -> None:
    clouds = yaml.safe_load((local_cloud.root / "clouds.yaml").read_text())
    gone = {"auth_url": "http://127.0.0.1:9/v3", "username": "a", "password": "b", "project_name": "c"}
    clouds["clouds"]["gone"] = {"auth": gone | {"user_domain_id": "default", "project_domain_id": "default"}}
    (tmp_path / "clouds.yaml").write_text(yaml.safe_dump(clouds))
    result = inv(
        *("refresh", "--no-boot", "--cloud", "gone", "--cloud", "local", "--catalog", images),
        *("--builds", tmp_path / "builds", "--summary", tmp_path / "summary.md"),
        OS_CLIENT_CONFIG_FILE=str(tmp_path / "clouds.yaml"),
    )
    assert result.returncode == CloudError.exit_code
    assert "1 of 2 failed: cloud gone" in result.stderr
    assert len(current(cloud, name)) == 1
    assert "gone" in (tmp_path / "summary.md").read_text()


def test_a_cloud_that_cannot_be_listed_is_an_error_of_its_own_and_the_others_are_served(
    *, member: client.Cloud, proxy: Proxy, proxied: Path, images: Path, name: str
) -> None:
    proxy.on("GET", "/v2/images", answer(503), always=True)
    run = run_of(images, client.connect("local", file=proxied), member)
    with pytest.raises(CloudError, match="cannot"):
        workflows_site.planned(run.site, run.site.catalog.select(None), NOW)
    with pytest.raises(SeveralFailed, match=r"1 of 2 failed: local$") as caught:
        refreshed(run)
    assert caught.value.exit_code == CloudError.exit_code
    assert len(current(member, name)) == 1
    actions = {row.cloud: row.action for row in rows_of(run)}
    assert actions == {"": "built", "local-member": "released", "local": "failed"}


@pytest.mark.slow
def test_a_cloud_that_cannot_be_listed_is_not_asked_for_what_another_one_needs(
    *, cloud: client.Cloud, member: client.Cloud, proxy: Proxy, proxied: Path, images: Path, name: str
) -> None:
    refreshed(run_of(images, member))
    proxy.on("GET", "/v2/images", answer(503), always=True)
    silent = client.connect("local", file=proxied)
    third = replace(cloud, session=replace(cloud.session, cloud="third"))
    with pytest.raises(SeveralFailed, match=r"1 of 2 failed: local$"):
        refreshed(run_of(images, silent, member, third, builds="fresh"))
    assert current(third, name) == current(member, name)


def test_a_build_that_another_cloud_has_is_downloaded_on_a_fresh_host_and_not_built_again(
    cloud: client.Cloud, member: client.Cloud, images: Path, name: str
) -> None:
    refreshed(run_of(images, cloud))
    fresh = run_of(images, cloud, member, builds="fresh")
    assert refreshed(fresh) == [("upload", "local-member")]
    assert current(member, name) == current(cloud, name)
    (build,) = store.builds(images.parent / "fresh", name)
    assert build.state == store.COMPLETE


def test_retention_deletes_images_on_this_host_too_and_a_cloud_that_needs_one_brings_it_back(
    cloud: client.Cloud, member: client.Cloud, images: Path, name: str
) -> None:
    refreshed(run_of(images, cloud))
    week = NOW + timedelta(days=7)
    refreshed(run_of(images, cloud, now=week))
    old, new = store.builds(images.parent / "builds", name)
    assert [build.image().is_file() for build in (old, new)] == [False, True]
    assert old.manifest().build_id == old.build_id
    new.image().unlink()
    assert refreshed(run_of(images, cloud, member, now=week)) == [("upload", "local-member")]
    assert new.image().is_file()


def test_a_build_whose_image_is_incomplete_is_downloaded_again(
    cloud: client.Cloud, member: client.Cloud, images: Path, name: str
) -> None:
    refreshed(run_of(images, cloud))
    (build,) = store.builds(images.parent / "builds", name)
    whole = build.image().read_bytes()
    build.image().write_bytes(whole[:1000])
    refreshed(run_of(images, cloud, member))
    assert current(member, name) == current(cloud, name)
    assert build.image().read_bytes() == whole


def test_a_promotion_interrupted_with_two_current_images_is_finished(
    cloud: client.Cloud, images: Path, name: str
) -> None:
    refreshed(run_of(images, cloud))
    week = NOW + timedelta(days=7)
    refreshed(run_of(images, cloud, now=week))
    old, new = cloud_images.ours(cloud, name)
    cloud.update(old.id, name=name, os_hidden=False)
    assert refreshed(run_of(images, cloud, now=week)) == [("promote", "local")]
    assert current(cloud, name) == [new.properties[image_metadata.BUILD_ID]]


@pytest.mark.slow
def test_a_download_that_does_not_match_its_record_is_refused(
    cloud: client.Cloud, images: Path, name: str, tmp_path: Path
) -> None:
    run = run_of(images, cloud)
    refreshed(run)
    (record,) = run.site.records.known(name)
    (image,) = cloud_images.current(cloud, name)
    artifact = replace(record.manifest.artifact, sha256="0" * 64)
    other = replace(record, manifest=replace(record.manifest, artifacts=(artifact,)))
    with pytest.raises(CloudError, match="is not"):
        restore.retrieve(cloud, image, other, tmp_path / "elsewhere")
    assert store.builds(tmp_path / "elsewhere", name) == []


def test_a_missing_record_is_reported_and_age_alone_decides(
    cloud: client.Cloud, images: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(images, cloud)
    refreshed(run)
    for path in sorted((images.parent / "records").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    capsys.readouterr()
    assert refreshed(run_of(images, cloud, builds="fresh")) == []
    reported = " ".join(capsys.readouterr().err.split())
    (build_id,) = current(cloud, name)
    assert f"{name} {build_id}, current in local, has no build record" in reported
    assert "only rebuild_age decides" in reported


@pytest.mark.slow
def test_after_a_rollback_nothing_is_built_until_something_changes(
    cloud: client.Cloud, images: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refreshed(run_of(images, cloud))
    refreshed(run_of(images, cloud, now=NOW + timedelta(days=7)))
    before, bad = sorted(build.build_id for build in store.builds(images.parent / "builds", name))
    publish.rollback(cloud, run_of(images, cloud).site.catalog.variants[name], None, lambda _: None, NOW)
    assert refreshed(run_of(images, cloud, now=NOW + timedelta(days=7, hours=1))) == []
    assert current(cloud, name) == [before]
    assert f"would only repeat {bad}, which was rolled back" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_a_cloud_without_any_image_is_an_error_while_a_rollback_holds_builds_back(
    cloud: client.Cloud, member: client.Cloud, images: Path, name: str
) -> None:
    refreshed(run_of(images, cloud))
    week = NOW + timedelta(days=7)
    refreshed(run_of(images, cloud, now=week))
    bad = store.builds(images.parent / "builds", name)[-1].build_id
    publish.rollback(cloud, run_of(images).site.catalog.variants[name], None, lambda _: None, week)
    (before,) = cloud_images.current(cloud, name)
    cloud.delete(before.id)
    run = run_of(images, cloud, member, now=week)
    with pytest.raises(SeveralFailed, match="2 of 2 failed"):
        refreshed(run)
    errors = {row.cloud: row.error for row in rows_of(run)}
    assert f"local has no current image of {name}, and a new build would only repeat {bad}" in errors["local"]
    assert f"./inv promote --cloud local --only {name} --build {bad}`" in errors["local"]
    assert f"./inv upload --cloud local-member --only {name} --build {bad}`" in errors["local-member"]


def test_a_build_older_than_the_current_image_is_not_released_and_the_error_names_the_reason(
    cloud: client.Cloud, images: Path, name: str
) -> None:
    refreshed(run_of(images, cloud))
    images.write_text(images.read_text().replace("512MiB", "1GiB"))
    clock_behind = run_of(images, cloud, now=NOW - timedelta(hours=1))
    with pytest.raises(CloudError, match=f"{name} was built, and would have to be built again") as caught:
        refreshed(clock_behind)
    assert "is current in local" in caught.value.what
    assert "same command again" in caught.value.remedy


def test_another_place_for_records_gets_them_with_the_next_refresh(
    cloud: client.Cloud, images: Path, name: str
) -> None:
    refreshed(run_of(images, cloud))
    images.write_text(images.read_text().replace(f"{images.parent}/records", f"{images.parent}/elsewhere"))
    moved = run_of(images, cloud)
    assert refreshed(moved) == []
    assert [record.manifest.build_id for record in moved.site.records.known(name)] == current(cloud, name)


@pytest.mark.slow
def test_two_schedulers_at_once_end_with_one_image(
    cloud: client.Cloud, local_cloud: TestCloud, images: Path, name: str
) -> None:
    argv = [sys.executable, "-m", "invoke", "--search-root", str(PROJECT), "refresh", "--no-boot", "--cloud", "local"]
    clouds = os.environ | {"OS_CLIENT_CONFIG_FILE": str(local_cloud.root / "clouds.yaml")}
    both = [
        subprocess.Popen([*argv, "--catalog", str(images), "--builds", str(images.parent / folder)], env=clouds)
        for folder in ("one", "two")
    ]
    assert [process.wait(120) for process in both] == [0, 0]
    assert len(current(cloud, name)) == 1
    assert "broken" not in states(cloud, name)


@pytest.mark.slow
def test_killed_after_any_change_in_the_cloud_the_next_run_finishes_and_repeats_nothing(
    *, cloud: client.Cloud, proxy: Proxy, proxied: Path, images: Path, name: str
) -> None:
    """A release that replaces another: create, fill, update, show, hide; killed after each, and then run again."""
    argv = [sys.executable, "-m", "invoke", "--search-root", str(PROJECT), "refresh", "--no-boot", "--cloud", "local"]
    argv += ["--catalog", str(images), "--builds", str(images.parent / "builds")]
    environment = os.environ | {"OS_CLIENT_CONFIG_FILE": str(proxied)}
    for number in itertools.count(1):
        each = f"{name}-{number}"
        catalog_of(images.parent, each)
        refreshed(run_of(images, cloud, now=datetime.now(UTC) - timedelta(days=8)))
        seen = []
        proxy.reset()
        running = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def kill(number: int = number, each: str = each, running: "subprocess.Popen[bytes]" = running) -> None:
            seen.append(current(cloud, each))  # noqa: B023  # this turn's: nothing calls it later
            if len(proxy.changes()) == number:
                running.send_signal(signal.SIGKILL)
                running.wait()

        proxy.after_change = kill
        whole = running.wait(120) == 0
        proxy.reset()
        assert subprocess.run(argv, env=environment, check=False).returncode == 0
        assert all(seen), "there was a moment without a good image"
        assert len(current(cloud, each)) == 1, f"after change {number}"
        assert states(cloud, each) == ["retired", "current"]
        proxy.reset()
        assert subprocess.run(argv, env=environment, check=False).returncode == 0
        assert proxy.changes() == []
        if whole:
            break
    assert number > 4


@pytest.mark.slow
def test_the_summary_lists_what_was_done_and_what_is_new(cloud: client.Cloud, images: Path, name: str) -> None:
    run = run_of(images, cloud)
    refreshed(run)
    (image,) = cloud_images.current(cloud, name)
    rows = refresh_summary.rows(run, run.site.catalog.select(None))
    assert [(row.cloud, row.action) for row in rows] == [("", "built"), ("local", "released")]
    assert rows[1].image_id == image.id
    assert image.id in refresh_summary.markdown(rows)
    again = run_of(images, cloud)
    refreshed(again)
    assert [row.action for row in refresh_summary.rows(again, again.site.catalog.select(None))] == ["nothing to do"]


def test_the_summary_has_what_failed_before_anything_was_done(images: Path) -> None:
    run = run_of(images)
    (images.parent / "records").write_text("no folder")
    with pytest.raises(HostError):
        refreshed(run)
    (row,) = rows_of(run)
    assert row.action == "failed"
    assert "the records in" in row.error
    assert "\nremedy: Give this user access to the folder" in row.error


def test_the_summary_omits_what_is_new_when_the_records_cannot_be_read(images: Path) -> None:
    run = run_of(images)
    refreshed(run)
    shutil.rmtree(images.parent / "records")
    (images.parent / "records").write_text("no folder")
    assert [(row.action, row.packages) for row in rows_of(run)] == [("built", ())]


def test_the_summary_lists_images_that_were_not_reached(images: Path) -> None:
    assert [row.action for row in rows_of(run_of(images))] == ["not reached"]


def test_a_step_that_is_interrupted_is_no_success(images: Path, name: str) -> None:
    def now() -> datetime:
        if (images.parent / "builds" / name).exists():
            raise KeyboardInterrupt
        return NOW

    run = replace(run_of(images), now=now)
    with pytest.raises(KeyboardInterrupt):
        refreshed(run)
    assert [(row.action, row.error) for row in rows_of(run)] == [("failed", "KeyboardInterrupt")]


@pytest.mark.parametrize(("deleted", "action"), [("", "nothing pruned"), ("6f1d2c6e", "pruned")])
def test_a_prune_that_deleted_nothing_is_not_called_one(images: Path, name: str, deleted: str, action: str) -> None:
    run = run_of(images)
    verb: model.Verb = "prune"
    run.steps.append(
        refresh_run.Step(
            verb=verb,
            variant=name,
            cloud="local",
            reason="retention (keep: 1)",
            image_id=deleted,
        )
    )
    assert [row.action for row in rows_of(run)] == [action]


@pytest.mark.slow
def test_the_summary_of_an_interrupted_run_names_the_image_it_was_working_on(
    proxy: Proxy, proxied: Path, tmp_path: Path, name: str
) -> None:
    argv = [sys.executable, "-m", "invoke", "--search-root", str(PROJECT), "refresh", "--no-boot", "--cloud", "local"]
    argv += ["--catalog", str(catalog_of(tmp_path, name, f"{name}-b")), "--builds", str(tmp_path / "builds")]
    argv += ["--summary", str(tmp_path / "summary.md")]
    running = subprocess.Popen(argv, env=os.environ | {"OS_CLIENT_CONFIG_FILE": str(proxied)})
    proxy.after_change = running.terminate
    assert running.wait(120) == 128 + signal.SIGTERM
    lines = (tmp_path / "summary.md").read_text().splitlines()
    assert lines[0] == f"## GPU images: 2 images, 1 failed ({name}), 1 not reached"
    assert any(line.startswith(f"| {name}-b | – | not reached") for line in lines)
    assert "interrupted" in lines
