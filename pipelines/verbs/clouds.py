"""What can an operator do with a cloud?"""

import sys
from pathlib import Path

from invoke import Context

from pipelines import console
from pipelines.command import verb
from pipelines.verbs.shared import (
    BUILDS,
    BUILDS_HELP,
    CATALOG,
    CATALOG_HELP,
    CLOUD_ROOT,
    JSON_HELP,
    ONLY_HELP,
    connect,
    load,
    now,
)


@verb(
    help=ONLY_HELP
    | CATALOG_HELP
    | BUILDS_HELP
    | {"cloud": "a cloud of clouds.yaml", "build": "the ID of a build, instead of the newest"}
)
def upload(
    _: Context,
    cloud: str,
    only: str | None = None,
    build: str | None = None,
    catalog: str = CATALOG,
    builds: str = BUILDS,
) -> None:
    """Release the newest good builds to a cloud, without a moment without a good image."""
    from pipelines import refresh

    loaded = load(catalog)
    variants = [loaded.for_cloud(variant, cloud) for variant in loaded.select(only)]
    refresh.upload(variants, connect([cloud])[0], Path(builds), build, now)


@verb(
    help=ONLY_HELP
    | CATALOG_HELP
    | BUILDS_HELP
    | JSON_HELP
    | {"cloud": "a cloud of clouds.yaml", "check": "exit 7 when something needs attention"}
)
def status(
    _: Context,
    cloud: str,
    only: str | None = None,
    catalog: str = CATALOG,
    builds: str = BUILDS,
    json: bool = False,
    check: bool = False,
) -> None:
    """What is in a cloud: current, candidate, retired or broken, and whose it is."""
    from pipelines import refresh, report

    loaded = load(catalog)
    rows = refresh.status(loaded, loaded.select(only), connect([cloud])[0], Path(builds))
    report.status(rows, as_json=json)
    if check and any(row.note for row in rows):
        sys.exit(7)


@verb(name="up")
def cloud_up(_: Context) -> None:
    """Start a real Keystone and Glance on loopback, as the cloud `local`."""
    from pipelines import devcloud

    running = devcloud.up(CLOUD_ROOT)
    how = "started" if running.started else "was running already"
    console.say(f"local cloud {how}: {running.keystone_url} (Keystone), {running.glance_url} (Glance)")


@verb(name="down")
def cloud_down(_: Context) -> None:
    """Stop the local cloud; its images stay for the next `cloud.up`."""
    from pipelines import devcloud

    console.say("local cloud stopped" if devcloud.down(CLOUD_ROOT) else "the local cloud was not running")


@verb(name="env")
def cloud_env(_: Context) -> None:
    """Print `export` lines for OpenStack's own tools: eval "$(./inv cloud.env)"."""
    from pipelines import devcloud

    for line in devcloud.env_lines(CLOUD_ROOT):
        console.say(line)
