"""`pip install .` gives the command gpu-images, with the elements inside, for the folder in which it is called."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.catalog import loader
from pipelines.util import paths
from tests.support.paths import ELEMENTS, PROJECT

IMAGES = """\
version: 1
images:
  plain:
    base: {distribution: debian, release: trixie}
    disk: {size: 4GiB}
"""
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of a site, with nothing of the project but its images.yaml."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "images.yaml").write_text(IMAGES)
    return folder


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Our package where pip installs packages, with what the wheel puts inside."""
    folder = tmp_path / "site-packages"
    shutil.copytree(PROJECT / "pipelines", folder / "pipelines", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ELEMENTS, folder / "pipelines/elements")
    return folder


def called(argv: list[str], site: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    values = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(argv, cwd=site, env=values, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def run(packages: Path, site: Path) -> Run:
    main = "from pipelines.cli.program import main; main()"
    return lambda *words: called([sys.executable, "-c", main, *words], site, PYTHONPATH=str(packages))


def test_a_sites_own_files_are_in_the_current_folder(run: Run, site: Path) -> None:
    assert [image["name"] for image in json.loads(run("list", "--json").stdout)] == ["plain"]
    missing = run("verify", "plain")
    assert missing.returncode == 1
    assert f"in {site / 'builds'}" in missing.stderr


def test_messages_name_the_installed_command(run: Run) -> None:
    assert "Run `gpu-images build plain` first." in run("verify", "plain").stderr
    assert run("prun").stderr.endswith("gpu-images --list names all tasks.\n")
    assert run("prune", "-h").stdout.startswith("Usage: gpu-images prune ")


def test_an_image_has_the_fingerprint_that_it_has_in_a_checkout(run: Run, site: Path) -> None:
    from pipelines.build import fingerprint

    shown = json.loads(run("show", "plain", "--json").stdout)
    variant = loader.load(site / "images.yaml").variants["plain"]
    assert shown["fingerprint"] == fingerprint.present(variant, site / "builds").digest


def test_the_tasks_are_those_of_an_operator(run: Run) -> None:
    listed = run("--list").stdout
    assert [task for task in ("build", "refresh", "demo", "cloud.up") if f"\n  {task} " not in listed] == []
    assert [task for task in ("test", "lint", "bench") if f"\n  {task} " in listed] == []


def test_pipelines_are_made_in_a_checkout_alone(run: Run) -> None:
    ended = run("ci", "--for", "github", "--cloud", "prod")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "in a checkout" in ended.stderr


def test_a_checkout_has_everything_in_one_folder() -> None:
    assert (paths.INSTALLED, paths.PROJECT, paths.ELEMENTS, paths.COMMAND) == (False, PROJECT, ELEMENTS, "./inv")


@pytest.mark.slow
def test_pip_installs_the_command_with_elements_that_can_be_run(tmp_path: Path, site: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    ignored = shutil.ignore_patterns(".git", ".venv", "builds", ".cloud", "__pycache__", ".*_cache")
    source = shutil.copytree(PROJECT, tmp_path / "source", ignore=ignored)
    subprocess.run([venv / "bin/pip", "install", "--quiet", "--no-deps", source], check=True)
    (installed,) = venv.glob("lib/python3*/site-packages")
    # What we depend on is that of the tests.
    (installed / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        return called([str(venv / "bin/gpu-images"), *words], site)

    assert run("--version").stdout.startswith("gpu-images 0.")
    assert "\n  refresh " in run("--list").stdout
    catalog = site / "images.yaml"
    assert json.loads(run("list", "--catalog", str(catalog), "--json").stdout)[0]["name"] == "plain"
    assert run("show", "plain").returncode == 0
    assert modes(installed / "pipelines/elements") == modes(ELEMENTS)


def modes(folder: Path) -> dict[str, bool]:
    """The files below a folder, and whether each can be run."""
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(folder)): bool(path.stat().st_mode & 0o100) for path in files}
