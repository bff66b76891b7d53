"""Options that several tasks have, and the catalog, clouds and time that they stand for."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.util import paths
from pipelines.util.errors import UsageError

CATALOG = str(paths.PROJECT / "images.yaml")
BUILDS = str(paths.PROJECT / "builds")
CLOUD_ROOT = paths.PROJECT / ".cloud"

_WHERE = "in the current folder" if paths.INSTALLED else "beside tasks.py"
CATALOG_HELP = {"catalog": f"the catalog (default: images.yaml {_WHERE})"}
BUILDS_HELP = {"builds": f"the folder of builds (default: builds/ {_WHERE})"}
JSON_HELP = {"json": "print JSON on stdout, and everything else on stderr"}
ONE_NAME_HELP = {"name": "the name of one image"}
CLOUD_HELP = {"cloud": "a cloud of clouds.yaml"}
CLOUDS_HELP = {"cloud": "a cloud of clouds.yaml (repeatable)"}
ONLY_HELP = {"only": "names or globs of images, separated by commas (default: all images)"}
NAME_HELP = {"name": "names or globs of images, separated by commas"}


def load(path: str) -> Any:
    """Load the catalog of a file."""
    from pipelines.catalog import loader

    return loader.load(Path(path))


def one(path: str, name: str) -> Any:
    """The one image of a catalog that a name stands for; UsageError for several."""
    found = load(path).select(name)
    if len(found) != 1:
        raise UsageError(f"{name} names {len(found)} images", remedy="Name one image.")
    return found[0]


def connect(clouds: list[str]) -> list[Any]:
    """Connect to clouds of clouds.yaml; `local` needs no entry there."""
    if not clouds:
        return []
    from pipelines.devcloud import manager
    from pipelines.glance import client

    return [client.connect(cloud, fallback=manager.clouds_file(CLOUD_ROOT)) for cloud in clouds]


def open_site(catalog: str, builds: str, clouds: list[str], *, boots: bool = False, all_clouds: bool = True) -> Any:
    """Open the catalog, the builds, their records and the clouds.

    A cloud that cannot be reached is an error if `all_clouds` are needed; else the error is among the site's
    `connection_errors`.
    """
    from pipelines.artifacts import records
    from pipelines.util.errors import CloudError
    from pipelines.workflows.site import Site

    loaded, root = load(catalog), Path(builds)
    reached, errors = [], {}
    for name in dict.fromkeys(clouds):
        try:
            reached += connect([name])
        except CloudError as error:
            if all_clouds:
                raise
            errors[name] = error
    return Site(
        catalog=loaded,
        root=root,
        records=records.open(loaded.records, root),
        clouds=reached,
        connection_errors=errors,
        boots=boots,
    )


def now() -> datetime:
    """The current time. Everything below takes it as an argument."""
    return datetime.now(UTC)
