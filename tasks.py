"""The operator's verbs. `./inv --list` names them, `./inv --help TASK` explains one.

Each is a few lines and decides nothing: it reads the catalog, calls one function of pipelines/, and shows the result.
Modules are imported where they are used, so that `./inv --list` is quick.
"""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from invoke import Collection, Context

from pipelines import console
from pipelines.command import verb
from pipelines.errors import UsageError

HERE = Path(__file__).resolve().parent
CATALOG = str(HERE / "images.yaml")
BUILDS = str(HERE / "builds")
CLOUD_ROOT = HERE / ".cloud"

_CATALOG_HELP = {"catalog": "the catalog (default: images.yaml beside tasks.py)"}
_BUILDS_HELP = {"builds": "where builds are kept (default: builds/ beside tasks.py)"}
_JSON_HELP = {"json": "JSON on stdout, everything else on stderr"}
_ONLY_HELP = {"only": "a name, a comma list or a glob (default: all images)"}
_GUEST_HELP = {"count": "what a guest with so many GPUs needs", "ram": "and so much RAM (default: 64GiB)"}
_NAME_HELP = {"name": "a name, a comma list or a glob"}


@verb(name="list", help=_CATALOG_HELP | _BUILDS_HELP | _JSON_HELP)
def list_images(_: Context, catalog: str = CATALOG, builds: str = BUILDS, json: bool = False) -> None:
    """The images of the catalog, each with its newest build."""
    from pipelines import report

    report.images(_load(catalog), Path(builds), as_json=json)


@verb(
    help=_NAME_HELP
    | _CATALOG_HELP
    | _BUILDS_HELP
    | _JSON_HELP
    | _GUEST_HELP
    | {"timings": "where the time goes instead: the last builds side by side"}
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
) -> None:
    """One image resolved: elements, environment, properties, fingerprint, the disk-image-create command."""
    if timings:
        from pipelines import report_timings

        report_timings.show(Path(builds), _one(catalog, name).name, as_json=json)
        return
    from pipelines import report, report_gpus

    report.image(_one(catalog, name), Path(builds), _now().date(), report_gpus.guest(count, ram), as_json=json)


@verb(
    help=_ONLY_HELP
    | _CATALOG_HELP
    | _BUILDS_HELP
    | _JSON_HELP
    | {"cloud": "a cloud of clouds.yaml (repeatable)", "check": "exit 7 when there is something to do"},
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
) -> None:
    """What would be done, and why; touches nothing."""
    from pipelines import refresh, report

    loaded = _load(catalog)
    refresh.warn(loaded.select(only), _now().date())
    actions = refresh.plan(loaded, loaded.select(only), _connect(cloud), Path(builds), _now())
    report.actions(actions, as_json=json)
    if check and actions:
        sys.exit(7)


@verb(
    help=_NAME_HELP
    | _CATALOG_HELP
    | _BUILDS_HELP
    | {
        "verbose": "all of diskimage-builder's output",
        "boot": "boot the image too",
        "force": "build even if nothing has changed since the newest build",
        "cache": "--no-cache builds from nothing: takes nothing of earlier builds, keeps nothing for later ones",
        "jobs": "so many at once, at most as many as this host has cores",
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
    """Build images for real, and verify them; what has not changed is not built again."""
    from pipelines import refresh, several

    at_once = several.jobs(jobs)
    variants = _load(catalog).select(name)
    refresh.build(variants, Path(builds), _now, verbose=verbose, boot=boot, force=force, cached=cache, jobs=at_once)


@verb(
    help=_NAME_HELP
    | _CATALOG_HELP
    | _BUILDS_HELP
    | _JSON_HELP
    | {
        "build": "the ID of a build, instead of the newest",
        "boot": "boot the image in QEMU too",
        "firmware": "boot with bios, uefi or secure (default: as the image's properties say)",
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
    """Is a finished build good? Offline, without booting unless asked."""
    from pipelines import refresh, report

    variants = _load(catalog).select(name)
    verified = refresh.verify(variants, Path(builds), build, _now, boot=boot, firmware=firmware)
    if not json:
        report.verifications(verified.results)
    elif (plain := verified.plain()) is not None:
        console.emit_json(plain)
    verified.require_passed()


@verb(
    help=_ONLY_HELP
    | _CATALOG_HELP
    | _BUILDS_HELP
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

    loaded = _load(catalog)
    variants = [loaded.for_cloud(variant, cloud) for variant in loaded.select(only)]
    refresh.upload(variants, _connect([cloud])[0], Path(builds), build, _now)


@verb(
    help=_ONLY_HELP
    | _CATALOG_HELP
    | _BUILDS_HELP
    | _JSON_HELP
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

    loaded = _load(catalog)
    rows = refresh.status(loaded, loaded.select(only), _connect([cloud])[0], Path(builds))
    report.status(rows, as_json=json)
    if check and any(row.note for row in rows):
        sys.exit(7)


@verb(
    help=_JSON_HELP | _GUEST_HELP | {"only": "models, generations or globs, by comma (default: all)"},
)
def gpus(_: Context, only: str | None = None, count: str = "0", ram: str = "64GiB", json: bool = False) -> None:
    """GPUs, driver branches and what fits; with --count and --ram, the image properties of such a guest."""
    from pipelines import report_gpus

    report_gpus.gpus(only, count, ram, _now().date(), as_json=json)


@verb()
def schema(_: Context) -> None:
    """The JSON Schema of images.yaml, for editors."""
    from pipelines.schema import json_schema

    console.emit_json(json_schema())


@verb(help={"only": "fit for these images (default: all)"} | _CATALOG_HELP | _BUILDS_HELP)
def doctor(_: Context, only: str | None = None, catalog: str = CATALOG, builds: str = BUILDS) -> None:
    """Is this host fit to build? Exit code 6 when a build would fail, with the remedy."""
    from pipelines import report

    report.findings(_load(catalog).select(only), Path(builds))


@verb()
def demo(_: Context) -> None:
    """The main job for real: build debian-cuda, start a local Keystone and Glance, release the image, show it."""
    from pipelines import demo as demonstration

    demonstration.run(_load(CATALOG), Path(BUILDS), CLOUD_ROOT, _now)


@verb(help={"fast": "without builds and boots: under two minutes", "args": "more arguments for pytest"})
def test(context: Context, fast: bool = False, args: str = "") -> None:
    """Run the tests; all of them, real builds and boots included, unless --fast."""
    # Without builds, tests wait more than they work: one worker more than there are processors.
    chosen = f"--numprocesses {(os.cpu_count() or 1) + 1} -m 'not slow'" if fast else "--numprocesses auto"
    # One file stays with one worker: its tests may share a cloud, or look for what a build left on the host.
    if not _shell(context, f"pytest {chosen} --dist loadfile {args}").ok:
        sys.exit(1)


@verb()
def lint(context: Context) -> None:
    """All linters: Python, types, layers, shell, elements, YAML."""
    from pipelines import linting

    failed = [name for name, line in linting.COMMANDS.items() if not _passes(context, name, line)]
    if failed:
        raise UsageError(f"linters complain: {', '.join(failed)}", remedy="What they say is above.")


@verb(help={"limit": "may take so much from now on, such as 20GiB", "clear": "evict all"} | _BUILDS_HELP | _JSON_HELP)
def cache(_: Context, limit: str | None = None, clear: bool = False, builds: str = BUILDS, json: bool = False) -> None:
    """What is kept between builds, and how much that may be; what is in use is never evicted."""
    from pipelines import report_cache

    report_cache.show(Path(builds) / ".cache", limit, _now(), clear=clear, as_json=json)


@verb(
    help={
        "only": "cases, by names and globs (default: all; a wrong one names them)",
        "images": "of which images",
        "runs": "how often",
        "output": "a new file for what is measured (default: benchmarks/results/TIME.jsonl)",
        "resume": "go on with such a file: what it has is not measured again",
    }
    | _CATALOG_HELP
    | _BUILDS_HELP
    | _JSON_HELP
)
def bench(
    _: Context,
    only: str = "*",
    images: str = "debian-cuda,debian12-cuda",
    runs: str = "3",
    output: str | None = None,
    resume: str | None = None,
    catalog: str = CATALOG,
    builds: str = BUILDS,
    json: bool = False,
) -> None:
    """How fast is all this, beside stock diskimage-builder and mkosi? All cases take hours."""
    from benchmarks import bench as benchmark
    from benchmarks import report

    asked = benchmark.asked(only, images, runs, output=output, resume=resume, now=_now())
    report.show(benchmark.run(asked, Path(catalog), Path(builds), _now), asked.record, as_json=json)


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


def _passes(context: Context, name: str, line: str) -> bool:
    console.note(f"lint: {name}")
    return bool(_shell(context, line).ok)


def _shell(context: Context, line: str) -> Any:
    with context.cd(str(HERE)):
        return context.run(line, warn=True, in_stream=False)


def _load(path: str) -> Any:
    from pipelines import catalog

    return catalog.load(Path(path))


def _one(path: str, name: str) -> Any:
    found = _load(path).select(name)
    if len(found) != 1:
        raise UsageError(f"{name} names {len(found)} images", remedy="Name one.")
    return found[0]


def _connect(clouds: list[str]) -> list[Any]:
    if not clouds:
        return []
    from pipelines import devcloud, glance

    return [glance.connect(cloud, extra=devcloud.clouds_file(CLOUD_ROOT)) for cloud in clouds]


def _now() -> datetime:
    return datetime.now(UTC)


namespace = Collection(
    list_images, show, plan, build, verify, upload, status, gpus, schema, doctor, cache, demo, test, lint, bench
)
namespace.add_collection(Collection("cloud", cloud_up, cloud_down, cloud_env))
