"""Real images, built once for a run: the newest good build of the present fingerprint, or a new one."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.artifacts import store
from pipelines.build import fingerprint
from pipelines.catalog import loader
from pipelines.devcloud import manager
from tests.support.command_line import Inv
from tests.support.fakes import web_server
from tests.support.paths import BUILDS, PROJECT
from tests.support.standins import site as sites
from tests.support.standins.site import Site


def run_inv(*arguments: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """`inv ARGUMENTS`, as an operator runs it."""
    argv = [sys.executable, "-m", "invoke", "--search-root", PROJECT, *arguments]
    return subprocess.run(argv, env=os.environ | environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def inv() -> Inv:
    return run_inv


@pytest.fixture(scope="session")
def real() -> Callable[[str], store.Build]:
    """A real, verified build of a variant of images.yaml, by its name."""
    return _real


def _real(name: str) -> store.Build:
    wanted = fingerprint.present(loader.load(PROJECT / "images.yaml").variants[name], BUILDS).digest
    for build in reversed(store.builds(BUILDS, name)):
        if build.state == store.COMPLETE and build.manifest().fingerprint == wanted:
            return build
    result = run_inv("build", name)
    assert result.returncode == 0, result.stderr
    return store.newest_complete(BUILDS, name)


@pytest.fixture(scope="session")
def roomy_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[manager.LocalCloud]:
    """A real Keystone and Glance that take images of any size."""
    root = tmp_path_factory.mktemp("roomy-cloud")
    yield manager.up(root, venv=manager.ROOT / ".cloud" / "venv", tied=True)
    manager.down(root)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Ubuntu's archive and signed cloud image, and NVIDIA's repository, by test doubles on loopback."""
    with web_server.serving() as server:
        yield sites.build(server, tmp_path_factory.mktemp("site"))
