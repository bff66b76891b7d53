"""Does ./inv set up what is missing, once, and say what it does? Everything outside of the script is a fake here."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import PROJECT

NOBODY = 65534


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users reach too, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture
def checkout(open_folder: Path) -> Path:
    """A checkout whose .venv holds fakes: nothing is really installed."""
    tmp_path = open_folder
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("inv", "bindep.txt", "pyproject.toml", "constraints.txt"):
        shutil.copy(PROJECT / name, folder / name)
    log = tmp_path / "log"
    log.touch(mode=0o666)
    installs = f'cat > /dev/null; echo "python $*" >> {log}'
    program(folder / ".venv/bin/python", f'[[ $1 != */tasks.py ]] || {{ echo "$*"; exit; }}; {installs}')
    program(folder / ".venv/bin/bindep", "echo qemu-utils; echo mtools; exit 1")
    program(tmp_path / "bin/apt-get", f'echo "apt-get $*" >> {log}')
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o777)
    return folder


def program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{script}\n")


def inv(
    checkout: Path, *arguments: str, user: int = 0, cwd: Path | None = None, path: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    # Only the fakes' folder, and a folder with what the script calls: no real sudo is found.
    tools = checkout.parent / "tools"
    tools.mkdir(exist_ok=True)
    for name in ("bash", "sh", "cat", "id", "dirname", "readlink", "sha256sum", "cut", "flock", "python3", "env"):
        link = tools / name
        if not link.exists():
            link.symlink_to(shutil.which(name, path="/usr/bin:/bin") or "/bin/false")
    environment = {"PATH": f"{checkout.parent / 'bin'}:{tools}", "HOME": str(checkout)}
    argv = ["/usr/bin/setpriv", f"--reuid={user}", "--clear-groups", str(path or checkout / "inv"), *arguments]
    return subprocess.run(argv, env=environment, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)


def done(checkout: Path) -> str:
    return (checkout.parent / "log").read_text()


def test_the_first_call_installs_what_bindep_says_is_missing_and_says_so(checkout: Path) -> None:
    result = inv(checkout, "build", "debian-cuda")
    assert result.returncode == 0, result.stderr
    assert "installing system packages: qemu-utils mtools" in result.stderr
    assert "apt-get update" in done(checkout)
    assert "apt-get install -y -qq --no-install-recommends qemu-utils mtools" in done(checkout)
    assert result.stdout == f"{checkout}/tasks.py build debian-cuda\n"


def test_python_packages_come_in_the_versions_of_the_constraints(checkout: Path) -> None:
    inv(checkout)
    assert f"--constraint {checkout}/constraints.txt" in done(checkout)


def test_the_second_call_installs_nothing_and_says_nothing(checkout: Path) -> None:
    inv(checkout)
    before = done(checkout)
    result = inv(checkout, "--list")
    assert (result.stderr, done(checkout)) == ("", before)


def test_a_call_with_nothing_missing_starts_no_program_but_ours(checkout: Path) -> None:
    inv(checkout)
    result = subprocess.run(
        [checkout / "inv", "--list"], env={"PATH": "/nowhere"}, capture_output=True, text=True, check=False, timeout=60
    )
    assert (result.stderr, result.stdout) == ("", f"{checkout}/tasks.py --list\n")


def test_compiled_modules_are_kept_where_a_container_says_otherwise(checkout: Path) -> None:
    program(checkout / ".venv/bin/python", 'echo "${PYTHONDONTWRITEBYTECODE-kept}"')
    inv(checkout)
    argv = [checkout / "inv", "--list"]
    environment = {"PATH": "/nowhere", "PYTHONDONTWRITEBYTECODE": "1"}
    assert subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout == "kept\n"


def test_another_python_is_set_up_anew(checkout: Path) -> None:
    inv(checkout)
    before = done(checkout)
    newer = checkout.parent / "python-newer"
    shutil.copy(checkout / ".venv/bin/python", newer)
    (checkout / ".venv/bin/python").unlink()
    (checkout / ".venv/bin/python").symlink_to(newer)
    inv(checkout)
    assert len(done(checkout)) > len(before)


def test_a_list_that_changes_during_the_set_up_is_looked_at_again(checkout: Path) -> None:
    lists = checkout / "bindep.txt"
    program(checkout / ".venv/bin/bindep", f"[ -e {lists}.grown ] || echo '# one more' >> {lists}; : > {lists}.grown")
    inv(checkout)
    before = done(checkout)
    inv(checkout)
    assert len(done(checkout)) > len(before)


@pytest.mark.parametrize("stamp", ["", "/usr/bin/python3", "no\nstamp\n"], ids=["empty", "cut off", "another's"])
def test_a_damaged_stamp_is_no_stamp(checkout: Path, stamp: str) -> None:
    inv(checkout)
    before = done(checkout)
    (checkout / ".venv/.stamp").write_text(stamp)
    assert inv(checkout).returncode == 0
    assert len(done(checkout)) > len(before)


@pytest.mark.parametrize("name", ["bindep.txt", "constraints.txt", "pyproject.toml"])
def test_a_changed_list_is_looked_at_again(checkout: Path, name: str) -> None:
    inv(checkout)
    before = done(checkout)
    (checkout / name).write_text((checkout / name).read_text() + "\n# changed\n")
    inv(checkout)
    assert len(done(checkout)) > len(before)


def test_it_works_from_another_folder_and_through_a_link(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(checkout / "inv")
    result = inv(checkout, "list", cwd=Path("/"), path=tmp_path / "link")
    assert result.stdout == f"{checkout}/tasks.py list\n"


def test_a_user_with_sudo_uses_it(checkout: Path) -> None:
    sudo = checkout.parent / "bin/sudo"
    program(sudo, f'[ "$1" != -n ] || exit 0; echo "sudo $*" >> {checkout.parent}/log; exec "$@"')
    sudo.chmod(0o755)
    result = inv(checkout, user=NOBODY)
    assert result.returncode == 0, result.stderr
    assert "sudo sh -c (apt-get update" in done(checkout)
    assert "apt-get install -y -qq --no-install-recommends qemu-utils mtools" in done(checkout)


def test_a_user_without_root_or_sudo_is_told_the_one_command_to_have_run(checkout: Path) -> None:
    result = inv(checkout, user=NOBODY)
    assert result.returncode == 6
    assert "apt-get" not in done(checkout)
    (command,) = [line.removeprefix("inv:") for line in result.stderr.splitlines() if "apt-get" in line]
    environment = {"PATH": f"{checkout.parent / 'bin'}:/usr/bin:/bin"}
    subprocess.run(["sh", "-c", command], env=environment, check=True)  # as the administrator would
    assert "apt-get update" in done(checkout)
    assert "apt-get install -y -qq --no-install-recommends qemu-utils mtools" in done(checkout)


def test_a_failed_installation_is_not_taken_for_done(checkout: Path) -> None:
    program(checkout.parent / "bin/apt-get", "echo 'E: no network' >&2; exit 100")
    (checkout.parent / "bin/apt-get").chmod(0o755)
    assert inv(checkout).returncode != 0
    assert not (checkout / ".venv/.stamp").exists()


def test_nothing_is_written_beside_the_checkout(checkout: Path) -> None:
    before = set(os.listdir(checkout.parent))
    inv(checkout)
    assert set(os.listdir(checkout.parent)) - before <= {"tools"}
