"""A command loads only what it needs: what is imported for nothing is most of what an operator waits for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import PROJECT

# Each takes longer to import than all of ours, and is for clouds, records, downloads, signed boots, terminals, builds.
HEAVY = {
    "cryptography",
    "cyclonedx",
    "diskimage_builder",
    "fsspec",
    "glanceclient",
    "keystoneauth1",
    "openstack",
    "prometheus_client",
    "requests",
    "rich",
    "urllib3",
    "virt",
}
RUN = """
import json, sys
from pipelines.cli.program import Application
from tasks import namespace
Application(namespace=namespace, name="inv", binary="./inv").run(["inv", *sys.argv[1:]], exit=False)
print(json.dumps(sorted(sys.modules)))
"""


def loaded(*arguments: str) -> set[str]:
    """The modules that a command has loaded when it is done."""
    argv = [sys.executable, "-c", RUN, *arguments]
    ended = subprocess.run(
        argv, env={"PATH": os.environ["PATH"]}, cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(ended.stdout.splitlines()[-1]))


def test_the_list_of_tasks_needs_no_catalog() -> None:
    modules = loaded("--list")
    assert "pipelines.util.console" in modules
    assert not modules & (HEAVY | {"pydantic", "pipelines.catalog.loader"})


@pytest.mark.parametrize(
    ("command", "module"),
    [
        (("plan",), "pipelines.plan.planner"),
        (("list",), "pipelines.catalog.loader"),
        (("show", "debian-cuda"), "pipelines.build.builder"),
    ],
    ids=["plan", "list", "show"],
)
def test_what_asks_no_cloud_and_draws_nothing_loads_no_library_for_that(
    command: tuple[str, ...], module: str, tmp_path: Path
) -> None:
    modules = loaded(*command, "--builds", str(tmp_path))
    assert module in modules
    assert not HEAVY & modules


def test_a_plan_loads_nothing_that_builds_or_releases() -> None:
    acting = {"build.builder", "build.importer", "release.publish", "verify.verifier", "devcloud.manager"}
    assert not {f"pipelines.{module}" for module in acting} & loaded("plan", "--only", "debian-base")
