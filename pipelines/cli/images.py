"""Tasks for images on this host."""

import sys
from pathlib import Path

from invoke import Context

from pipelines.cli.options import (
    BUILDS,
    BUILDS_HELP,
    CATALOG,
    CATALOG_HELP,
    JSON_HELP,
    NAME_HELP,
    ONE_NAME_HELP,
    ONLY_HELP,
    load,
    now,
    one,
    open_site,
)
from pipelines.cli.task import task
from pipelines.util import console

_GUEST_HELP = {
    "count": "the image properties that a guest with this many GPUs needs",
    "ram": "the RAM of that guest (default: 64GiB)",
}


@task(name="list", help=CATALOG_HELP | BUILDS_HELP | JSON_HELP)
def list_images(_: Context, catalog: str = CATALOG, builds: str = BUILDS, json: bool = False) -> None:
    """List the images of the catalog, each with its newest build."""
    from pipelines.reports import tables

    tables.images(load(catalog), Path(builds), as_json=json)


@task(
    help=ONE_NAME_HELP
    | CATALOG_HELP
    | BUILDS_HELP
    | JSON_HELP
    | _GUEST_HELP
    | {
        "timings": "show how long the stages of the last builds took instead",
        "sbom": "print the SBOM of the newest build instead, as CycloneDX JSON",
    }
)
def show(
    _: Context,
    name: str,
    catalog: str = CATALOG,
    builds: str = BUILDS,
    count: str = "0",
    ram: str = "64GiB",
    json: bool = False,
    timings: bool = False,
    sbom: bool = False,
) -> None:
    """Show an image: elements, environment, properties, fingerprint, disk-image-create command."""
    if timings:
        from pipelines.reports import timings as reports_timings

        reports_timings.show(Path(builds), one(catalog, name).name, as_json=json)
        return
    if sbom:
        from pipelines.artifacts import sbom as document

        document.show(Path(builds), one(catalog, name).name)
        return
    from pipelines.reports import gpus as reports_gpus
    from pipelines.reports import tables

    tables.image(one(catalog, name), Path(builds), now().date(), reports_gpus.guest(count, ram), as_json=json)


@task(
    help=ONLY_HELP
    | CATALOG_HELP
    | BUILDS_HELP
    | JSON_HELP
    | {
        "cloud": "a cloud of clouds.yaml (repeatable): plan what `refresh` would do there",
        "check": "end with exit code 7 if there is something to do",
        "boot": "--no-boot plans what `refresh --no-boot` would do",
    },
    iterable=["cloud"],
)
def plan(
    _: Context,
    cloud: list[str],
    only: str | None = None,
    catalog: str = CATALOG,
    builds: str = BUILDS,
    json: bool = False,
    check: bool = False,
    boot: bool = True,
) -> None:
    """Show what has to be done, and why; nothing is changed."""
    from pipelines.reports import tables
    from pipelines.workflows import site as workflows_site

    site = open_site(catalog, builds, cloud, boots=boot and bool(cloud))
    actions = workflows_site.planned(site, site.catalog.select(only), now())
    tables.actions(actions, as_json=json)
    if check and actions:
        sys.exit(7)


@task(
    help=NAME_HELP
    | CATALOG_HELP
    | BUILDS_HELP
    | {
        "verbose": "print all output of diskimage-builder",
        "boot": "also boot the image in QEMU",
        "force": "build even if nothing has changed",
        "cache": "--no-cache builds from nothing: takes nothing from the cache, and adds nothing to it",
        "jobs": "how many images are built at once; at most one per core of this host (default: 1)",
    }
)
def build(
    _: Context,
    name: str,
    catalog: str = CATALOG,
    builds: str = BUILDS,
    verbose: bool = False,
    boot: bool = False,
    force: bool = False,
    cache: bool = True,
    jobs: str = "1",
) -> None:
    """Build and verify the images that have changed since their newest build."""
    from pipelines.util import jobs as util_jobs
    from pipelines.workflows import build as workflows_build

    at_once = util_jobs.parse_jobs(jobs)
    variants = load(catalog).select(name)
    workflows_build.build(
        variants, Path(builds), now, verbose=verbose, boot=boot, force=force, cached=cache, jobs=at_once
    )


@task(
    help=NAME_HELP
    | CATALOG_HELP
    | BUILDS_HELP
    | JSON_HELP
    | {
        "build": "the ID of a build (default: the newest)",
        "boot": "also boot the image in QEMU",
        "firmware": "boot with bios, uefi or secure (default: what the image's properties require)",
    }
)
def verify(
    _: Context,
    name: str,
    build: str | None = None,
    catalog: str = CATALOG,
    builds: str = BUILDS,
    json: bool = False,
    boot: bool = False,
    firmware: str | None = None,
) -> None:
    """Verify a finished build, without a network."""
    from pipelines.reports import tables
    from pipelines.workflows import verify as workflows_verify

    variants = load(catalog).select(name)
    verified = workflows_verify.verify(variants, Path(builds), build, now, boot=boot, firmware=firmware)
    if not json:
        tables.verifications(verified.results)
    elif (plain := verified.plain()) is not None:
        console.emit_json(plain)
    verified.require_passed()


@task(
    help=JSON_HELP | _GUEST_HELP | {"only": "models, generations or globs, separated by commas (default: all)"},
)
def gpus(_: Context, only: str | None = None, count: str = "0", ram: str = "64GiB", json: bool = False) -> None:
    """List GPUs and driver branches; with --count, the image properties that a guest needs."""
    from pipelines.reports import gpus as reports_gpus

    reports_gpus.gpus(only, count, ram, now().date(), as_json=json)


@task(
    help=ONE_NAME_HELP
    | CATALOG_HELP
    | BUILDS_HELP
    | JSON_HELP
    | {"old": "the ID of a build (default: the one before)", "new": "the ID of a build (default: the newest)"}
)
def diff(
    _: Context,
    name: str,
    old: str | None = None,
    new: str | None = None,
    catalog: str = CATALOG,
    builds: str = BUILDS,
    json: bool = False,
) -> None:
    """Compare two builds: packages, driver, kernel, elements, properties, files, sizes."""
    from pipelines.artifacts import records
    from pipelines.reports import diff as reports_diff

    known = records.open(load(catalog).records, Path(builds))
    reports_diff.show(one(catalog, name), Path(builds), known, old, new, as_json=json)


@task()
def schema(_: Context) -> None:
    """Print the JSON Schema of images.yaml, for editors."""
    from pipelines.catalog.json_schema import json_schema

    console.emit_json(json_schema())


@task(help=ONLY_HELP | CATALOG_HELP | BUILDS_HELP)
def doctor(_: Context, only: str | None = None, catalog: str = CATALOG, builds: str = BUILDS) -> None:
    """Check whether this host can build the images; exit code 6 if it cannot, with the remedies."""
    from pipelines.reports import tables

    tables.findings(load(catalog).select(only), Path(builds))


@task(
    help={"limit": "the new limit of its size, such as 20GiB", "clear": "evict all entries"} | BUILDS_HELP | JSON_HELP
)
def cache(_: Context, limit: str | None = None, clear: bool = False, builds: str = BUILDS, json: bool = False) -> None:
    """Show what is cached between builds, and limit or clear it; entries in use stay."""
    from pipelines.reports import cache as reports_cache

    reports_cache.show(Path(builds) / ".cache", limit, now(), clear=clear, as_json=json)
