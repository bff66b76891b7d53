"""Builds of several variants, each verified; a failure of one stops no other."""

import functools
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path

from pipelines.artifacts.store import Build
from pipelines.catalog.variant import Variant
from pipelines.gpus import resolver
from pipelines.util import console, failures
from pipelines.util.times import Clock
from pipelines.workflows import local_builds
from pipelines.workflows.verify import require_passed, verify_build


def build(
    variants: Sequence[Variant],
    root: Path,
    now: Clock,
    *,
    verbose: bool = False,
    boot: bool = False,
    force: bool = False,
    cached: bool = True,
    jobs: int = 1,
) -> None:
    """Build and verify each variant, up to `jobs` at once if there is disk space for them.

    A variant whose newest build is what a new one would be is not built again, unless `force`. Without `cached`
    everything is built from nothing. A build that fails verification stays on this host, and is never uploaded.
    """
    from pipelines.preflight import disk_space  # noqa: PLC0415  # other tasks start sooner without it

    warn_about_drivers(variants, now().date())
    reuse = cached and not force
    steps = functools.partial(build_variant, root=root, now=now, verbose=verbose, boot=boot, cached=cached, reuse=reuse)
    at_once = disk_space.jobs(root, [disk_space.space_needed(variant) for variant in variants], jobs)
    _run({variant.name: functools.partial(steps, variant) for variant in variants}, at_once)


def build_variant(
    variant: Variant, *, root: Path, now: Clock, verbose: bool, boot: bool, cached: bool, reuse: bool
) -> None:
    """One variant, step by step: take its unchanged build or make a new one, verify it, report it."""
    unchanged = _unchanged_build(variant, root, now()) if reuse else None
    build = unchanged or run_builder(variant, root, now(), verbose=verbose, cached=cached)
    if unchanged is None:
        console.note(f"{variant.name}: built {build.build_id}; verifying")
    if unchanged is None or boot or build.verification() is None:
        require_passed(verify_build(build, variant, now, boot=boot))
    if unchanged is None:
        _report(build)


def warn_about_drivers(variants: Sequence[Variant], today: date) -> None:
    """Warn about driver branches past the end of their life, or near it."""
    for variant in variants:
        for warning in resolver.warnings(variant.selection, today):
            console.warn(f"{variant.name}: {warning}")


def run_builder(variant: Variant, root: Path, now: datetime, *, verbose: bool = False, cached: bool = True) -> Build:
    """Build or import one variant, whether that is needed or not; the build is not verified yet."""
    if variant.kind == "import":
        from pipelines.build import importer  # noqa: PLC0415  # other tasks start sooner without it

        return importer.build(variant, root, now, verbose=verbose)
    from pipelines.build import builder  # noqa: PLC0415  # as above

    return builder.build(variant, root, now, verbose=verbose, cached=cached)


def _unchanged_build(variant: Variant, root: Path, now: datetime) -> Build | None:
    """The build that a new one would only repeat, or None; reports which, or why a new one is needed."""
    found = local_builds.reusable(variant, root, now)
    if found.build is None:
        console.note(f"{variant.name}: building: {found.why_not}")
    else:
        console.say(
            f"{variant.name}: nothing has changed since {found.build.build_id}, so it is not built again;"
            f" `./inv build {variant.name} --force` builds it anyway"
        )
    return found.build


def _run(work: Mapping[str, Callable[[], None]], at_once: int) -> None:
    """Do all of it, up to `at_once` at a time; failures are raised together at the end."""
    from pipelines.util import jobs  # noqa: PLC0415  # other tasks start sooner without it

    with failures.each([*work]) as one, jobs.started(work, at_once) as ended:
        for name, finish in ended:
            with one(name):
                finish()


def _report(build: Build) -> None:
    about = build.manifest()
    image = about.artifact
    driver = f", NVIDIA {about.driver['version']}" if about.driver else ""
    inside = f"kernel {about.kernel}{driver}" if about.kernel else "imported image"
    console.say(
        f"{about.variant} {about.build_id}: {inside}, {image.size / 2**20:.0f} MiB "
        f"({image.virtual_size / 2**30:.0f} GiB virtual), built in {about.seconds:.0f} s and verified: {build.image()}"
    )
