"""The wall between distributions: one guest-os per family, with the same subcommands, documented and used."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ELEMENTS

FAMILIES = ("debian-family", "redhat-family")
CALL = re.compile(r"\bguest-os ([a-z][a-z-]*)")


def guest_os(family: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    argv = ["bash", ELEMENTS / family / "bin/guest-os", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


def subcommands(family: str) -> set[str]:
    """What the program itself lists when it is given none of its subcommands."""
    return {line.strip() for line in guest_os(family, "no-such").stderr.splitlines() if line.startswith("  ")}


def calls(file: Path) -> set[str]:
    """The subcommands that a script calls, comments aside."""
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
    return set(CALL.findall("\n".join(lines)))


def called() -> set[str]:
    files = [path for path in ELEMENTS.glob("*/*/*") if path.is_file() and path.name != "guest-os"]
    return {name for path in files for name in calls(path)}


def test_both_families_have_the_same_subcommands() -> None:
    assert subcommands("debian-family") == subcommands("redhat-family") != set()


def test_each_subcommand_is_called_by_an_element_and_each_call_names_one() -> None:
    assert called() == subcommands("debian-family")


@pytest.mark.parametrize("family", FAMILIES)
def test_each_subcommand_is_in_the_table_of_the_familys_readme(family: str) -> None:
    readme = (ELEMENTS / family / "README.rst").read_text()
    assert set(re.findall(r"^``([a-z-]+)[ `]", readme, re.MULTILINE)) >= subcommands(family)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["no-such", "", "_pin", "install_packages", "shopt"])
def test_what_is_not_a_subcommand_fails_and_lists_those_there_are(family: str, name: str) -> None:
    result = guest_os(family, name)
    assert result.returncode == 2
    assert result.stderr.startswith(f'ERROR: guest-os has no subcommand "{name}". Its subcommands:\n  add-repository\n')


def test_debian_refuses_a_module_stream() -> None:
    result = guest_os("debian-family", "enable-stream", "nvidia-driver:580-open")
    assert result.returncode == 1
    assert "nvidia-driver:580-open is a module stream" in result.stderr
