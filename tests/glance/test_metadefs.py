"""Which properties a cloud's own definitions refuse, asked of a real Glance."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.catalog import loader
from pipelines.glance import client, metadefs, properties
from pipelines.glance.metadefs import Definition, check
from pipelines.util.errors import CloudError
from tests.support.cloud_fixtures import DEFINITIONS, TestCloud, make_variant
from tests.support.fakes.proxy import Proxy, answer
from tests.support.paths import PROJECT

SITE = {
    "namespace": "ACME::Images",
    "visibility": "public",
    "resource_type_associations": [{"name": "OS::Glance::Image", "prefix": "acme."}],
    "properties": {
        "tier": {"title": "tier", "type": "string", "enum": ["gold", "silver"]},
        "ports": {"title": "ports", "type": "integer", "minimum": 1, "maximum": 8},
        "ticket": {"title": "ticket", "type": "string", "pattern": "^OPS-[0-9]+$", "maxLength": 8},
        "billed": {"title": "billed", "type": "boolean"},
    },
}


@pytest.fixture(scope="module")
def cloud(local_cloud: TestCloud) -> client.Cloud:
    """A cloud with all definitions that come with Glance."""
    manage, config = DEFINITIONS.parents[2] / "bin" / "glance-manage", local_cloud.root / "glance" / "glance-api.conf"
    subprocess.run([manage, f"--config-file={config}", "db_load_metadefs", DEFINITIONS], check=True)
    return client.connect("local", file=local_cloud.root / "clouds.yaml")


@pytest.fixture(scope="module")
def site(local_cloud: TestCloud) -> Iterator[client.Cloud]:
    """A cloud with definitions of its own beside those that come with Glance."""
    cloud = client.connect("local", file=local_cloud.root / "clouds.yaml")
    changes = cloud._changes.http_client
    changes.post("/v2/metadefs/namespaces", headers={"Content-Type": "application/json"}, data=json.dumps(SITE))
    yield cloud
    changes.delete("/v2/metadefs/namespaces/ACME::Images")


def reported(cloud: client.Cloud, **found: str) -> list[str]:
    return [str(fault) for fault in check(cloud, {name.replace("__", "."): value for name, value in found.items()})]


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("acme__tier", "bronze", 'acme.tier: "bronze" is not one of: gold, silver (ACME::Images)'),
        ("acme__ports", "many", "is not a whole number"),
        ("acme__ports", "0", "is less than 1"),
        ("acme__ports", "9", "is more than 8"),
        ("acme__ticket", "7", "does not match ^OPS-[0-9]+$"),
        ("acme__ticket", "OPS-123456", "longer than 8 characters"),
        ("acme__billed", "maybe", "neither true nor false"),
    ],
)
def test_what_a_sites_own_definitions_refuse_is_a_fault(site: client.Cloud, name: str, value: str, fault: str) -> None:
    [found] = reported(site, **{name: value})
    assert fault in found


def test_what_they_allow_and_what_they_do_not_know_is_none(site: client.Cloud) -> None:
    assert reported(site, acme__tier="gold", acme__ports="8", acme__ticket="OPS-1", acme__billed="true") == []
    assert reported(site, acme__colour="blue", mycompany__tier="bronze") == []


def test_all_that_our_catalog_declares_fits_the_definitions_that_come_with_glance(
    cloud: client.Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    windows = properties.derive_imported(
        os_type="windows", distribution="windows", version="11", architecture="amd64", gpu=True
    )
    known = metadefs.definitions(cloud)
    declared = [v.properties for v in loader.load(PROJECT / "images.yaml").variants.values()]
    assert [fault for each in (*declared, windows) for fault in metadefs.faults(known, each)] == []
    assert {"hw_firmware_type", "os_distro", "hw_cpu_policy"} <= {each.name for each in known}
    assert capsys.readouterr().err == ""


def test_where_glance_lags_behind_nova_it_is_reported_and_nova_decides(
    cloud: client.Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reported(cloud, hw_cpu_policy="mixed") == []
    assert "hw_cpu_policy" in capsys.readouterr().err


def test_one_of_several_definitions_of_a_name_is_enough() -> None:
    both = [
        Definition(name="x.y", namespace="A", type="string", enum=("1",)),
        Definition(name="x.y", namespace="B", type="string", enum=("2",)),
    ]
    assert list(metadefs.faults(both, {"x.y": "2"})) == []
    [(fault, _)] = metadefs.faults(both, {"x.y": "3"})
    assert "(A)" in fault.what
    assert "(B)" in fault.what


def test_a_pattern_that_is_none_refuses_nothing() -> None:
    odd = Definition(name="x.y", namespace="A", type="string", pattern="(")
    assert list(metadefs.faults([odd], {"x.y": "1"})) == []


@pytest.mark.parametrize("status", [403, 404])
def test_a_cloud_that_shows_no_definitions_is_reported_and_is_no_error(
    proxy: Proxy, proxied: Path, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    proxy.on("GET", "/v2/metadefs", answer(status))
    behind = client.connect("local", file=proxied)
    assert check(behind, make_variant().properties) == ()
    assert f"HTTP {status}" in capsys.readouterr().err


def test_a_cloud_that_cannot_be_reached_is_an_error(proxy: Proxy, proxied: Path) -> None:
    behind = client.connect("local", file=proxied)
    proxy.on("GET", "/v2/metadefs", lambda request: setattr(request, "drop", True), always=True)
    with pytest.raises(CloudError):
        check(behind, {"hw_disk_bus": "scsi"})
