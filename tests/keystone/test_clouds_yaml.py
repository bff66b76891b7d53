"""Which clouds.yaml a cloud is taken from."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipelines.keystone import clouds_yaml
from pipelines.util.errors import CloudError
from tests.support.other_user import closed
from tests.support.paths import PROJECT

OURS, THEIRS = "http://127.0.0.1:1/v3", "http://127.0.0.1:2/v3"
PLACES: dict[str, Callable[[Path], tuple[Path, dict[str, str]]]] = {
    "OS_CLIENT_CONFIG_FILE": lambda home: (home / "own.yaml", {"OS_CLIENT_CONFIG_FILE": str(home / "own.yaml")}),
    "the current folder": lambda home: (home / "here" / "clouds.yaml", {}),
    "the home folder": lambda home: (home / ".config" / "openstack" / "clouds.yaml", {}),
}


def clouds(path: Path, url: str, *names: str) -> Path:
    auth = {"auth_url": url, "username": "u", "password": "p", "project_name": "p"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"clouds": {name: {"auth": auth} for name in names}}))
    return path


def url_of(found: object) -> str:
    return found.config["auth"]["auth_url"]  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("place", PLACES)
def test_what_the_user_defines_wins_over_the_fallback_wherever_it_is_defined(tmp_path: Path, place: str) -> None:
    path, variables = PLACES[place](tmp_path)
    clouds(path, THEIRS, "local")
    fallback = clouds(tmp_path / "fallback.yaml", OURS, "local")
    (tmp_path / "here").mkdir(exist_ok=True)
    program = (
        "import sys; from pathlib import Path; from pipelines.keystone import clouds_yaml;"
        "print(clouds_yaml.find('local', Path(sys.argv[1])).config['auth']['auth_url'])"
    )
    # openstack.config looks for the home folder when it is imported.
    mine = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(PROJECT), **variables}
    argv = (sys.executable, "-c", program, str(fallback))
    done = subprocess.run(argv, env=mine, cwd=tmp_path / "here", check=True, capture_output=True, text=True)
    assert done.stdout == f"{THEIRS}\n"
    assert f"{path} is used" in done.stderr


def test_variables_of_the_environment_win_over_the_fallback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    variables = {"AUTH_URL": THEIRS, "USERNAME": "u", "PASSWORD": "p", "PROJECT_NAME": "p", "CLOUD_NAME": "local"}
    for name, value in variables.items():
        monkeypatch.setenv(f"OS_{name}", value)
    fallback = clouds(tmp_path / "fallback.yaml", OURS, "local", "local-member")
    assert url_of(clouds_yaml.find("local", fallback)) == THEIRS
    assert url_of(clouds_yaml.find("local-member", fallback)) == OURS
    assert "your OS_* variables are used" in capsys.readouterr().err


def test_the_fallback_serves_when_the_user_defines_other_clouds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(clouds(tmp_path / "own.yaml", THEIRS, "prod")))
    fallback = clouds(tmp_path / "fallback.yaml", OURS, "local")
    assert url_of(clouds_yaml.find("local", fallback)) == OURS
    assert url_of(clouds_yaml.find("prod", fallback)) == THEIRS
    assert capsys.readouterr().err == ""


def test_a_local_cloud_of_another_user_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's folders are closed to other users
        folder = Path(name)
        folder.chmod(0o755)
        monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(clouds(folder / "own.yaml", THEIRS, "prod")))
        fallback = clouds(folder / ".cloud" / "clouds.yaml", OURS, "local")
        clouds_yaml.find("prod", fallback)  # imports everything
        with closed(fallback.parent):
            assert url_of(clouds_yaml.find("prod", fallback)) == THEIRS
            with pytest.raises(CloudError, match="there is no cloud named local"):
                clouds_yaml.find("local", fallback)


def test_a_file_that_is_named_alone_is_not_mixed_with_the_users_clouds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(clouds(tmp_path / "own.yaml", THEIRS, "local", "prod")))
    file = clouds(tmp_path / "file.yaml", OURS, "local")
    assert url_of(clouds_yaml.read("local", file)) == OURS
    with pytest.raises(CloudError, match="no cloud named prod"):
        clouds_yaml.read("prod", file)


def test_an_unknown_cloud_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="no cloud named locla") as failure:
        clouds_yaml.find("locla", clouds(tmp_path / "fallback.yaml", OURS, "local", "local-member"))
    assert "Did you mean local?" in failure.value.remedy
    assert "local-member" in failure.value.remedy


def test_a_clouds_file_that_is_not_yaml_is_the_operators_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clouds.yaml").write_text("clouds: [")
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "clouds.yaml"))
    with pytest.raises(CloudError):
        clouds_yaml.find("prod")
