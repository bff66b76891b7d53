"""The task that makes pipelines of a CI system or a timer."""

import sys
from pathlib import Path

from invoke import Context

from pipelines.cli.options import CATALOG, CATALOG_HELP, CLOUDS_HELP, load, now
from pipelines.cli.task import task
from pipelines.util import console, paths
from pipelines.util.errors import UsageError


@task(
    help={
        "for": "github, gitlab, zuul or systemd",
        "output": "write the files to this folder, instead of printing them",
        "check": "check the files in --output (default: where the system looks for them):"
        " exit code 7 if one is missing or differs",
        "schedule": "when it runs: five fields of cron for github, a calendar expression for systemd",
        "runner": "a label or tag of the machines that build (repeatable)",
        "secret": "an environment variable from the secrets of the CI system (repeatable)",
        "cache-limit": "the limit of builds/.cache, for each image (default: 4GiB)",
        "jobs": "print the jobs of a run, for the first job of that run",
        "plan": "with --jobs: only jobs for the images in this plan, a file from `inv plan --json`",
    }
    | CLOUDS_HELP
    | CATALOG_HELP,
    iterable=["cloud", "runner", "secret"],
    auto_shortflags=False,  # one of them would be -h
)
def ci(
    _: Context,
    for_: str,
    cloud: list[str],
    runner: list[str],
    secret: list[str],
    output: str | None = None,
    check: bool = False,
    schedule: str | None = None,
    cache_limit: str | None = None,
    jobs: bool = False,
    plan: str | None = None,
    catalog: str = CATALOG,
) -> None:
    """Print, write or check the files of scheduled pipelines that refresh the images."""
    from pipelines.ci import files, job_matrix, options

    if paths.INSTALLED:
        what = "the files would call ./inv, which only a checkout has; this is an installed gpu-images"
        raise UsageError(what, remedy="Run `inv ci` in a checkout of this project that has your images.yaml.")
    request = options.request(
        load(catalog),
        for_,
        cloud,
        project=paths.PROJECT,
        schedule=schedule,
        runner=runner,
        secret=secret,
        cache_limit=cache_limit,
        catalog_path=None if catalog == CATALOG else catalog,
    )
    folder = None if output is None else Path(output)
    if jobs:
        console.say(job_matrix.of(request, None if plan is None else Path(plan), now()))
    elif check:
        if not files.check(request, folder):
            sys.exit(7)
    elif folder is not None:
        files.write(request, folder)
    else:
        files.show(request)
