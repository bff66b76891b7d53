"""The product's version."""

import tomllib
from pathlib import Path

_PROJECT_FILE = Path(__file__).resolve().parent.parent.parent / "pyproject.toml"
_DISTRIBUTION = "gpu-image-pipeline"


def version() -> str:
    """The version in the pyproject.toml of this checkout, or that of the installed package."""
    try:
        project = tomllib.loads(_PROJECT_FILE.read_text(encoding="utf-8"))["project"]
    except FileNotFoundError:
        from importlib import metadata  # noqa: PLC0415  # slow to import, and only needed where we are installed

        return metadata.version(_DISTRIBUTION)
    return str(project["version"])
