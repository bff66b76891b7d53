"""The lock files agree with pyproject.toml, with each other and with what is installed."""

import importlib.metadata
import re
import tomllib
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipelines.cli import lock
from tests.support.paths import PROJECT

PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))


def wanted(group: str) -> Iterator[Requirement]:
    """What pyproject.toml asks for directly; its run-time dependencies for no group."""
    for entry in PYPROJECT["dependency-groups"][group] if group else PYPROJECT["project"]["dependencies"]:
        if isinstance(entry, dict):
            yield from wanted(entry["include-group"])
        else:
            yield Requirement(entry)


def locked(file: lock.Lock) -> dict[str, str]:
    """Name → exact version."""
    text = (PROJECT / file.path).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", text, re.MULTILINE))


@pytest.mark.parametrize("file", lock.LOCKS, ids=lambda file: str(file.path))
def test_a_lock_has_all_that_pyproject_asks_for_in_a_version_that_it_allows(file: lock.Lock) -> None:
    versions = locked(file)
    for requirement in wanted(file.group):
        version = versions.get(canonicalize_name(requirement.name), "none")
        assert version != "none", f"{requirement} is not in {file.path}: run `./inv lock`"
        assert requirement.specifier.contains(version), f"{requirement}, not {version}: run `./inv lock`"


@pytest.mark.parametrize("file", lock.LOCKS, ids=lambda file: str(file.path))
def test_every_package_has_an_exact_version_and_digests_and_none_a_place(file: lock.Lock) -> None:
    text = (PROJECT / file.path).read_text(encoding="utf-8")
    assert "://" not in text
    assert "index" not in text
    entries = [block for block in re.split(r"\n(?=[a-z])", text) if not block.startswith("--")]
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9-]+==\S+ .*\\\n    --hash=sha256:[0-9a-f]{64}", entry), entry


def test_nothing_but_one_package_of_the_local_cloud_is_built_from_source() -> None:
    heads = {file.path: (PROJECT / file.path).read_text(encoding="utf-8").split("\n\n")[0] for file in lock.LOCKS}
    exceptions = {path: re.findall(r"--no-binary (\S+)", head) for path, head in heads.items()}
    assert [names for names in exceptions.values() if names] == [["simplegeneric"]]
    assert all("--only-binary :all:" in head for head in heads.values())


def test_sets_that_share_an_environment_agree() -> None:
    together: dict[str, str] = {}
    for file in (lock.RUN, lock.TEST, lock.LINT):
        for name, version in locked(file).items():
            assert together.setdefault(name, version) == version, name


def test_what_an_installed_package_requires_is_locked_unless_excluded_with_a_reason() -> None:
    versions = locked(lock.RUN)
    missing = {
        f"{name} requires {requirement.name}"
        for name in versions
        for requirement in map(Requirement, _requires(name))
        if not requirement.marker or requirement.marker.evaluate({"extra": ""})
        if canonicalize_name(requirement.name) not in versions.keys() | lock.EXCLUDED.keys()
    }
    assert not missing


def _requires(name: str) -> list[str]:
    try:
        return importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []  # another platform's


def test_linters_test_tools_and_installers_are_not_among_the_run_time_packages() -> None:
    unwanted = {"bindep", "flake8", "hypothesis", "mypy", "pip", "pytest", "ruff", "selenium", "setuptools", "uv"}
    assert not locked(lock.RUN).keys() & unwanted
