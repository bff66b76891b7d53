"""The tasks. `./inv --list` names them, `./inv TASK --help` explains one.

Those of an operator are in pipelines/cli/, those of the project's development here. Each is a few lines and decides
nothing. Modules are imported where they are used, so that `./inv --list` is quick.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from invoke import Context

from pipelines.cli import operator_tasks, program
from pipelines.cli.options import BUILDS, BUILDS_HELP, CATALOG, CATALOG_HELP, JSON_HELP, now
from pipelines.cli.task import task
from pipelines.util import console, paths
from pipelines.util.errors import HostError, UsageError


@task(help={"fast": "leave out real builds and boots: under three minutes", "args": "more arguments for pytest"})
def test(context: Context, fast: bool = False, args: str = "") -> None:
    """Run all tests, with real builds and boots unless --fast is given."""
    _require("pytest", "test")
    # Without builds, tests mostly wait: use twice as many workers as there are processors.
    selection = f"--numprocesses {(os.cpu_count() or 1) * 2} -m 'not slow'" if fast else "--numprocesses auto"
    # One file stays with one worker: its tests may share a cloud, or look for leftovers of a build on this host.
    if not _shell(context, f"pytest {selection} --dist loadfile {args}").ok:
        sys.exit(1)


@task(help=CATALOG_HELP)
def lint(context: Context, catalog: str = CATALOG) -> None:
    """Run all linters, and check the catalog with each image as each cloud gets it."""
    from pipelines.cli import lint as cli_lint

    _require("ruff", "lint")
    console.note("lint: catalog")
    failed = [] if cli_lint.passes(Path(catalog)) else ["catalog"]
    failed += [name for name, line in cli_lint.COMMANDS.items() if not _passes(context, name, line)]
    if failed:
        raise UsageError(f"linters found problems: {', '.join(failed)}", remedy="Their output is above.")


@task(help={"upgrade": "take newer versions where pyproject.toml allows them"})
def lock(_: Context, upgrade: bool = False) -> None:
    """Make the lock files of all Python packages from pyproject.toml."""
    from pipelines.cli import lock as cli_lock

    cli_lock.write(upgrade=upgrade)


@task(
    help={
        "only": "names or globs of cases, separated by commas (default: all; an unknown name lists them)",
        "images": "the images to measure",
        "runs": "how many runs of each case",
        "output": "a new file for the measurements (default: benchmarks/results/TIME.jsonl)",
        "resume": "continue with such a file: cases in it are not measured again",
    }
    | CATALOG_HELP
    | BUILDS_HELP
    | JSON_HELP
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
    """Measure builds, beside stock diskimage-builder and mkosi; all cases take hours."""
    from benchmarks import bench as benchmark
    from benchmarks import report

    request = benchmark.requested(only, images, runs, output=output, resume=resume, now=now())
    report.show(benchmark.run(request, Path(catalog), Path(builds), now), request.record, as_json=json)


def _require(program: str, task: str) -> None:
    """./inv installs what the first task of a line needs; later words may be the arguments of another."""
    if shutil.which(program) is None:
        raise HostError(f"{program} is not installed", remedy=f"Run ./inv {task} by itself: it installs what it needs.")


def _passes(context: Context, name: str, line: str) -> bool:
    console.note(f"lint: {name}")
    return bool(_shell(context, line).ok)


def _shell(context: Context, line: str) -> Any:
    with context.cd(str(paths.PROJECT)):
        return context.run(line, warn=True, in_stream=False)


namespace = operator_tasks.collection()
for each in (test, lint, lock, bench):
    namespace.add_task(each)

if __name__ == "__main__":
    program.run(namespace, paths.COMMAND)
