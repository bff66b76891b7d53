"""Which linters does the project pass?

Shell lines by name, for a shell in the project's folder with the environment's programs on PATH; and the catalog,
which is checked without a network: what a cloud's own metadata definitions say, an upload asks.
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
    # It says what it checks at length; what counts are the errors.
    "dib-lint": "env ELEMENTS_DIR=elements LIB_DIR=elements dib-lint > /tmp/dib-lint.$$ 2>&1"
    " || { grep -A3 ERROR /tmp/dib-lint.$$; rm /tmp/dib-lint.$$; exit 1; }; rm /tmp/dib-lint.$$",
    "yamllint": "yamllint --strict .",
}


def passes(images: Path) -> bool:
    """Whether all images of a catalog are right, properties included, as every cloud that it mentions has them."""
    try:
        loaded = loader.load(images)
    except CatalogError as error:
        console.fail(error)
        return False
    clouds = f", and as {', '.join(loaded.clouds)} would have them" if loaded.clouds else ""
    console.note(f"{images.name}: {len(loaded.variants)} images are right{clouds}")
    return True
