"""The local cloud: up, up again, down, gone with who started it."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from pipelines.devcloud import manager
from pipelines.glance import client
from pipelines.keystone import clouds_yaml
from pipelines.util import locks
from pipelines.util.errors import CloudError, HostError
from tests.support.cloud_fixtures import TestCloud
from tests.support.other_user import closed


def test_a_second_up_finds_the_running_cloud(local_cloud: TestCloud) -> None:
    first = local_cloud.again()
    second = local_cloud.again()
    assert (second.started, second.glance_url) == (False, first.glance_url)


def test_down_stops_only_the_cloud_below_its_root(local_cloud: TestCloud, tmp_path: Path) -> None:
    assert manager.down(tmp_path) is False
    assert local_cloud.again().started is False


def test_down_leaves_alone_a_process_that_took_over_an_old_id(tmp_path: Path) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        (tmp_path / ".lock").write_text(str(bystander.pid))
        assert manager.down(tmp_path) is False
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.slow
def test_after_down_the_next_up_has_the_same_address_and_images(local_cloud: TestCloud, cloud: client.Cloud) -> None:
    address = local_cloud.again().glance_url
    kept = cloud.create(
        "5e0f5c3e-0d8e-4a38-9c4b-3c9f6a3f0a10",
        name="kept",
        disk_format="raw",
        min_disk=1,
        min_ram=1,
        tags=[],
        properties={},
    )
    pid = int(locks.holder(local_cloud.root / ".lock") or 0)
    assert manager.down(local_cloud.root) is True
    assert _is_gone(pid)
    started = local_cloud.again()
    assert (started.started, started.glance_url) == (True, address)
    assert cloud.image(kept.id).name == "kept"
    cloud.delete(kept.id)


def test_a_tied_cloud_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys; from pipelines.devcloud import manager\n"
        "manager.up(pathlib.Path(sys.argv[1]), venv=manager.ROOT / '.cloud' / 'venv', tied=True)"
    )
    env = {**os.environ, "PYTHONPATH": str(manager.ROOT)}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=env) as starter:
        assert _comes_true((tmp_path / "services.json").exists)
        starter.kill()
    assert _comes_true(lambda: locks.holder(tmp_path / ".lock") is None)
    services = json.loads((tmp_path / "services.json").read_text())
    assert _comes_true(lambda: all(_is_gone(pid) for pid in services.values()))


def test_a_service_that_does_not_start_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no-such-file") as failure:
        manager.up(tmp_path, venv=manager.ROOT / ".cloud" / "venv", options={"log_config_append": "no-such-file"})
    assert str(tmp_path / "log") in failure.value.remedy
    assert locks.holder(tmp_path / ".lock") is None


@pytest.mark.slow
def test_many_changes_at_once_all_arrive(cloud: client.Cloud) -> None:
    def create(number: int) -> str:
        name = f"at once {number}"
        image_id = str(uuid.uuid4())
        cloud.create(image_id, name=name, disk_format="raw", min_disk=1, min_ram=1, tags=[], properties={"my.n": name})
        return cloud.update(image_id, name=f"{name}, changed").name

    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(create, range(24)))
    assert names == {f"at once {number}, changed" for number in range(24)}


def test_env_lines_make_a_shell_the_administrators(local_cloud: TestCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "\n".join([*manager.env_lines(local_cloud.root), "env -0"])
    shown = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, env={"OS_CLOUD": "prod", **os.environ}
    )
    variables = dict(entry.split("=", 1) for entry in shown.stdout.split("\0") if entry.startswith("OS_"))
    assert "OS_CLOUD" not in variables
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert client.connect("envvars").project_id


def test_env_lines_of_a_stopped_cloud_say_how_to_start_it(tmp_path: Path) -> None:
    with pytest.raises(CloudError) as failure:
        manager.env_lines(tmp_path)
    assert "cloud.up" in failure.value.remedy


@pytest.mark.parametrize("act", [manager.up, manager.down, manager.env_lines])
def test_another_users_cloud_is_left_to_its_owner(act: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's folders are closed to other users
        Path(name).chmod(0o755)
        root = Path(name, ".cloud")
        root.mkdir()
        with closed(root), pytest.raises(HostError, match=rf"{root} is {root.owner()}'s"):
            act(root)


def test_the_clouds_of_the_user_stay_visible(
    local_cloud: TestCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump({"clouds": {"prod": {"auth": {"auth_url": "https://prod.example/v3"}}}}))
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(own))
    for name in ("prod", "local", "local-member", "local-other"):
        assert clouds_yaml.find(name, manager.clouds_file(local_cloud.root)).name == name


def test_only_its_owner_can_read_the_password(local_cloud: TestCloud) -> None:
    for name in ("clouds.yaml", "settings.json", "glance/glance-api.conf"):
        assert (local_cloud.root / name).stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_an_installation_that_fails_is_made_again_and_a_current_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirements = tmp_path / "requirements.txt"
    monkeypatch.setattr(manager, "REQUIREMENTS", requirements)
    lock = (manager.ROOT / "requirements" / "run.txt").read_text(encoding="utf-8")
    right = "".join(re.findall(r"^idna==.*\n(?: .*--hash.*\n)+", lock, re.MULTILINE))
    requirements.write_text(re.sub("[0-9a-f]{64}", "0" * 64, right))
    with pytest.raises(HostError, match="Hash mismatch for `idna"):
        manager.install(tmp_path / "venv")
    requirements.write_text(right)
    python = manager.install(tmp_path / "venv")
    made = python.parent.parent.joinpath("pyvenv.cfg").stat().st_mtime_ns
    assert manager.install(tmp_path / "venv") == python
    assert python.parent.parent.joinpath("pyvenv.cfg").stat().st_mtime_ns == made


def _comes_true(what: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not what() and time.monotonic() < deadline:
        time.sleep(0.05)
    return what()


def _is_gone(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().split()[2] == "Z"
