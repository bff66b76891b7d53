"""What can an operator do with a cloud?"""

import functools
import sys
from contextlib import nullcontext
from pathlib import Path

from invoke import Context

from pipelines.cli.options import (
    BUILDS,
    BUILDS_HELP,
    CATALOG,
    CATALOG_HELP,
    CLOUD_ROOT,
    JSON_HELP,
    NAME_HELP,
    ONLY_HELP,
    connect,
    load,
    now,
    open_site,
)
from pipelines.cli.task import task
from pipelines.util import console


@task(
    help=ONLY_HELP
    | CATALOG_HELP
    | BUILDS_HELP
    | {
        "cloud": "a cloud of clouds.yaml",
        "build": "the ID of a build, instead of the newest",
        "promote": "--no-promote leaves it hidden, for `./inv promote`",
    }
)
def upload(
    _: Context,
    cloud: str,
    only: str | None = None,
    build: str | None = None,
    promote: bool = True,
    catalog: str = CATALOG,
    builds: str = BUILDS,
) -> None:
    """Release the newest good builds to a cloud, without a moment without a good image."""
    from pipelines.workflows import release

    loaded = load(catalog)
    variants = [loaded.for_cloud(variant, cloud) for variant in loaded.select(only)]
    delivery = loaded.delivery(cloud)
    release.upload(variants, connect([cloud])[0], Path(builds), build, now, delivery=delivery, promotes=promote)


@task(
    help=ONLY_HELP
    | CATALOG_HELP
    | BUILDS_HELP
    | {
        "cloud": "a cloud of clouds.yaml (repeatable)",
        "dry_run": "say what would be done, and why",
        "boot": "--no-boot verifies without a boot in QEMU",
        "verbose": "all of diskimage-builder's output",
        "summary": "a file for a summary in Markdown",
    },
    iterable=["cloud"],
)
def refresh(
    _: Context,
    cloud: list[str],
    only: str | None = None,
    dry_run: bool = False,
    boot: bool = True,
    verbose: bool = False,
    summary: str | None = None,
    catalog: str = CATALOG,
    builds: str = BUILDS,
) -> None:
    """Bring images and clouds to what images.yaml and the package archives say now: build, verify, upload, prune."""
    from pipelines.reports import refresh_summary, tables
    from pipelines.workflows import refresh as refreshing
    from pipelines.workflows import site as workflows_site

    site = open_site(catalog, builds, cloud, boots=boot, all_clouds=dry_run)
    variants = site.catalog.select(only)
    if dry_run:
        tables.actions(workflows_site.planned(site, variants, now()), as_json=False)
        return
    run = refreshing.Refresh(site=site, now=now, verbose=verbose)
    rows = functools.partial(refresh_summary.rows, run, variants)
    with nullcontext() if summary is None else refresh_summary.written(Path(summary), rows):
        refreshing.refresh(run, variants)


@task(
    help=ONLY_HELP
    | CATALOG_HELP
    | BUILDS_HELP
    | {"cloud": "a cloud of clouds.yaml", "build": "the ID of a build, instead of the newest that the cloud has"}
)
def promote(
    _: Context,
    cloud: str,
    only: str | None = None,
    build: str | None = None,
    catalog: str = CATALOG,
    builds: str = BUILDS,
) -> None:
    """Show the newest images that a cloud has under their names, and hide the ones before; nothing is uploaded."""
    from pipelines.workflows import release

    site = open_site(catalog, builds, [cloud])
    release.promote(site, site.catalog.select(only), build, now)


@task(
    help=NAME_HELP
    | CATALOG_HELP
    | BUILDS_HELP
    | {"cloud": "a cloud of clouds.yaml", "to": "the ID of a build (default: the good one before the current one)"}
)
def rollback(
    _: Context, name: str, cloud: str, to: str | None = None, catalog: str = CATALOG, builds: str = BUILDS
) -> None:
    """Go back to the image before, in seconds; the one that was shown is hidden, and not released again."""
    from pipelines.workflows import release

    site = open_site(catalog, builds, [cloud])
    release.rollback(site, site.catalog.select(name), to, now)


@task(
    help=ONLY_HELP
    | CATALOG_HELP
    | BUILDS_HELP
    | {"cloud": "a cloud of clouds.yaml", "dry_run": "say what would go, and why"}
)
def prune(
    _: Context,
    cloud: str,
    only: str | None = None,
    dry_run: bool = False,
    catalog: str = CATALOG,
    builds: str = BUILDS,
) -> None:
    """Delete images beyond `keep` that were hidden for long enough and that nobody uses."""
    from pipelines.reports import tables
    from pipelines.workflows import release

    site = open_site(catalog, builds, [cloud])
    actions = release.prunable(site, site.catalog.select(only), now())
    if dry_run:
        tables.actions(actions, as_json=False)
    else:
        release.prune(site, actions, now())


@task(
    help=ONLY_HELP
    | CATALOG_HELP
    | BUILDS_HELP
    | JSON_HELP
    | {
        "cloud": "a cloud of clouds.yaml (repeatable)",
        "check": "exit 7 when something needs attention",
        "fix": "first repair what can be without a build: properties, tags, members, visibility, names",
        "html": "a file for all of it as a page that needs no network",
    },
    iterable=["cloud"],
)
def status(
    _: Context,
    cloud: list[str],
    only: str | None = None,
    catalog: str = CATALOG,
    builds: str = BUILDS,
    json: bool = False,
    check: bool = False,
    fix: bool = False,
    html: str | None = None,
) -> None:
    """What is in clouds: current, candidate, retired or broken, whose it is, and what is not as images.yaml says."""
    from pipelines.reports import status_page, tables
    from pipelines.workflows import status as workflows_status

    site = open_site(catalog, builds, cloud, all_clouds=False)
    variants = site.catalog.select(only)
    found = workflows_status.survey(site, variants, now(), fix=fix)
    tables.status(found, as_json=json)
    if html is not None:
        status_page.write(Path(html), site, variants, found, now())
    workflows_status.require_all(found)
    if check and any(each.needs_attention for each in found):
        sys.exit(7)


@task(
    help=ONLY_HELP
    | CATALOG_HELP
    | BUILDS_HELP
    | {"cloud": "a cloud of clouds.yaml (repeatable)", "output": "a file, for node_exporter's textfile collector"},
    iterable=["cloud"],
)
def metrics(
    _: Context,
    cloud: list[str],
    only: str | None = None,
    output: str | None = None,
    catalog: str = CATALOG,
    builds: str = BUILDS,
) -> None:
    """For Prometheus: how old the current images are, how long builds take, what failed."""
    from pipelines.artifacts import records
    from pipelines.reports import metrics as measured

    loaded = load(catalog)
    kept = records.open(loaded.records, Path(builds))
    clouds = {name: lambda name=name: connect([name])[0] for name in cloud}
    file = Path(output) if output else None
    measured.write(loaded.select(only), Path(builds), kept, clouds, now(), output=file)


@task()
def demo(_: Context) -> None:
    """The main job for real: build debian-cuda, start a local Keystone and Glance, release the image, show it."""
    from pipelines.cli import demo as demonstration

    demonstration.run(load(CATALOG), Path(BUILDS), CLOUD_ROOT, now)


@task(name="up")
def cloud_up(_: Context) -> None:
    """Start a real Keystone and Glance on loopback, as the cloud `local`."""
    from pipelines.devcloud import manager

    running = manager.up(CLOUD_ROOT)
    how = "started" if running.started else "was running already"
    console.say(f"local cloud {how}: {running.keystone_url} (Keystone), {running.glance_url} (Glance)")


@task(name="down")
def cloud_down(_: Context) -> None:
    """Stop the local cloud; its images stay for the next `cloud.up`."""
    from pipelines.devcloud import manager

    console.say("local cloud stopped" if manager.down(CLOUD_ROOT) else "the local cloud was not running")


@task(name="env")
def cloud_env(_: Context) -> None:
    """Print `export` lines for OpenStack's own tools: eval "$(./inv cloud.env)"."""
    from pipelines.devcloud import manager

    for line in manager.env_lines(CLOUD_ROOT):
        console.say(line)
