"""Whatever goes wrong between us and the cloud, once: users keep a good image, and running again ends with the new one.

Through a proxy before a real Glance; what the proxy cannot do is done to the cloud itself.
"""

import itertools
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from pipelines.artifacts.store import Build
from pipelines.glance import client
from pipelines.release import cloud_images, image_metadata, publish
from pipelines.util.errors import PipelineError
from tests.support.cloud_fixtures import NOW, make_variant, verified
from tests.support.fakes.proxy import Proxy, Request, answer, cut_after

MakeBuild = Callable[..., Build]
Fault = Callable[[Proxy, int], None]
_FILE, _RECORD = "/file$", "/v2/images"


def cut(percent: int) -> Fault:
    return lambda proxy, size: proxy.on("PUT", _FILE, cut_after(size * percent // 100))


def refused(method: str, path: str, status: int) -> Fault:
    return lambda proxy, _: proxy.on(method, path, answer(status))


def lost(method: str, path: str) -> Fault:
    """It is done, and the answer is lost."""
    return lambda proxy, _: proxy.on(method, path, lambda request: setattr(request, "drop_answer", True))


def slow(method: str, path: str) -> Fault:
    return lambda proxy, _: proxy.on(method, path, lambda _: time.sleep(1.0))


def corrupted(proxy: Proxy, _: int) -> None:
    """All bytes arrive, and some of them are others."""

    def fault(request: Request) -> None:
        request.corrupt = True

    proxy.on("PUT", _FILE, fault)


FAULTS: dict[str, Fault] = {
    **{f"cut at {percent} %": cut(percent) for percent in (0, 50, 99)},
    **{f"{status} at the record": refused("POST", _RECORD, status) for status in (401, 403, 409, 413, 429, 500, 503)},
    **{f"{status} at the data": refused("PUT", _FILE, status) for status in (401, 403, 409, 410, 413, 429, 500, 503)},
    **{f"{status} at the promotion": refused("PATCH", _RECORD, status) for status in (401, 403, 409, 429, 500, 503)},
    **{f"{status} at a look": refused("GET", _RECORD, status) for status in (401, 403, 429, 500, 503)},
    "the record's answer is lost": lost("POST", _RECORD),
    "the data's answer is lost": lost("PUT", _FILE),
    "the promotion's answer is lost": lost("PATCH", _RECORD),
    "a slow record": slow("POST", _RECORD),
    "slow data": slow("PUT", _FILE),
    "other bytes arrive": corrupted,
}


def visible(cloud: client.Cloud, name: str) -> list[str]:
    found = cloud.images(owner=cloud.project_id, hidden=False, properties={"name": name})
    return [image.properties[image_metadata.BUILD_ID] for image in found if image.status == "active"]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_users_keep_a_good_image_and_the_next_run_ends_with_the_new_one(
    *, cloud: client.Cloud, proxy: Proxy, proxied: Path, make_build: MakeBuild, fault: Fault
) -> None:
    variant = make_variant()
    old, new = make_build(variant), make_build(variant)
    publish.release(cloud, variant, old, verified(old), NOW)
    seen: list[list[str]] = []
    proxy.after_change = lambda: seen.append(visible(cloud, variant.name))
    fault(proxy, new.manifest().artifact.size)
    behind = client.connect("local", file=proxied)
    remedies = []
    for _ in range(3):
        try:
            publish.release(behind, variant, new, verified(new), NOW)
            break
        except PipelineError as error:
            remedies.append(error.remedy)
    assert all(remedies)
    assert visible(cloud, variant.name) == [new.build_id]
    assert all(seen), "there was a moment without a good image"
    states = sorted(image.state for image in cloud_images.inventory(cloud) if image.variant == variant.name)
    assert states == ["current", "retired"]


@pytest.mark.slow
def test_a_predecessor_deleted_by_hand_is_no_obstacle(cloud: client.Cloud, make_build: MakeBuild) -> None:
    variant = make_variant()
    old, new = make_build(variant), make_build(variant)
    cloud.delete(publish.release(cloud, variant, old, verified(old), NOW).image_id)
    assert publish.release(cloud, variant, new, verified(new), NOW).did == "promoted"
    assert visible(cloud, variant.name) == [new.build_id]


@pytest.mark.slow
def test_an_image_that_is_deleted_during_its_upload_is_an_error_and_comes_with_the_next_run(
    *, cloud: client.Cloud, proxy: Proxy, proxied: Path, make_build: MakeBuild
) -> None:
    variant = make_variant()
    build = make_build(variant)

    def deleted(request: Request) -> None:
        cloud.delete(request.path.split("/")[-2])

    proxy.on("PUT", _FILE, deleted)
    with pytest.raises(PipelineError):
        publish.release(client.connect("local", file=proxied), variant, build, verified(build), NOW)
    publish.release(cloud, variant, build, verified(build), NOW)
    assert visible(cloud, variant.name) == [build.build_id]


def test_images_of_the_same_name_that_are_not_ours_stay_as_they_are(cloud: client.Cloud, make_build: MakeBuild) -> None:
    variant = make_variant()
    build = make_build(variant)
    theirs = [
        cloud.create(
            f"00000000-0000-4000-8000-{next(_ids):012d}",
            name=variant.name,
            disk_format="qcow2",
            min_disk=1,
            min_ram=0,
            tags=("theirs",),
            properties={},
        )
        for _ in range(2)
    ]
    publish.release(cloud, variant, build, verified(build), NOW)
    assert [cloud.image(image.id) for image in theirs] == theirs


@pytest.mark.parametrize("skew", [timedelta(days=-400), timedelta(days=400)])
def test_a_clock_that_is_wrong_neither_hides_nor_deletes_a_good_image(
    cloud: client.Cloud, make_build: MakeBuild, skew: timedelta
) -> None:
    variant = make_variant()
    old, new = make_build(variant), make_build(variant)
    publish.release(cloud, variant, old, verified(old), NOW + skew)
    publish.release(cloud, variant, new, verified(new), NOW)
    assert visible(cloud, variant.name) == [new.build_id]
    assert len(cloud_images.ours(cloud, variant.name)) == 2


_ids = itertools.count(1)
