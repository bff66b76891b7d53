"""Linters of the project: shell lines by name, and a check of the catalog.

The lines are for a shell in the project's folder with the environment's programs on PATH. The catalog is checked
without a network: an upload compares the properties with the metadata definitions of its cloud.
"""

from collections.abc import Mapping
from pathlib import Path

from pipelines.catalog import loader
from pipelines.util import console
from pipelines.util.errors import CatalogError

_SCRIPTS = "$(grep -rIlE '^#!/bin/bash' inv .ci elements tests benchmarks)"

COMMANDS: Mapping[str, str] = {
    "ruff": "ruff check .",
    "ruff format": "ruff format --check .",
    "mypy": "mypy",
    "import-linter": "lint-imports --no-logo",
    "shellcheck": f"shellcheck {_SCRIPTS} $(find elements -path '*/environment.d/*')",
    # It lists all that it checks at length; only the errors count.
    "dib-lint": "found=$(env ELEMENTS_DIR=elements LIB_DIR=elements dib-lint 2>&1)"
    " || { printf '%s\\n' \"$found\" | grep -A3 ERROR; exit 1; }",
    "yamllint": "yamllint --strict .",
}


def passes(images: Path) -> bool:
    """Whether a catalog is valid: its images and their properties, also as it changes them for each cloud."""
    try:
        loaded = loader.load(images)
    except CatalogError as error:
        console.fail(error)
        return False
    clouds = f", also as changed for {', '.join(loaded.clouds)}" if loaded.clouds else ""
    console.note(f"{images.name}: {len(loaded.variants)} images are valid{clouds}")
    return True
