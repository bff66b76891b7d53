"""Contract of the command line: exit codes, JSON on stdout alone, remedies on stderr."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import inv
from tests.support.paths import PROJECT

GOOD = """\
version: 1
images:
  gpu-guest:
    abstract: true
    disk: {size: 10GiB}
  plain:
    parent: gpu-guest
    description: without a GPU
    base: {distribution: debian, release: trixie}
  with-gpu:
    parent: gpu-guest
    description: with one
    base: {distribution: debian, release: trixie}
    driver: {source: archive, modules: proprietary}
"""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    path = tmp_path / "images.yaml"
    path.write_text(GOOD)
    return path


def from_json(images: Path, *arguments: str | Path) -> Any:
    result = inv(*arguments, "--catalog", images, "--builds", images.parent / "builds", "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_list_has_every_image_that_can_be_built(images: Path) -> None:
    listed = from_json(images, "list")
    assert listed == [
        {"name": "plain", "description": "without a GPU", "gpu": False, "newest_build": None},
        {"name": "with-gpu", "description": "with one", "gpu": True, "newest_build": None},
    ]


def test_show_has_what_scripts_rely_on(images: Path) -> None:
    shown = from_json(images, "show", "with-gpu")
    assert shown["name"] == "with-gpu"
    assert "nvidia-driver" in shown["elements"]
    assert shown["environment"]["DIB_RELEASE"] == "trixie"
    assert shown["properties"]["hw_firmware_type"] == "uefi"
    assert all(isinstance(value, str) for value in (shown["environment"] | shown["properties"]).values())
    assert any(part.endswith("disk-image-create") for part in shown["command"])
    assert len(shown["fingerprint"]) == len(shown["release_digest"]) == 64


def test_show_prints_a_command_that_a_shell_takes(images: Path) -> None:
    result = inv("show", "with-gpu", "--catalog", images, http_proxy="http://user:hunter2@127.0.0.1:9")
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("command: ")]
    words = shlex.split(line.removeprefix("command: "))
    assert words[:2] == ["env", "-i"]
    assert "DIB_RELEASE=trixie" in words
    assert words[-3:] == ["guest-identity", "gpt-disk", "seal-guest"]
    assert "hunter2" not in result.stdout
    assert result.stderr == ""


def test_the_plan_of_a_fresh_catalog_is_to_build_everything(images: Path) -> None:
    assert from_json(images, "plan") == [
        {"verb": "build", "variant": "plain", "cloud": None, "reason": "no build yet"},
        {"verb": "build", "variant": "with-gpu", "cloud": None, "reason": "no build yet"},
    ]


def test_plan_exits_0_and_with_check_7(images: Path) -> None:
    common = ("plan", "--catalog", images, "--builds", images.parent)
    assert inv(*common).returncode == 0
    assert inv(*common, "--check").returncode == 7


def test_our_own_catalog_lists_what_we_promise() -> None:
    listed = json.loads(inv("list", "--json").stdout)
    promised = {"debian-base", "debian-cuda", "debian12-cuda", "debian-cuda-devel", "ubuntu-cuda"}
    assert promised <= {image["name"] for image in listed}


def test_an_unknown_image_is_exit_2_with_the_close_names(images: Path) -> None:
    result = inv("show", "with-gpus", "--catalog", images)
    assert result.returncode == 2
    assert "with-gpu" in result.stderr
    assert result.stdout == ""


def test_a_wrong_catalog_is_exit_2_with_every_error_and_its_path(images: Path) -> None:
    images.write_text(GOOD.replace("trixie}\n    driver", "trixy}\n    driver").replace("size: 10GiB", "size: ten"))
    result = inv("list", "--catalog", images)
    assert result.returncode == 2
    assert "images.with-gpu.base" in result.stderr
    assert "disk.size" in result.stderr


def test_a_contradictory_property_is_exit_2(images: Path) -> None:
    images.write_text(GOOD + "    glance: {properties: {hw_firmware_type: bios, os_secure_boot: required}}\n")
    result = inv("plan", "--catalog", images)
    assert result.returncode == 2
    assert "os_secure_boot" in result.stderr


def test_a_missing_catalog_is_exit_2_with_its_path(tmp_path: Path) -> None:
    result = inv("list", "--catalog", tmp_path / "nowhere.yaml")
    assert result.returncode == 2
    assert "nowhere.yaml" in result.stderr


def test_a_build_that_does_not_exist_is_a_usage_error(images: Path) -> None:
    result = inv("verify", "plain", "--catalog", images, "--builds", images.parent / "builds")
    assert result.returncode == 1
    assert "inv build plain" in result.stderr


def test_an_unknown_cloud_is_exit_5_and_names_the_known_ones(images: Path, tmp_path: Path) -> None:
    clouds = tmp_path / "clouds.yaml"
    clouds.write_text("clouds:\n  prod:\n    auth: {auth_url: http://127.0.0.1:9}\n")
    result = inv("status", "--cloud", "pord", "--catalog", images, OS_CLIENT_CONFIG_FILE=str(clouds))
    assert result.returncode == 5
    assert "prod" in result.stderr


def test_a_cloud_that_does_not_answer_is_exit_5(images: Path, tmp_path: Path) -> None:
    clouds = tmp_path / "clouds.yaml"
    clouds.write_text(
        "clouds:\n  prod:\n    auth: {auth_url: 'http://127.0.0.1:9', username: u, password: p, project_name: p,"
        " user_domain_id: default, project_domain_id: default}\n"
    )
    result = inv("upload", "--cloud", "prod", "--catalog", images, OS_CLIENT_CONFIG_FILE=str(clouds))
    assert result.returncode == 5
    assert "127.0.0.1:9" in result.stderr


def test_a_host_without_the_tools_is_exit_6_with_one_command(images: Path, tmp_path: Path) -> None:
    result = inv("build", "plain", "--catalog", images, "--builds", tmp_path / "b", PATH=str(tmp_path))
    assert result.returncode in {0, 6}  # /usr/sbin is always searched: what is only there is found
    assert "apt-get install" in result.stderr


@pytest.mark.slow
def test_doctor_is_exit_6_when_the_disk_is_too_small(images: Path, tmp_path: Path, mirror: str) -> None:
    ours = f"    environment: {{DIB_DISTRIBUTION_MIRROR: '{mirror}', DIB_DEBIAN_SECURITY_MIRROR: '{mirror}'}}\n"
    images.write_text(GOOD.replace("  with-gpu:\n", f"{ours}  with-gpu:\n"))
    folder = tmp_path / "tiny"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10M", "tmpfs", folder], check=True)
    try:
        result = inv("doctor", "--only", "plain", "--catalog", images, "--builds", folder)
    finally:
        subprocess.run(["umount", folder], check=True)
    assert result.returncode == 6
    assert "plain cannot be built: disk space" in result.stderr
    assert "--builds DIR" in result.stderr


def test_of_several_failures_the_lowest_code_counts_and_the_rest_goes_on(images: Path, tmp_path: Path) -> None:
    result = inv("verify", "plain,with-gpu", "--catalog", images, "--builds", tmp_path / "builds")
    assert result.returncode == 1
    assert "2 of 2 failed: plain, with-gpu" in result.stderr


def test_a_relative_catalog_is_relative_to_where_the_operator_is(images: Path) -> None:
    result = inv("list", "--catalog", "images.yaml", "--json", cwd=images.parent)
    assert [image["name"] for image in json.loads(result.stdout)] == ["plain", "with-gpu"]


def test_tasks_that_follow_a_good_one_run_too(images: Path) -> None:
    both = inv("list", "--catalog", images, "show", "nothing-of-that-name", "--catalog", images)
    assert both.returncode == 2
    assert "with-gpu" in both.stdout


def test_the_tasks_are_listed() -> None:
    listed = inv("--list").stdout
    tasks = ["build", "cloud.down", "cloud.env", "cloud.up", "demo", "doctor", "lint", "list", "plan", "schema", "show"]
    assert [task for task in [*tasks, "status", "test", "upload", "verify"] if f"\n  {task} " not in listed] == []


@pytest.mark.parametrize(("task", "program"), [("test", "pytest"), ("lint", "ruff")])
def test_a_task_of_developers_whose_packages_are_not_installed_says_how_they_are(task: str, program: str) -> None:
    argv = [sys.executable, str(PROJECT / "tasks.py"), task]
    result = subprocess.run(argv, env={"PATH": "/nowhere"}, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (6, "")
    assert f"{program} is not installed\nremedy: Run ./inv {task} by itself" in result.stderr
