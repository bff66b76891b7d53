"""The product's version."""

import tomllib

from pipelines.util import paths

_DISTRIBUTION = "gpu-image-pipeline"


def version() -> str:
    """The version of the installed package, or that in the pyproject.toml of this checkout."""
    if paths.INSTALLED:
        from importlib import metadata  # noqa: PLC0415  # slow to import, and a checkout does not need it

        return metadata.version(_DISTRIBUTION)
    project = tomllib.loads((paths.PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])
