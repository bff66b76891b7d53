"""`./inv` sets up what the tasks need, once, and says what it does. Everything outside of the script is a fake here."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.paths import PROJECT

NOBODY = 65534
LISTS = ("bindep.txt", "requirements/run.txt", "requirements/test.txt", "requirements/lint.txt")
# What there is of bindep.txt; the rest is missing.
BINDEP = """\
# a comment
sudo [platform:dpkg]
qemu-utils [platform:dpkg]
mtools [platform:dpkg]
qemu-system-x86 [platform:dpkg boot]
gcc [platform:dpkg test]
shellcheck [platform:dpkg lint test]
kpartx [platform:dpkg bench]
tools [platform:rpm]
"""
PYTHON = """\
case "$*" in
*ensurepip*) [ -e {folder}/installed/python3-venv ] ;;
*version_info*) [ ! -e {folder}/old-python ] ;;
--version) echo Python 3.9.2 ;;
*pipelines.util.virtualenv*)
    echo "packages $*" | sed 's#{checkout}/##g' >> {folder}/log
    [ ! -e {folder}/no-index ] || {{ rm -f {checkout}/.venv/.stamp; echo 'inv: error: no index' >&2; exit 6; }}
    mkdir -p {checkout}/.venv/bin
    ln -sf {folder}/bin/python3 {checkout}/.venv/bin/python
    chmod -R a+rwx {checkout}/.venv ;;
*/tasks.py*) echo "$*" ;;
esac
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users reach too, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture
def checkout(open_folder: Path) -> Path:
    """A checkout on a host that lacks qemu-utils and more; nothing is really installed."""
    folder = open_folder / "checkout"
    (folder / "requirements").mkdir(parents=True)
    for name in ("inv", *LISTS):
        shutil.copy(PROJECT / name, folder / name)
    (folder / "bindep.txt").write_text(BINDEP)
    (open_folder / "log").touch()
    for name in ("sudo", "python3-venv", "shellcheck"):
        _mark(open_folder / "installed" / name)
    values = {"folder": open_folder, "checkout": folder}
    program(open_folder / "bin/python3", PYTHON.format(**values))
    installed = f"cd {open_folder}/installed; for name; do [ ! -e $name ] || echo -n installed:$name\\ ; done; exit 1"
    program(open_folder / "bin/dpkg-query", installed)
    apt = f'echo "apt-get $*" >> {open_folder}/log; [ "$1" = install ] || exit 0; cd {open_folder}/installed'
    apt += '; for name in "${@:7}"; do : > $name; done'
    program(open_folder / "bin/apt-get", apt)
    for path in (open_folder, *open_folder.rglob("*")):
        path.chmod(0o777)
    return folder


def _mark(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.touch()


def program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o777)


def inv(
    checkout: Path,
    *arguments: str,
    user: int = 0,
    cwd: Path | None = None,
    path: Path | None = None,
    variables: Mapping[str, str] | None = None,
    umask: int = -1,
) -> "subprocess.CompletedProcess[str]":
    # Only the fakes' folder, and a folder with what the script calls: no real sudo is found.
    tools = checkout.parent / "tools"
    tools.mkdir(exist_ok=True)
    for name in (
        "bash",
        "sh",
        "cat",
        "chmod",
        "env",
        "flock",
        "id",
        "ln",
        "mkdir",
        "mv",
        "readlink",
        "rm",
        "sed",
        "stat",
    ):
        link = tools / name
        if not link.exists():
            link.symlink_to(shutil.which(name, path="/usr/bin:/bin") or "/bin/false")
    environment = {"PATH": f"{checkout.parent / 'bin'}:{tools}", "HOME": str(checkout)} | dict(variables or {})
    argv = ["/usr/bin/setpriv", f"--reuid={user}", "--clear-groups", str(path or checkout / "inv"), *arguments]
    return subprocess.run(
        argv, env=environment, cwd=cwd, umask=umask, capture_output=True, text=True, check=False, timeout=60
    )


def done(checkout: Path) -> str:
    return (checkout.parent / "log").read_text()


def forget(checkout: Path) -> None:
    (checkout.parent / "log").write_text("")


def new_packages(checkout: Path) -> set[str]:
    """The system packages that were installed."""
    installs = re.findall(r"^apt-get install .*Timeout=\d+ (.*)", done(checkout), re.MULTILINE)
    return set(" ".join(installs).split())


def new_sets(checkout: Path) -> list[list[str]]:
    """The lists of Python packages of each installation."""
    return [re.findall(r"requirements/(\w+)\.txt", line) for line in done(checkout).splitlines() if "packages" in line]


def test_the_first_call_installs_what_is_missing_and_reports_it(checkout: Path) -> None:
    result = inv(checkout, "build", "debian-cuda")
    assert result.returncode == 0, result.stderr
    assert "installing system packages: qemu-utils mtools\n" in result.stderr
    assert "apt-get update" in done(checkout)
    assert "apt-get install -y -qq --no-install-recommends" in done(checkout)
    assert new_packages(checkout) == {"qemu-utils", "mtools"}
    assert result.stdout == f"{checkout}/tasks.py build debian-cuda\n"


@pytest.mark.parametrize(
    ("line", "sets", "more"),
    [
        ("list", ["run"], set()),
        ("build debian-cuda --boot", ["run"], {"qemu-system-x86"}),
        ("verify --boot debian-cuda", ["run"], {"qemu-system-x86"}),
        ("refresh --cloud prod", ["run"], {"qemu-system-x86"}),
        ("refresh --cloud test --no-boot", ["run"], set()),
        ("refresh --cloud prod --dry-run", ["run"], set()),
        ("demo", ["run"], {"qemu-system-x86"}),
        ("test --fast", ["run", "test"], {"qemu-system-x86", "gcc"}),
        ("lint", ["run", "lint"], set()),
        ("lint test", ["run", "lint", "test"], {"qemu-system-x86", "gcc"}),
        ("demo test", ["run", "test"], {"qemu-system-x86", "gcc"}),
        ("bench", ["run"], {"kpartx"}),
        ("show test", ["run"], set()),
        ("prune --cloud lint", ["run"], set()),
        ("test --help", ["run"], set()),
        ("test -h", ["run"], set()),
        ("-h test", ["run"], set()),
        ("--list", ["run"], set()),
        ("", ["run"], set()),
    ],
)
def test_a_task_brings_what_it_needs_and_no_more(checkout: Path, line: str, sets: list[str], more: set[str]) -> None:
    result = inv(checkout, *line.split())
    assert result.returncode == 0, result.stderr
    assert new_sets(checkout) == [sets]
    assert new_packages(checkout) == {"qemu-utils", "mtools"} | more


def _while_python_packages_are_installed(checkout: Path, script: str) -> None:
    python = checkout.parent / "bin/python3"
    python.write_text(python.read_text().replace("    mkdir -p", f"    {script}\n    mkdir -p"))


def test_another_task_adds_its_packages_to_those_that_are_there(checkout: Path) -> None:
    inv(checkout, "list")
    forget(checkout)
    inv(checkout, "lint")
    inv(checkout, "test")
    assert new_sets(checkout) == [["run", "lint"], ["run", "lint", "test"]]
    assert done(checkout).count("virtualenv --keep") == 2
    assert new_packages(checkout) == {"qemu-system-x86", "gcc"}


def test_a_task_that_needs_less_than_is_there_installs_nothing(checkout: Path) -> None:
    inv(checkout, "test")
    forget(checkout)
    for line in ("list", "build x --boot", "test --fast"):
        assert inv(checkout, *line.split()).stderr == ""
    assert done(checkout) == ""


def test_booting_an_image_later_touches_no_python_package(checkout: Path) -> None:
    inv(checkout, "list")
    forget(checkout)
    inv(checkout, "refresh", "--cloud", "prod")
    assert new_packages(checkout) == {"qemu-system-x86"}
    assert new_sets(checkout) == []


def test_the_second_call_installs_nothing_and_prints_nothing(checkout: Path) -> None:
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


def test_compiled_modules_are_stored_even_where_a_container_forbids_it(checkout: Path) -> None:
    inv(checkout)
    program(checkout.parent / "bin/python3", 'echo "${PYTHONDONTWRITEBYTECODE-kept}"')
    argv = [checkout / "inv", "--list"]
    environment = {"PATH": "/nowhere", "PYTHONDONTWRITEBYTECODE": "1"}
    assert subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout == "kept\n"


def test_our_modules_are_found_where_python_is_told_to_leave_out_a_scripts_folder(checkout: Path) -> None:
    inv(checkout, "list")
    program(checkout.parent / "bin/python3", 'echo "safe: ${PYTHONSAFEPATH:-no}"')
    assert inv(checkout, "list", variables={"PYTHONSAFEPATH": "1"}).stdout == "safe: no\n"


def test_for_another_python_everything_is_made_again(checkout: Path) -> None:
    inv(checkout, "lint")
    forget(checkout)
    newer = checkout.parent / "python-newer"
    shutil.copy(checkout.parent / "bin/python3", newer)
    (checkout / ".venv/bin/python").unlink()
    (checkout / ".venv/bin/python").symlink_to(newer)
    inv(checkout)
    assert new_sets(checkout) == [["run"]]
    assert "--keep" not in done(checkout)


def test_a_list_that_changes_during_the_set_up_is_looked_at_again(checkout: Path) -> None:
    lock = checkout / "requirements/run.txt"
    _while_python_packages_are_installed(
        checkout, f"[ -e {lock}.grown ] || {{ echo '# one more' >> {lock}; : > {lock}.grown; }}"
    )
    inv(checkout)
    forget(checkout)
    inv(checkout)
    assert new_sets(checkout) == [["run"]]


@pytest.mark.parametrize(
    "stamp",
    ["", "/usr/bin/python3", "no\nstamp\n", "{python}\n# System packages\nsudo [platform:dpkg]\n"],
    ids=["empty", "cut off", "another's", "an older checkout's"],
)
def test_without_a_stamp_of_ours_the_environment_is_made_again(checkout: Path, stamp: str) -> None:
    inv(checkout)
    forget(checkout)
    (checkout / ".venv/.stamp").write_text(stamp.format(python=checkout.parent / "bin/python3"))
    assert inv(checkout).returncode == 0
    assert new_sets(checkout) == [["run"]]
    assert "--keep" not in done(checkout)


def test_a_changed_lock_is_installed_with_all_that_was_there(checkout: Path) -> None:
    inv(checkout, "lint")
    forget(checkout)
    with (checkout / "requirements/lint.txt").open("a") as lock:
        lock.write("# changed\n")
    inv(checkout, "list")
    assert new_sets(checkout) == [["run", "lint"]]
    assert "--keep" in done(checkout)


def test_what_a_site_adds_is_installed_too(checkout: Path) -> None:
    inv(checkout, "list")
    forget(checkout)
    (checkout / "requirements/site.txt").write_text("s3fs==1\n")
    inv(checkout, "list")
    assert new_sets(checkout) == [["run", "site"]]
    (checkout / "requirements/site.txt").unlink()
    forget(checkout)
    inv(checkout, "list")
    assert new_sets(checkout) == [["run"]]


def test_a_changed_list_of_system_packages_is_looked_at_again(checkout: Path) -> None:
    inv(checkout)
    forget(checkout)
    with (checkout / "bindep.txt").open("a") as lists:
        lists.write("zstd [platform:dpkg]\n")
    inv(checkout)
    assert (new_packages(checkout), new_sets(checkout)) == ({"zstd"}, [])


def test_it_works_from_another_folder_and_through_a_link(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(checkout / "inv")
    result = inv(checkout, "list", cwd=Path("/"), path=tmp_path / "link")
    assert result.stdout == f"{checkout}/tasks.py list\n"


def test_a_user_with_sudo_uses_it(checkout: Path) -> None:
    program(
        checkout.parent / "bin/sudo", f'[ "$1" != -n ] || exit 0; echo "sudo $*" >> {checkout.parent}/log; exec "$@"'
    )
    result = inv(checkout, user=NOBODY)
    assert result.returncode == 0, result.stderr
    assert "sudo sh -c (apt-get update" in done(checkout)
    assert new_packages(checkout) == {"qemu-utils", "mtools"}


def test_a_user_without_root_or_sudo_is_told_the_one_command_to_have_run(checkout: Path) -> None:
    (checkout.parent / "installed/python3-venv").unlink()
    result = inv(checkout, user=NOBODY)
    assert result.returncode == 6
    assert "apt-get" not in done(checkout)
    _run_as_administrator(checkout, result.stderr)
    assert new_packages(checkout) == {"qemu-utils", "mtools", "python3", "python3-venv"}
    forget(checkout)
    assert inv(checkout, user=NOBODY).returncode == 0
    assert "apt-get" not in done(checkout)


def _run_as_administrator(checkout: Path, printed: str) -> None:
    (command,) = [line.removeprefix("inv:") for line in printed.splitlines() if "apt-get" in line]
    environment = {"PATH": f"{checkout.parent / 'bin'}:/usr/bin:/bin"}
    subprocess.run(["sh", "-c", command], env=environment, check=True)


def test_without_system_packages_the_task_runs_and_they_are_named_with_the_command(checkout: Path) -> None:
    result = inv(checkout, "--no-system", "list")
    assert (result.returncode, result.stdout) == (0, f"{checkout}/tasks.py list\n")
    assert "missing system packages: qemu-utils mtools\n" in result.stderr
    assert "apt-get" not in done(checkout)
    forget(checkout)
    assert "qemu-utils mtools" in inv(checkout, "--no-system", "list").stderr  # until they are installed
    _run_as_administrator(checkout, result.stderr)
    assert inv(checkout, "list", "--no-system").stderr == ""
    forget(checkout)
    assert inv(checkout, "list").stderr == ""
    assert done(checkout) == ""


def test_without_system_packages_and_without_pythons_own_it_ends_with_the_command(checkout: Path) -> None:
    (checkout.parent / "installed/python3-venv").unlink()
    result = inv(checkout, "--no-system", "list")
    assert (result.returncode, result.stdout) == (6, "")
    assert "qemu-utils mtools python3 python3-venv\n" in result.stderr


def test_another_user_runs_what_is_set_up_and_writes_nothing(checkout: Path) -> None:
    inv(checkout)
    _protect(checkout)
    before = sorted(checkout.rglob("*"))
    result = inv(checkout, "list", user=NOBODY)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{checkout}/tasks.py list\n"
    assert sorted(checkout.rglob("*")) == before


def test_another_user_may_read_what_a_user_with_a_strict_umask_has_set_up(checkout: Path) -> None:
    inv(checkout, "list", umask=0o077)
    checkout.chmod(0o755)
    result = inv(checkout, "list", user=NOBODY)
    assert (result.stderr, result.stdout) == ("", f"{checkout}/tasks.py list\n")


def test_the_task_has_the_umask_of_the_user(checkout: Path) -> None:
    python = checkout.parent / "bin/python3"
    python.write_text(python.read_text().replace('*/tasks.py*) echo "$*"', "*/tasks.py*) umask"))
    assert inv(checkout, "list", umask=0o077).stdout == "0077\n"


def test_another_user_boots_images_where_the_packages_are_installed(checkout: Path) -> None:
    inv(checkout)
    _protect(checkout)
    assert inv(checkout, "verify", "--boot", user=NOBODY).returncode == 6
    _mark(checkout.parent / "installed/qemu-system-x86")
    result = inv(checkout, "verify", "--boot", user=NOBODY)
    assert (result.returncode, result.stderr) == (0, "")


def test_another_user_is_told_who_has_to_set_it_up(checkout: Path) -> None:
    _protect(checkout)
    result = inv(checkout, "list", user=NOBODY)
    assert (result.returncode, result.stdout, done(checkout)) == (6, "", "")
    assert "cannot write" in result.stderr
    assert "root, who owns it" in result.stderr


def _protect(checkout: Path) -> None:
    for path in (checkout, *checkout.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)


@pytest.mark.parametrize(
    ("printed", "remedy"),
    [
        ("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (apt)", "wait for it to end"),
        ("E: You don't have enough free space in /var/cache/apt/archives/.", "free some space"),
        (
            "dpkg: error: cannot write: No space left on device\nE: Sub-process /usr/bin/dpkg returned 1",
            "free some space",
        ),
        ("E: dpkg was interrupted, you must manually run 'dpkg --configure -a'", "dpkg --configure -a"),
        ("W: Could not resolve 'debian.example'\nE: Unable to locate package mtools", "Check the network"),
        ("E: Unable to locate package mtools", "Debian 12"),
        ("E: Could not open lock file - open (13: Permission denied)", "--no-system"),
        ("E: something else", "Run this command as root"),
    ],
)
def test_a_failed_installation_has_its_reason_and_remedy(checkout: Path, printed: str, remedy: str) -> None:
    program(checkout.parent / "bin/apt-get", f"cat >&2 <<'END'\n{printed}\nEND\nexit 100")
    result = inv(checkout)
    assert (result.returncode, result.stdout) == (6, "")
    reason = next(line.removeprefix("E: ") for line in printed.splitlines() if line.startswith("E: "))
    assert f"inv: error: system packages could not be installed: {reason}\n" in result.stderr
    assert remedy in result.stderr
    assert not (checkout / ".venv").exists()


def test_apt_waits_for_another_installation(checkout: Path) -> None:
    inv(checkout)
    assert "DPkg::Lock::Timeout=300" in done(checkout)


def test_what_apt_warns_of_stays_quiet_when_all_went_well(checkout: Path) -> None:
    program(checkout.parent / "bin/apt-get", "echo 'debconf: delaying package configuration' >&2")
    assert "debconf" not in inv(checkout).stderr


def test_failed_python_packages_are_not_taken_for_installed(checkout: Path) -> None:
    (checkout.parent / "no-index").touch()
    result = inv(checkout)
    assert (result.returncode, result.stdout) == (6, "")
    assert "inv: error: no index" in result.stderr
    assert not (checkout / ".venv/.stamp").exists()
    (checkout.parent / "no-index").unlink()
    assert inv(checkout).returncode == 0


def test_an_old_python_is_refused(checkout: Path) -> None:
    (checkout.parent / "old-python").touch()
    result = inv(checkout)
    assert result.returncode == 6
    assert "Python 3.9.2 is too old" in result.stderr


def test_a_second_call_at_the_same_time_waits_and_reports_that(checkout: Path) -> None:
    _while_python_packages_are_installed(checkout, f"while [ ! -e {checkout.parent}/go ]; do :; done")
    tools = checkout.parent / "tools"
    inv(checkout, "list", user=NOBODY, path=Path("/bin/true"))  # makes the tools' folder
    environment = {"PATH": f"{checkout.parent / 'bin'}:{tools}", "HOME": str(checkout)}
    argv = [checkout / "inv", "list"]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        assert _comes_true(lambda: "packages" in done(checkout))
        with subprocess.Popen(
            argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as second:
            assert second.stderr is not None
            assert "waiting for another ./inv" in second.stderr.readline()
            (checkout.parent / "go").touch()
            assert (first.wait(), second.wait()) == (0, 0)
    assert new_sets(checkout) == [["run"]]


def _comes_true(what: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not what() and time.monotonic() < deadline:
        time.sleep(0.02)
    return what()


def test_nothing_is_written_beside_the_checkout(checkout: Path) -> None:
    before = set(os.listdir(checkout.parent))
    inv(checkout)
    assert set(os.listdir(checkout.parent)) - before <= {"tools"}
