"""Sessions at a real Keystone."""

import warnings
from pathlib import Path

import pytest
import yaml

from pipelines.glance import client
from pipelines.keystone import session
from pipelines.keystone.errors import ServiceError
from tests.support.cloud_fixtures import TestCloud


@pytest.fixture
def changed(local_cloud: TestCloud, tmp_path: Path) -> Path:
    """A copy of the local cloud's clouds.yaml, for changes."""
    path = tmp_path / "clouds.yaml"
    path.write_bytes((local_cloud.root / "clouds.yaml").read_bytes())
    return path


def change(path: Path, **values: object) -> Path:
    """Change the entry of the cloud `local`; a mapping is merged."""
    clouds = yaml.safe_load(path.read_text())
    entry = clouds["clouds"]["local"]
    for name, value in values.items():
        entry[name] = {**entry.get(name, {}), **value} if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(clouds))
    return path


def test_a_wrong_password_points_to_the_credentials(changed: Path) -> None:
    with pytest.raises(ServiceError) as failure:
        session.connect("local", file=change(changed, auth={"password": "wrong"}))
    assert (failure.value.status, failure.value.exit_code) == (401, 5)
    assert "clouds.yaml" in failure.value.remedy
    assert "wrong" not in failure.value.what


def test_an_address_that_does_not_answer_is_named(changed: Path) -> None:
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1:9.*Connection refused"):
        session.connect("local", file=change(changed, auth={"auth_url": "http://127.0.0.1:9/v3"}))


def test_connecting_warns_of_nothing(local_cloud: TestCloud) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert session.connect("local", file=local_cloud.root / "clouds.yaml").project_id


def test_a_proxy_for_other_hosts_is_not_asked_about_loopback(
    local_cloud: TestCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert session.connect("local", file=local_cloud.root / "clouds.yaml").project_id


def test_a_cloud_without_glance_has_a_session_all_the_same(changed: Path) -> None:
    elsewhere = change(changed, region_name="Elsewhere", compute_endpoint_override="http://127.0.0.1:8774/v2.1")
    found = session.connect("local", file=elsewhere)
    assert (found.endpoint("image"), found.endpoint("compute")) == (None, "http://127.0.0.1:8774/v2.1")
    with pytest.raises(ServiceError, match="image service"):
        client.connect("local", file=elsewhere)
