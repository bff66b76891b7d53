"""Which linters does the project pass?

Shell lines by name, for a shell in the project's folder with the environment's programs on PATH.
"""

from collections.abc import Mapping

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
