"""Who uses an image: a Nova in the catalog of a real Keystone, and none."""

from collections.abc import Iterator

import pytest

from pipelines.glance import client
from pipelines.keystone.errors import GlanceError
from tests.support.cloud_fixtures import TestCloud
from tests.support.fakes import nova


@pytest.fixture
def compute(local_cloud: TestCloud, cloud: client.Cloud) -> Iterator[nova.Nova]:
    """A Nova that is in the cloud's catalog."""
    session = cloud._reads.http_client.session
    keystone = f"{local_cloud.again().keystone_url}/v3"
    with nova.running() as stand_in:
        asked = {"service": {"type": "compute", "name": "nova"}}
        service = session.post(f"{keystone}/services", json=asked).json()["service"]["id"]
        where = {"url": stand_in.url, "interface": "public", "region_id": "RegionOne", "service_id": service}
        session.post(f"{keystone}/endpoints", json={"endpoint": where})
        yield stand_in
        session.delete(f"{keystone}/services/{service}")


@pytest.fixture
def with_compute(local_cloud: TestCloud, compute: nova.Nova) -> client.Cloud:
    """The operator's project in a cloud with that Nova."""
    assert compute.url  # it is in the catalog by now
    return client.connect("local", extra=local_cloud.root / "clouds.yaml")


def test_all_projects_servers_of_an_image_are_found_on_every_page(
    with_compute: client.Cloud, compute: nova.Nova
) -> None:
    compute.servers = {"s1": "image", "s2": "another", "s3": "image"}
    compute.others = {"s4": "image"}
    assert with_compute.servers_using("image") == ("s1", "s3", "s4")


def test_who_may_not_ask_for_all_projects_learns_of_the_own_one(with_compute: client.Cloud, compute: nova.Nova) -> None:
    compute.administrator = False
    compute.servers, compute.others = {"s1": "image"}, {"s2": "image"}
    assert with_compute.servers_using("image") == ("s1",)


def test_an_image_that_nobody_uses_is_not_one_that_nobody_can_tell_of(
    with_compute: client.Cloud, compute: nova.Nova
) -> None:
    assert with_compute.servers_using("image") == ()
    compute.status = 403
    assert with_compute.servers_using("image") is None


def test_a_nova_that_is_broken_is_an_error_and_no_answer(with_compute: client.Cloud, compute: nova.Nova) -> None:
    compute.status = 500
    with pytest.raises(GlanceError, match="ask Nova which servers use image"):
        with_compute.servers_using("image")


def test_a_cloud_without_nova_cannot_tell(cloud: client.Cloud) -> None:
    assert cloud.servers_using("image") is None
