"""Tasks for images in clouds, and for the local cloud."""

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
    CLOUD_HELP,
    CLOUD_ROOT,
    CLOUDS_HELP,
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
    | CLOUD_HELP
    | {
        "build": "the ID of a build (default: the newest)",
        "promote": "--no-promote leaves the images hidden, for `./inv promote`",
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
    """Release the newest verified builds to a cloud; users have a good image at every moment."""
    from pipelines.workflows import release

    loaded = load(catalog)
    variants = [loaded.for_cloud(variant, cloud) for variant in loaded.select(only)]
    delivery = loaded.delivery(cloud)
    release.upload(variants, connect([cloud])[0], Path(builds), build, now, delivery=delivery, promotes=promote)


@task(
    help=ONLY_HELP
    | CATALOG_HELP
    | BUILDS_HELP
    | CLOUDS_HELP
    | {
        "dry_run": "print what would be done, and why; the same as `plan --cloud`",
        "boot": "--no-boot verifies without a boot in QEMU",
        "verbose": "print all output of diskimage-builder",
        "summary": "write a summary in Markdown to this file",
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
    """Build, verify, release and prune whatever has changed: in images.yaml, or in package repositories."""
    from pipelines.reports import refresh_summary, tables
    from pipelines.workflows import refresh as refreshing
    from pipelines.workflows import refresh_run
    from pipelines.workflows import site as workflows_site

    site = open_site(catalog, builds, cloud, boots=boot, all_clouds=dry_run)
    variants = site.catalog.select(only)
    if dry_run:
        tables.actions(workflows_site.planned(site, variants, now()), as_json=False)
        return
    run = refresh_run.Refresh(site=site, now=now, verbose=verbose)
    rows = functools.partial(refresh_summary.rows, run, variants)
    with nullcontext() if summary is None else refresh_summary.written(Path(summary), rows):
        refreshing.refresh(run, variants)


@task(
    help=ONLY_HELP
    | CATALOG_HELP
    | BUILDS_HELP
    | CLOUD_HELP
    | {"build": "the ID of a build (default: the newest in the cloud)"}
)
def promote(
    _: Context,
    cloud: str,
    only: str | None = None,
    build: str | None = None,
    catalog: str = CATALOG,
    builds: str = BUILDS,
) -> None:
    """Make the newest images in a cloud current, and hide their predecessors; nothing is uploaded."""
    from pipelines.workflows import release

    site = open_site(catalog, builds, [cloud])
    release.promote(site, site.catalog.select(only), build, now)


@task(
    help=NAME_HELP
    | CATALOG_HELP
    | BUILDS_HELP
    | CLOUD_HELP
    | {"to": "the ID of a build (default: the newest good one before the current)"}
)
def rollback(
    _: Context, name: str, cloud: str, to: str | None = None, catalog: str = CATALOG, builds: str = BUILDS
) -> None:
    """Make the previous image current again, in seconds; the bad one is hidden and not released again."""
    from pipelines.workflows import release

    site = open_site(catalog, builds, [cloud])
    release.rollback(site, site.catalog.select(name), to, now)


@task(help=ONLY_HELP | CATALOG_HELP | BUILDS_HELP | CLOUD_HELP | {"dry_run": "print what would be deleted, and why"})
def prune(
    _: Context,
    cloud: str,
    only: str | None = None,
    dry_run: bool = False,
    catalog: str = CATALOG,
    builds: str = BUILDS,
) -> None:
    """Delete old images: beyond `keep`, hidden for long enough, and used by no server."""
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
    | CLOUDS_HELP
    | {
        "check": "end with exit code 7 if something needs attention",
        "fix": "first repair what needs no build: properties, tags, members, visibility, names",
        "html": "also write a self-contained HTML page to this file",
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
    """Show the images in clouds: their state, their owner, and how they differ from images.yaml."""
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
    | CLOUDS_HELP
    | {"output": "write to this file, for node_exporter's textfile collector (default: stdout)"},
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
    """Print metrics for Prometheus: age of the current images, build times, failures."""
    from pipelines.artifacts import records
    from pipelines.reports import metrics as measured

    loaded = load(catalog)
    known = records.open(loaded.records, Path(builds))
    clouds = {name: lambda name=name: connect([name])[0] for name in cloud}
    file = Path(output) if output else None
    measured.write(loaded.select(only), Path(builds), known, clouds, now(), output=file)


@task()
def demo(_: Context) -> None:
    """Build debian-cuda, start a local Keystone and Glance, and release the image there."""
    from pipelines.cli import demo as demonstration

    demonstration.run(load(CATALOG), Path(BUILDS), CLOUD_ROOT, now)


@task(name="up")
def cloud_up(_: Context) -> None:
    """Start a real Keystone and Glance on loopback, as the cloud `local`."""
    from pipelines.devcloud import manager

    running = manager.up(CLOUD_ROOT)
    how = "started" if running.started else "is running already"
    console.say(f"local cloud {how}: {running.keystone_url} (Keystone), {running.glance_url} (Glance)")


@task(name="down")
def cloud_down(_: Context) -> None:
    """Stop the local cloud; its images stay for the next `cloud.up`."""
    from pipelines.devcloud import manager

    console.say("local cloud stopped" if manager.down(CLOUD_ROOT) else "the local cloud is not running")


@task(name="env")
def cloud_env(_: Context) -> None:
    """Print `export` lines for OpenStack's own tools: eval "$(./inv cloud.env)"."""
    from pipelines.devcloud import manager

    for line in manager.env_lines(CLOUD_ROOT):
        console.say(line)
