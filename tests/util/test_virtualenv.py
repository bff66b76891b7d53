"""Environments hold what their lock files name, or a reason says why not. uv is real, offline, with tiny wheels."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pipelines.util import virtualenv
from pipelines.util.errors import HostError

UV = Path(sys.executable).with_name("uv")  # of the set of the tests
# A Python that makes environments quickly: that of the tools gets a pip which installs the real uv.
PYTHON = """\
case "$*" in
"-m venv --clear "*)
    tools=$4/bin; mkdir -p "$tools"; ln -s "{fakes}/pip" "$tools/python" ;;
*) exec {python} "$@" ;;
esac
"""
PIP = """\
case "$*" in
*" install "*) [ ! -e {fakes}/pip-fails ] || {{ cat {fakes}/pip-fails >&2; exit 1; }}; ln -s {uv} "${{0%/*}}/uv" ;;
*" config list") cat {fakes}/pip-config ;;
*" config get global.find-links") echo {fakes}/wheels ;;
*) exit 1 ;;
esac
"""


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of fakes, and in it `wheels`, which pip's configuration names as the only place of packages."""
    folder = tmp_path / "fakes"
    (folder / "wheels").mkdir(parents=True)
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    _program(folder / "python", PYTHON.format(fakes=folder, python=base))
    _program(folder / "pip", PIP.format(fakes=folder, uv=UV))
    configure(folder, f"global.find-links='{folder}/wheels'\nglobal.no-index='true'")
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    for name in os.environ:
        if name.startswith(("UV_", "PIP_")):
            monkeypatch.delenv(name)
    return folder


def _program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/bash\n{script}")
    path.chmod(0o755)


def configure(fakes: Path, text: str) -> None:
    (fakes / "pip-config").write_text(f"{text}\n")


def wheel(fakes: Path, name: str, version: str = "1.0") -> str:
    """Make a wheel with one module; its line of a lock file."""
    path = fakes / "wheels" / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    content = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {file: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()) for file, text in content.items()}
    record = "".join(f"{file},sha256={digests[file].decode().rstrip('=')},{len(content[file])}\n" for file in content)
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**content, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(file, text)
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def lock(fakes: Path, *lines: str, name: str = "run") -> Path:
    path = fakes / f"{name}.txt"
    path.write_text("".join(lines))
    return path


def modules(venv: Path) -> set[str]:
    return {path.stem for path in venv.glob("lib/python3*/site-packages/*.py")}


def test_it_has_exactly_what_the_locks_name_compiled_and_no_installer(fakes: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    locks = [lock(fakes, wheel(fakes, "one")), lock(fakes, wheel(fakes, "two"), name="test")]
    virtualenv.install(venv, locks)
    assert modules(venv) == {"one", "two"}
    assert {path.name for path in (venv / "bin").glob("*")} >= {"python"}
    assert not [path for path in venv.rglob("*") if path.name in {"pip", "uv", ".setup"}]
    assert list(venv.glob("lib/python3*/site-packages/__pycache__/one.*.pyc"))
    argv = [venv / "bin" / "python", "-c", "import one, two; print(one.VERSION)"]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "1.0\n"


def test_keeping_changes_only_what_differs(fakes: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    one, two = wheel(fakes, "one"), wheel(fakes, "two")
    virtualenv.install(venv, [lock(fakes, one, two)])
    (kept,) = venv.glob("lib/python3*/site-packages/one.py")
    before = kept.stat().st_ino
    virtualenv.install(venv, [lock(fakes, one, wheel(fakes, "three"))], keep=True)
    assert (modules(venv), kept.stat().st_ino) == ({"one", "three"}, before)


def test_an_environment_with_pip_is_replaced(fakes: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    virtualenv.install(venv, [lock(fakes, wheel(fakes, "one"))])
    stray = next(venv.glob("lib/python3*/site-packages")) / "pip" / "__init__.py"
    stray.parent.mkdir()
    stray.touch()
    virtualenv.install(venv, [lock(fakes, wheel(fakes, "one"))])
    assert not stray.exists()


@pytest.mark.parametrize("keep", [False, True])
def test_a_link_is_replaced_and_the_environment_that_it_leads_to_stays(fakes: Path, tmp_path: Path, keep: bool) -> None:
    shared, venv = tmp_path / "shared", tmp_path / "venv"
    virtualenv.install(shared, [lock(fakes, wheel(fakes, "one"))])
    (shared / virtualenv.STAMP).write_text("run")
    venv.symlink_to(shared)
    virtualenv.install(venv, [lock(fakes, wheel(fakes, "two"))], keep=keep)
    assert (modules(shared), modules(venv)) == ({"one"}, {"two"})
    assert (shared / virtualenv.STAMP).read_text() == "run"


def failure(venv: Path, locks: list[Path], *, keep: bool = False) -> HostError:
    with pytest.raises(HostError) as failed:
        virtualenv.install(venv, locks, keep=keep)
    assert failed.value.exit_code == 6
    return failed.value


def test_a_file_with_another_digest_is_refused(fakes: Path, tmp_path: Path) -> None:
    line = wheel(fakes, "one")[:-65] + "0" * 64
    error = failure(tmp_path / "venv", [lock(fakes, line)])
    assert "Hash mismatch for `one==1.0`" in error.what
    assert "unchanged" in error.remedy
    assert modules(tmp_path / "venv") == set()


def test_a_package_without_a_digest_is_refused(fakes: Path, tmp_path: Path) -> None:
    line = wheel(fakes, "one").split()[0]
    assert "hash" in failure(tmp_path / "venv", [lock(fakes, line)]).what


def test_a_package_that_the_index_lacks_is_named(fakes: Path, tmp_path: Path) -> None:
    line = wheel(fakes, "one").replace("1.0", "2.0")
    error = failure(tmp_path / "venv", [lock(fakes, line)])
    assert "one==2.0" in error.what
    assert "global.index-url" in error.remedy


def test_an_index_that_does_not_answer_is_a_matter_of_the_network(fakes: Path, tmp_path: Path) -> None:
    configure(fakes, "global.index-url='http://user:secret@127.0.0.1:1/simple'\nglobal.retries='1'")
    error = failure(tmp_path / "venv", [lock(fakes, wheel(fakes, "one"))])
    assert "127.0.0.1:1/simple/one/: " in error.what
    assert "secret" not in error.what
    assert "Connection refused" in error.what
    assert "Check the network" in error.remedy


def test_of_a_setting_that_several_files_have_the_one_that_pip_uses_counts(fakes: Path, tmp_path: Path) -> None:
    files = f"global.find-links='{fakes}/wheels'\nglobal.find-links='{tmp_path}/missing'\n"
    configure(fakes, f"{files}global.no-index='true'")
    virtualenv.install(tmp_path / "venv", [lock(fakes, wheel(fakes, "one"))])
    assert modules(tmp_path / "venv") == {"one"}


def test_another_index_may_be_down_when_the_main_one_has_everything(fakes: Path, tmp_path: Path) -> None:
    simple = tmp_path / "simple" / "one"
    simple.mkdir(parents=True)
    line = wheel(fakes, "one")
    name = "one-1.0-py3-none-any.whl"
    shutil.copy(fakes / "wheels" / name, simple / name)
    (simple / "index.html").write_text(f'<a href="{name}">{name}</a>')
    more = "global.extra-index-url='http://127.0.0.1:1/simple'\nglobal.retries='0'"
    configure(fakes, f"global.index-url='file://{tmp_path}/simple'\n{more}")
    virtualenv.install(tmp_path / "venv", [lock(fakes, line)])
    assert modules(tmp_path / "venv") == {"one"}


@pytest.mark.parametrize(
    ("printed", "reason", "remedy"),
    [
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'SSLError(CertError(1, "
            "'[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c)'))': /uv/\n"
            "ERROR: Could not find a version that satisfies the requirement uv==1 (from versions: none)",
            "certificate verify failed: self-signed certificate",
            "global.cert",
        ),
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<pip object at 0x7>: "
            "Failed to establish a new connection: [Errno 111] Connection refused')': /simple/uv/\n"
            "ERROR: Could not find a version that satisfies the requirement uv==1 (from versions: none)",
            "Connection refused",
            "Check the network",
        ),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
            "DO NOT MATCH THE HASHES",
            "unchanged",
        ),
        (
            "ERROR: No matching distribution found for uv==1",
            "No matching distribution found for uv==1",
            "The index lacks a package",
        ),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "No space left",
            "free some space",
        ),
        ("ERROR: 401 Client Error: Unauthorized for url", "401", "user and password"),
        ("Segmentation fault", "Segmentation fault", "run the command again"),
    ],
    ids=["certificate", "network", "digest", "missing", "disk", "password", "something else"],
)
def test_what_pip_fails_with_has_its_reason_and_remedy(
    fakes: Path, tmp_path: Path, printed: str, reason: str, remedy: str
) -> None:
    (fakes / "pip-fails").write_text(printed)
    error = failure(tmp_path / "venv", [lock(fakes, wheel(fakes, "one"))])
    assert reason in error.what
    assert remedy in error.remedy
    assert "WARNING" not in error.what


def test_a_folder_that_cannot_be_written_is_an_error_that_names_who_can_help(fakes: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    error = failure(tmp_path / "file" / "venv", [lock(fakes, wheel(fakes, "one"))])
    assert str(tmp_path / "file") in error.what


def test_a_failure_before_the_first_change_leaves_the_stamp(fakes: Path, tmp_path: Path) -> None:
    venv, one = tmp_path / "venv", wheel(fakes, "one")
    virtualenv.install(venv, [lock(fakes, one)])
    (venv / virtualenv.STAMP).write_text("run")
    missing = one.replace("one", "missing")
    failure(venv, [lock(fakes, one, missing)], keep=True)
    assert (venv / virtualenv.STAMP).read_text() == "run"
    assert modules(venv) == {"one"}


def test_an_environment_that_is_changed_has_no_stamp(fakes: Path, tmp_path: Path) -> None:
    venv, one = tmp_path / "venv", wheel(fakes, "one")
    virtualenv.install(venv, [lock(fakes, one)])
    (venv / virtualenv.STAMP).write_text("run")
    virtualenv.install(venv, [lock(fakes, one, wheel(fakes, "two"))], keep=True)
    assert not (venv / virtualenv.STAMP).exists()


def test_settings_of_uv_that_would_turn_checks_off_do_not_reach_it(
    fakes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_NO_VERIFY_HASHES", "1")
    monkeypatch.setenv("UV_CONSTRAINT", "/no/such/file")
    line = wheel(fakes, "one")[:-65] + "0" * 64
    assert "Hash mismatch" in failure(tmp_path / "venv", [lock(fakes, line)]).what


def test_the_command_of_inv_prints_the_reason_and_ends_with_6(
    fakes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = lock(fakes, wheel(fakes, "one")), lock(fakes, "missing==1 --hash=sha256:" + "0" * 64, name="bad")
    assert virtualenv.main([str(tmp_path / "venv"), str(good)]) == 0
    assert virtualenv.main(["--keep", str(tmp_path / "venv"), str(bad)]) == 6
    error, remedy = capsys.readouterr().err.splitlines()
    assert error.startswith("inv: error: Python packages could not be installed: ")
    assert remedy.startswith("inv: remedy: ")
