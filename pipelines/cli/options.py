"""What do all verbs have in common?

Where the project's files are, what their options are called, and how a catalog and a cloud are had.
"""

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
JSON_HELP = {"json": "JSON on stdout, everything else on stderr"}
ONLY_HELP = {"only": "a name, a comma list or a glob (default: all images)"}
NAME_HELP = {"name": "a name, a comma list or a glob"}


def load(path: str) -> Any:
    """The catalog in a file."""
    from pipelines.catalog import loader

    return loader.load(Path(path))


def one(path: str, name: str) -> Any:
    """The one image of a catalog that is meant; UsageError when several are."""
    found = load(path).select(name)
    if len(found) != 1:
        raise UsageError(f"{name} names {len(found)} images", remedy="Name one.")
    return found[0]


def connect(clouds: list[str]) -> list[Any]:
    """Clouds of clouds.yaml; `local` is known without it."""
    if not clouds:
        return []
    from pipelines.devcloud import manager
    from pipelines.glance import client

    return [client.connect(cloud, fallback=manager.clouds_file(CLOUD_ROOT)) for cloud in clouds]


def open_site(catalog: str, builds: str, clouds: list[str], *, boots: bool = False, all_clouds: bool = True) -> Any:
    """Catalog, builds, records and clouds, as situation.py wants them.

    Unless `all_clouds` are needed, one that cannot be reached is among the site's `unreachable`.
    """
    from pipelines.artifacts import records
    from pipelines.util.errors import CloudError
    from pipelines.workflows.site import Site

    loaded, root = load(catalog), Path(builds)
    kept = records.open(loaded.records, root)
    reached, unreachable = [], {}
    for name in dict.fromkeys(clouds):
        try:
            reached += connect([name])
        except CloudError as error:
            if all_clouds:
                raise
            unreachable[name] = error
    return Site(catalog=loaded, root=root, records=kept, clouds=reached, unreachable=unreachable, boots=boots)


def now() -> datetime:
    """The time, as all of pipelines/ is told it."""
    return datetime.now(UTC)
