"""Tests import what they share from tests/support alone, and know their folders from one module."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import PROJECT

MODULES = sorted(path for path in (PROJECT / "tests").rglob("*.py") if path != Path(__file__))


def imported(path: Path) -> Iterator[str]:
    """Each module that a file names in an import, also one inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_no_module_imports_from_a_test_module_or_a_conftest() -> None:
    found = {(path.name, name) for path in MODULES for name in imported(path) if name.startswith("tests.")}
    assert [each for each in sorted(found) if re.search(r"\.(test_|conftest\b)", each[1])] == []


def test_no_module_looks_for_the_checkout_from_its_own_path() -> None:
    found = [path.name for path in MODULES if "Path(__file__).parent.parent" in path.read_text()]
    assert found == [], "import PROJECT from tests.support.paths"
