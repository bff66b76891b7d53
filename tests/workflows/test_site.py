"""The state of a site, and the plan from it: servers are asked for present digests, records tell the last build's."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.artifacts import records
from pipelines.artifacts.store import Build
from pipelines.build import fingerprint
from pipelines.catalog import loader
from pipelines.catalog.variant import Variant
from pipelines.inputs import resolver
from pipelines.util import files
from pipelines.util.errors import CloudError
from pipelines.workflows import site as workflows_site
from pipelines.workflows.site import Site
from tests.support.cloud_fixtures import NOW, TestCloud, verified
from tests.support.command_line import inv
from tests.support.fakes.web_server import WebServer, serving

MakeBuild = Callable[[Variant], Build]
A, B = "a" * 64, "b" * 64


@pytest.fixture
def server() -> Iterator[WebServer]:
    """A server with the checksum of its base image."""
    with serving() as running:
        running.put("/SHA256SUMS", f"{A} *noble.squashfs\n".encode())
        yield running


@pytest.fixture
def site(tmp_path: Path, server: WebServer) -> Site:
    """One image, whose base is on the server; records in a folder of their own, no build on this host."""
    base = f"url: {server.url}/noble.squashfs, sha256sums_url: {server.url}/SHA256SUMS, signature: none"
    path = tmp_path / "images.yaml"
    path.write_text(
        f"version: 1\nrecords: {tmp_path / 'records'}\nimages:\n  a:\n    disk: {{size: 8GiB}}\n"
        f'    base: {{distribution: ubuntu, release: "24.04", source: cloud-image, {base}}}\n'
    )
    loaded = loader.load(path)
    here = tmp_path / "here"
    return Site(catalog=loaded, root=here, records=records.open(loaded.records, here))


def wanted(site: Site, *, online: bool = False) -> str:
    """The fingerprint of a build now."""
    (target,) = workflows_site.read_state(site, [site.catalog.variants["a"]], online=online).targets
    return target.fingerprint


def asked(site: Site) -> str:
    return wanted(site, online=True)


def test_before_the_first_build_no_server_is_asked(site: Site, server: WebServer) -> None:
    workflows_site.planned(site, [site.catalog.variants["a"]], NOW)
    assert server.seen == []


def test_of_what_was_built_the_server_is_asked(site: Site, server: WebServer, make_build: MakeBuild) -> None:
    on_record(site, server, make_build)
    workflows_site.planned(site, [site.catalog.variants["a"]], NOW)
    assert server.seen != []


def on_record(site: Site, server: WebServer, make_build: MakeBuild) -> None:
    build = make_build(site.catalog.variants["a"])
    base = build.manifest().base | {"url": f"{server.url}/noble.squashfs"}
    made = replace(build.manifest(), base=base, inputs={resolver.BASE_IMAGE: A})
    files.write_json(build.folder / "manifest.json", made)
    site.records.put(build)


def test_another_base_image_on_the_server_is_another_fingerprint(
    site: Site, server: WebServer, make_build: MakeBuild
) -> None:
    on_record(site, server, make_build)
    before = asked(site)
    assert asked(site) == before
    server.put("/SHA256SUMS", f"{B} *noble.squashfs\n".encode())
    assert asked(site) != before


def test_a_machine_without_builds_knows_the_last_base_image_from_its_record(
    site: Site, server: WebServer, make_build: MakeBuild
) -> None:
    on_record(site, server, make_build)
    assert wanted(site) == asked(site)


def test_a_server_without_an_answer_leaves_the_last_base_image(
    *, site: Site, server: WebServer, make_build: MakeBuild, capsys: pytest.CaptureFixture[str]
) -> None:
    on_record(site, server, make_build)
    before = asked(site)
    server.put("/SHA256SUMS", b"")
    assert asked(site) == before
    assert "its inputs are assumed to be those of the last build" in capsys.readouterr().err


@pytest.mark.parametrize("boot", [(), ("--no-boot",)], ids=["with a boot", "--no-boot"])
def test_a_plan_for_a_cloud_and_a_dry_refresh_print_the_same(
    *, boot: tuple[str, ...], local_cloud: TestCloud, tmp_path: Path, make_build: MakeBuild
) -> None:
    path = tmp_path / "images.yaml"
    path.write_text(
        f"version: 1\nrecords: {tmp_path / 'records'}\nimages:\n  planned-twice:\n    disk: {{size: 8GiB}}\n"
        "    base: {distribution: debian, release: trixie}\n    driver: {source: archive, modules: proprietary}\n"
    )
    variant = loader.load(path).variants["planned-twice"]
    build = make_build(variant)
    wanted = fingerprint.present(variant, tmp_path / "builds")
    files.write_json(build.folder / "manifest.json", replace(build.manifest(), fingerprint=wanted.digest))
    files.write_json(build.folder / "verify.json", verified(build))  # without a boot
    options = ("--cloud", "local", "--catalog", path, "--builds", tmp_path / "builds", *boot)
    clouds = str(local_cloud.root / "clouds.yaml")
    plan, refresh = (
        inv(*command, *options, OS_CLIENT_CONFIG_FILE=clouds) for command in (("plan",), ("refresh", "--dry-run"))
    )
    assert (plan.returncode, plan.stdout, plan.stderr) == (refresh.returncode, refresh.stdout, refresh.stderr)
    assert "no longer supports driver branch" in plan.stderr
    assert "was built from are not recorded" in plan.stderr
    assert [line.split()[0] for line in plan.stdout.splitlines()[2:]] == [
        *(() if boot else ("verify",)),
        "upload",
        "promote",
    ]


@pytest.mark.parametrize("command", [("plan",), ("refresh", "--dry-run")], ids=["plan", "refresh"])
def test_a_plan_without_one_of_its_clouds_is_an_error(command: tuple[str, ...], site: Site, tmp_path: Path) -> None:
    gone = {"auth_url": "http://127.0.0.1:9/v3", "username": "a", "password": "b", "project_name": "c"}
    clouds = {"clouds": {"gone": {"auth": gone | {"user_domain_id": "default", "project_domain_id": "default"}}}}
    (tmp_path / "clouds.yaml").write_text(json.dumps(clouds))
    options = ("--cloud", "gone", "--catalog", tmp_path / "images.yaml", "--builds", site.root)
    result = inv(*command, *options, OS_CLIENT_CONFIG_FILE=str(tmp_path / "clouds.yaml"))
    assert (result.returncode, result.stdout) == (CloudError.exit_code, "")
    assert "gone" in result.stderr
