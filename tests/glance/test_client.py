"""Speaking to a real Glance, also when it, the network or the token goes wrong."""

import hashlib
import io
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.glance import client
from pipelines.glance import cloud as glance_cloud
from pipelines.keystone.errors import ServiceError
from pipelines.util.errors import CloudError
from tests.support.cloud_fixtures import QUOTA_MIB, TestCloud, revoke
from tests.support.fakes.proxy import Fault, Proxy, Request, answer, cut_after, redirect

DATA = os.urandom(300_000)


def record(cloud: client.Cloud, **changes: object) -> client.Image:
    """An image without data."""
    values: dict[str, object] = {"name": "an image", "min_disk": 1, "min_ram": 64, "tags": ["gpu"], "properties": {}}
    return cloud.create(str(uuid.uuid4()), disk_format="raw", **{**values, **changes})  # type: ignore[arg-type]


def pieces(data: bytes = DATA) -> Iterator[bytes]:
    """An image's data, as an upload reads it."""
    for start in range(0, len(data), 65536):
        yield data[start : start + 65536]


def test_a_new_image_is_hidden_and_private_and_has_what_was_asked_for(cloud: client.Cloud) -> None:
    image = record(cloud, properties={"hw_disk_bus": "scsi", "trait:CUSTOM_GPU": "required"})
    assert (image.status, image.visibility, image.hidden) == ("queued", "private", True)
    assert (image.owner, image.min_disk, image.min_ram, image.tags) == (cloud.project_id, 1, 64, ("gpu",))
    assert image.properties == {"hw_disk_bus": "scsi", "trait:CUSTOM_GPU": "required"}


def test_what_was_uploaded_comes_back(cloud: client.Cloud) -> None:
    image = record(cloud)
    cloud.put_data(image.id, pieces, len(DATA))
    sink = io.BytesIO()
    downloaded = cloud.download(image.id, sink)
    assert sink.getvalue() == DATA
    assert (downloaded.hash_algorithm, downloaded.hash_value) == ("sha512", hashlib.sha512(DATA).hexdigest())


def test_a_download_that_breaks_off_is_an_error(cloud: client.Cloud, proxy: Proxy, proxied: Path) -> None:
    image = record(cloud)
    cloud.put_data(image.id, pieces, len(DATA))
    proxy.on("GET", "/file", lambda request: setattr(request, "drop_answer", True), always=True)
    with pytest.raises(CloudError, match="download"):
        client.connect("local", file=proxied).download(image.id, io.BytesIO())


def test_an_image_without_data_is_not_downloaded(cloud: client.Cloud) -> None:
    with pytest.raises(ServiceError, match="no data"):
        cloud.download(record(cloud).id, io.BytesIO())


def test_an_image_is_changed_all_at_once_or_not_at_all(member: client.Cloud) -> None:
    image = record(member, properties={"a.b": "1", "c.d": "2"})
    changed = member.update(image.id, name="new", os_hidden=False, tags=("x", "y"), **{"a.b": "3"}, remove=["c.d"])
    assert (changed.name, changed.hidden, changed.tags, changed.properties) == ("new", False, ("x", "y"), {"a.b": "3"})
    with pytest.raises(ServiceError):
        member.update(image.id, name="newer", visibility="public")
    assert member.image(image.id).name == "new"


def test_a_change_leaves_alone_what_another_user_changes_meanwhile(
    cloud: client.Cloud, proxy: Proxy, proxied: Path
) -> None:
    image = record(cloud, properties={"a": "1"})

    def meanwhile(_: Request) -> None:
        cloud.update(image.id, tags=("theirs",), a="2")

    proxy.on("PATCH", "/v2/images", meanwhile)
    changed = client.connect("local", file=proxied).update(image.id, name="new", a="1")
    assert (changed.name, changed.tags, changed.properties) == ("new", ("theirs",), {"a": "1"})


def test_the_last_tag_can_be_taken_away(cloud: client.Cloud) -> None:
    image = record(cloud)
    assert cloud.update(image.id, tags=()).tags == ()


def test_a_list_has_hidden_images_and_every_page(cloud: client.Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glance_cloud, "PAGE", 2)
    made = [record(cloud, properties={"test.list": "pages"}) for _ in range(5)]
    for image in made[:3]:
        cloud.update(image.id, os_hidden=False)
    found = cloud.images(owner=cloud.project_id, properties={"test.list": "pages"})
    assert sorted(image.id for image in found) == sorted(image.id for image in made)


def test_a_member_that_another_user_just_added_or_removed_is_as_wanted(
    cloud: client.Cloud, member: client.Cloud
) -> None:
    image = record(cloud)
    cloud.update(image.id, visibility="shared")
    for _ in range(2):
        cloud.add_member(image.id, member.project_id)
    assert set(cloud.members(image.id)) == {member.project_id}
    for _ in range(2):
        cloud.remove_member(image.id, member.project_id)
    assert cloud.members(image.id) == {}


def test_a_shared_image_gets_the_members_that_are_wanted_and_no_others(
    cloud: client.Cloud, member: client.Cloud
) -> None:
    image = record(cloud)
    cloud.update(image.id, visibility="shared")
    stranger = "f" * 32
    cloud.add_member(image.id, stranger)
    assert cloud.set_members(image.id, [member.project_id]) == {stranger: "pending"}
    assert cloud.members(image.id) == {member.project_id: "pending"}
    assert cloud.set_members(image.id, []) == {member.project_id: "pending"}
    assert cloud.members(image.id) == {}


def test_deleting_twice_is_fine(cloud: client.Cloud) -> None:
    image = record(cloud)
    cloud.delete(image.id)
    cloud.delete(image.id)
    with pytest.raises(ServiceError) as failure:
        cloud.image(image.id)
    assert failure.value.status == 404


def test_a_token_that_was_revoked_is_renewed_before_the_upload(cloud: client.Cloud, local_cloud: TestCloud) -> None:
    image = record(cloud)
    revoke(local_cloud, cloud)
    cloud.put_data(image.id, pieces, len(DATA))
    assert cloud.image(image.id).size == len(DATA)


def test_a_token_that_ends_as_the_upload_begins_does_not_store_an_empty_image(
    local_cloud: TestCloud, proxy: Proxy, proxied: Path
) -> None:
    behind = client.connect("local", file=proxied)
    image = record(behind)
    proxy.on("PUT", "/file", lambda _: revoke(local_cloud, behind))
    behind.put_data(image.id, pieces, len(DATA))
    assert [status for method, _, status in proxy.passed_on if method == "PUT"] == [401, 204]
    assert behind.image(image.id).hash_value == hashlib.sha512(DATA).hexdigest()


@pytest.mark.parametrize("fault", [redirect, answer(503), answer(307)], ids=["redirect", "busy", "nowhere"])
def test_an_upload_that_is_refused_is_not_sent_again(proxy: Proxy, proxied: Path, fault: Fault) -> None:
    behind = client.connect("local", file=proxied)
    image = record(behind)
    proxy.on("PUT", "/file", fault)
    with pytest.raises(ServiceError, match="cannot upload") as failure:
        behind.put_data(image.id, pieces, len(DATA))
    assert failure.value.status in (307, 503)
    assert [method for method, _ in proxy.seen].count("PUT") == 1
    assert behind.image(image.id).status == "queued"


@pytest.mark.parametrize("size", [len(DATA) + 1, len(DATA) - 1], ids=["too few", "too many"])
def test_an_upload_of_another_size_than_announced_leaves_no_image(cloud: client.Cloud, size: int) -> None:
    image = record(cloud)
    with pytest.raises(ServiceError, match=f"{len(DATA)} of {size} bytes"):
        cloud.put_data(image.id, pieces, size)
    assert cloud.image(image.id).size is None


def test_an_empty_piece_does_not_end_an_upload(cloud: client.Cloud) -> None:
    image = record(cloud)
    cloud.put_data(image.id, lambda: iter([b"one", b"", b"two"]), 6)
    assert cloud.image(image.id).hash_value == hashlib.sha512(b"onetwo").hexdigest()


def test_data_that_is_not_of_the_images_format_is_refused_with_a_remedy(cloud: client.Cloud) -> None:
    image_id = str(uuid.uuid4())
    cloud.create(image_id, name="no qcow2", disk_format="qcow2", min_disk=1, min_ram=1, tags=[], properties={})
    with pytest.raises(ServiceError) as failure:
        cloud.put_data(image_id, pieces, len(DATA))
    assert failure.value.status == 415
    assert "verify" in failure.value.remedy


def test_a_record_that_the_schema_refuses_is_an_error_of_the_clouds(cloud: client.Cloud) -> None:
    with pytest.raises(ServiceError, match="min_disk"):
        record(cloud, min_disk="much")


def test_an_answer_that_is_not_glances_is_told_from_our_own_bugs(proxy: Proxy, proxied: Path) -> None:
    behind = client.connect("local", file=proxied)
    proxy.on("GET", "/v2/images", answer(200))
    with pytest.raises(ServiceError, match="not Glance's") as failure:
        behind.images()
    assert "address" in failure.value.remedy


def test_a_read_is_tried_again(proxy: Proxy, proxied: Path) -> None:
    behind = client.connect("local", file=proxied)
    proxy.on("GET", "/v2/images", answer(503))
    assert isinstance(behind.images(), list)


@pytest.mark.parametrize("status", [500, 503])
def test_a_change_is_never_tried_again(proxy: Proxy, proxied: Path, status: int) -> None:
    behind = client.connect("local", file=proxied)
    proxy.on("POST", "/v2/images", answer(status))
    with pytest.raises(ServiceError) as failure:
        record(behind)
    assert failure.value.status == status
    assert [method for method, _ in proxy.seen].count("POST") == 1


def test_an_upload_that_is_cut_is_not_sent_again_and_leaves_no_image(proxy: Proxy, proxied: Path) -> None:
    behind = client.connect("local", file=proxied)
    image = record(behind)
    proxy.on("PUT", "/file", cut_after(100_000))
    with pytest.raises(ServiceError, match="cannot upload") as failure:
        behind.put_data(image.id, pieces, len(DATA))
    assert failure.value.status is None
    assert [method for method, _ in proxy.seen].count("PUT") == 1
    assert behind.image(image.id).status != "active"


def test_more_than_the_quota_is_refused_with_a_remedy(member: client.Cloud) -> None:
    image = record(member)
    size = (QUOTA_MIB + 1) * 2**20
    with pytest.raises(ServiceError) as failure:
        member.put_data(image.id, lambda: (bytes(2**20) for _ in range(QUOTA_MIB + 1)), size)
    assert failure.value.status == 413
    assert "quota" in failure.value.remedy
    assert member.image(image.id).status == "queued"
    member.delete(image.id)


@pytest.mark.parametrize(("status", "word"), [(401, "clouds.yaml"), (403, "right"), (409, "status"), (503, "later")])
def test_a_refusal_has_a_remedy(proxy: Proxy, proxied: Path, status: int, word: str) -> None:
    behind = client.connect("local", file=proxied)
    proxy.on("DELETE", "/v2/images", answer(status), always=True)
    with pytest.raises(ServiceError) as failure:
        behind.delete(str(uuid.uuid4()))
    assert (failure.value.status, failure.value.exit_code) == (status, 5)
    assert word in failure.value.remedy


def test_an_address_may_have_the_version_already(proxy: Proxy, proxied: Path) -> None:
    proxied.write_text(proxied.read_text().replace(proxy.url, f"{proxy.url}/v2/"))
    behind = client.connect("local", file=proxied)
    assert behind.image(record(behind).id).status == "queued"
