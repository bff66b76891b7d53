"""Servers that use an image: a Nova in the catalog of a real Keystone, and none."""

from collections.abc import Iterator

import pytest

from pipelines.keystone import session as keystone_session
from pipelines.keystone.errors import ServiceError
from pipelines.keystone.session import Session
from pipelines.nova import servers
from tests.support.cloud_fixtures import TestCloud
from tests.support.fakes import nova


def connected(local_cloud: TestCloud) -> Session:
    return keystone_session.connect("local", file=local_cloud.again().clouds_file)


@pytest.fixture
def compute(local_cloud: TestCloud) -> Iterator[nova.Nova]:
    """A Nova that is in the cloud's catalog."""
    session = connected(local_cloud).http
    keystone = f"{local_cloud.again().keystone_url}/v3"
    with nova.running() as stand_in:
        asked = {"service": {"type": "compute", "name": "nova"}}
        service = session.post(f"{keystone}/services", json=asked).json()["service"]["id"]
        where = {"url": stand_in.url, "interface": "public", "region_id": "RegionOne", "service_id": service}
        session.post(f"{keystone}/endpoints", json={"endpoint": where})
        yield stand_in
        session.delete(f"{keystone}/services/{service}")


@pytest.fixture
def session(local_cloud: TestCloud, compute: nova.Nova) -> Session:
    """The operator's project in a cloud with that Nova."""
    assert compute.url  # it is in the catalog by now
    return connected(local_cloud)


def test_all_projects_servers_of_an_image_are_found_on_every_page(session: Session, compute: nova.Nova) -> None:
    compute.servers = {"s1": "image", "s2": "another", "s3": "image"}
    compute.others = {"s4": "image"}
    assert servers.using_image(session, "image") == ("s1", "s3", "s4")


def test_a_user_who_may_not_ask_for_all_projects_learns_of_the_own_one(session: Session, compute: nova.Nova) -> None:
    compute.administrator = False
    compute.servers, compute.others = {"s1": "image"}, {"s2": "image"}
    assert servers.using_image(session, "image") == ("s1",)


def test_an_unused_image_is_told_from_one_that_nova_may_not_be_asked_about(
    session: Session, compute: nova.Nova
) -> None:
    assert servers.using_image(session, "image") == ()
    compute.status = 403
    assert servers.using_image(session, "image") is None


def test_a_nova_that_is_broken_is_an_error_and_no_answer(session: Session, compute: nova.Nova) -> None:
    compute.status = 500
    with pytest.raises(ServiceError, match="ask Nova which servers use image") as failure:
        servers.using_image(session, "image")
    assert failure.value.status == 500


def test_a_cloud_without_nova_cannot_tell(local_cloud: TestCloud) -> None:
    assert servers.using_image(connected(local_cloud), "image") is None
