"""Rules and linters for elements; each is seen to fail on a broken element."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.elements import rules
from tests.support.paths import DIB_ELEMENTS, ELEMENTS

GUARD = 'if [ "${DIB_DEBUG_TRACE:-0}" -gt 0 ]; then\n    set -x\nfi\nset -eu\nset -o pipefail\n'
GOOD = f"#!/bin/bash\n#\n# Runs in the chroot. Guarantees that nothing happens.\n\n{GUARD}\ntrue\n"


def element(tmp_path: Path, script: str = GOOD, name: str = "50-do-nothing", **files: str) -> Path:
    folder = tmp_path / "elements" / "example"
    (folder / "install.d").mkdir(parents=True)
    (folder / "README.rst").write_text("=======\nexample\n=======\n\nAn example.\n")
    path = folder / "install.d" / name
    path.write_text(script)
    path.chmod(0o755)
    for file, text in files.items():
        (folder / file.replace("_", "-")).write_text(text)
    return folder


def complaints(folder: Path) -> list[str]:
    return [complaint for rule in rules.RULES for complaint in rule(folder)]


def dib_lint(elements: Path) -> "subprocess.CompletedProcess[str]":
    # dib-lint runs flake8 and the python of its own environment, which need not be activated.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"ELEMENTS_DIR": elements.name, "LIB_DIR": elements.name, "PATH": path}
    argv = [Path(sys.executable).parent / "dib-lint"]
    return subprocess.run(argv, cwd=elements.parent, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("folder", sorted(ELEMENTS.iterdir()), ids=lambda path: path.name)
def test_each_element_keeps_our_rules(folder: Path) -> None:
    assert complaints(folder) == []


def test_the_example_that_the_others_break_is_good(tmp_path: Path) -> None:
    assert complaints(element(tmp_path)) == []
    assert dib_lint(tmp_path / "elements").returncode == 0


def test_a_dot_in_a_scripts_name_is_found(tmp_path: Path) -> None:
    assert "without a dot" in complaints(element(tmp_path, name="50-do-nothing.sh"))[0]


def test_a_script_that_is_not_executable_is_found(tmp_path: Path) -> None:
    folder = element(tmp_path)
    (folder / "install.d/50-do-nothing").chmod(0o644)
    assert "not executable" in complaints(folder)[0]


def test_a_script_that_does_not_say_where_it_runs_is_found(tmp_path: Path) -> None:
    assert "Runs in the chroot" in complaints(element(tmp_path, GOOD.replace("Runs in the chroot. ", "")))[0]


def test_a_variable_without_documentation_is_found(tmp_path: Path) -> None:
    assert "reads DIB_SECRET_SAUCE" in complaints(element(tmp_path, GOOD + 'echo "${DIB_SECRET_SAUCE:-}"\n'))[0]


def test_package_installs_without_its_dependency_is_found(tmp_path: Path) -> None:
    folder = element(tmp_path)
    (folder / "package-installs.yaml").write_text("gcc:\n")
    assert "does not depend on package-installs" in complaints(folder)[0]


def test_a_package_map_that_is_no_json_is_found(tmp_path: Path) -> None:
    assert "pkg-map" in complaints(element(tmp_path, pkg_map="{", element_deps="pkg-map\n"))[0]


@pytest.mark.parametrize(
    "command", ["apt-get -y install gcc", "apt install gcc", "dpkg-query --show", "x=$(rpm -q a)", "lsinitramfs a"]
)
def test_a_package_manager_outside_its_family_is_found(tmp_path: Path, command: str) -> None:
    assert "subcommand of guest-os" in complaints(element(tmp_path, GOOD + command + "\n"))[0]


def test_dib_lint_finds_a_script_without_errexit(tmp_path: Path) -> None:
    element(tmp_path, GOOD.replace("set -eu", "set -u"))
    result = dib_lint(tmp_path / "elements")
    assert result.returncode != 0
    assert "is not set -e" in result.stdout


def test_dib_lint_finds_a_script_that_hides_a_failing_pipe(tmp_path: Path) -> None:
    element(tmp_path, GOOD.replace("set -o pipefail\n", ""))
    assert "is not set -o pipefail" in dib_lint(tmp_path / "elements").stdout


def test_shellcheck_finds_an_unquoted_variable(tmp_path: Path) -> None:
    folder = element(tmp_path, GOOD + "name=$1\nrm -rf $name\n")
    argv = ["shellcheck", folder / "install.d/50-do-nothing"]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "SC2086" in result.stdout


def test_the_empty_dkms_element_hides_the_one_of_diskimage_builder() -> None:
    assert [path.name for path in (ELEMENTS / "dkms").iterdir()] == ["README.rst"]
    assert (DIB_ELEMENTS / "dkms/post-install.d").is_dir(), "nothing to hide: remove elements/dkms"
