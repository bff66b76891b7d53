"""How are several variants built and verified?

Build then verify: a failure of one never stops the others, and none is lost.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import cast, get_args

from pipelines.artifacts import store
from pipelines.artifacts.manifest import Verification
from pipelines.artifacts.store import Build
from pipelines.catalog.variant import Variant
from pipelines.diskimage import qemu
from pipelines.gpus import resolver
from pipelines.util import console, failures
from pipelines.util.errors import PipelineError, UsageError, VerifyError
from pipelines.util.times import Clock
from pipelines.workflows import local_builds


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
    """Build and verify each variant. A build that fails verification is kept, and never uploaded.

    One whose newest build is what a new one would be is not built again, unless `force`. Without `cached` everything
    is done anew, from nothing. Up to `jobs` are built at once, if there is room for them.
    """
    from pipelines.preflight import disk_space  # noqa: PLC0415  # what one verb alone needs, the others start sooner without
    from pipelines.util import jobs as util_jobs  # noqa: PLC0415  # what one verb alone needs, the others start sooner without

    warn(variants, now().date())

    def build_one(variant: Variant) -> None:
        standing = None if force or not cached else _standing(variant, root, now())
        if standing is None:
            made = make(variant, root, now(), verbose=verbose, cached=cached)
            console.note(f"{variant.name}: built {made.build_id}; verifying")
            require_passed(verify_one(made, variant, now, boot=boot, firmware=None))
            _report_built(made)
        elif boot or standing.verification() is None:
            require_passed(verify_one(standing, variant, now, boot=boot, firmware=None))

    work = {variant.name: functools.partial(build_one, variant) for variant in variants}
    fitting = disk_space.jobs(root, [disk_space.space_needed(variant) for variant in variants], jobs)
    with failures.each([*work]) as one, util_jobs.started(work, fitting) as ended:
        for name, finish in ended:
            with one(name):
                finish()


def _standing(variant: Variant, root: Path, now: datetime) -> Build | None:
    """The build that a new one would only repeat, or None; the operator reads which, and why."""
    found = local_builds.standing(variant, root, now)
    if found.build is None:
        console.note(f"{variant.name}: building, since {found.why}")
    else:
        console.say(
            f"{variant.name}: nothing has changed since {found.build.build_id}, so it is not built again;"
            f" `./inv build {variant.name} --force` builds it all the same"
        )
    return found.build


def warn(variants: Sequence[Variant], today: date) -> None:
    """Say which drivers are past the end of their life, or near it."""
    for variant in variants:
        for warning in resolver.warnings(variant.selection, today):
            console.warn(f"{variant.name}: {warning}")


def make(variant: Variant, root: Path, now: datetime, *, verbose: bool = False, cached: bool = True) -> Build:
    """Build one variant, whether that is needed or not; not verified yet."""
    if variant.kind == "import":
        from pipelines.build import importer  # noqa: PLC0415  # what one verb alone needs, the others start sooner without

        return importer.build(variant, root, now, verbose=verbose)
    from pipelines.build import builder  # noqa: PLC0415  # as above

    return builder.build(variant, root, now, verbose=verbose, cached=cached)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """What became of each variant that was to be verified, by its name: a result, or why there is none."""

    outcomes: Mapping[str, Verification | PipelineError]

    @property
    def results(self) -> list[Verification]:
        """The verifications that took place."""
        return [outcome for outcome in self.outcomes.values() if isinstance(outcome, Verification)]

    def plain(self) -> object:
        """The results as JSON values: one object for one variant (None where it has none), a list for several."""
        plain = [asdict(result) for result in self.results]
        return plain if len(self.outcomes) != 1 else next(iter(plain), None)

    def require_passed(self) -> None:
        """Raise what went wrong: checks that failed, and variants that could not be verified, together."""
        with failures.each(tuple(self.outcomes)) as one:
            for name, outcome in self.outcomes.items():
                with one(name):
                    if isinstance(outcome, PipelineError):
                        raise outcome
                    require_passed(outcome)


def verify(
    variants: Sequence[Variant], root: Path, build_id: str | None, now: Clock, *, boot: bool, firmware: str | None
) -> Verified:
    """Verify the newest complete build of each variant, or the one named by its ID.

    What goes wrong with a variant is in the result; only an interrupt and a wrong command line are raised.
    """
    if firmware is not None:
        _firmware(firmware)  # a wrong name is said once, and before any work
    if build_id is not None and len(variants) > 1:
        variants = [local_builds.owner(variants, root, build_id)]
    outcomes: dict[str, Verification | PipelineError] = {}
    for variant in variants:
        try:
            made = store.newest_complete(root, variant.name, build_id)
            outcomes[variant.name] = verify_one(made, variant, now, boot=boot, firmware=firmware)
        except PipelineError as error:
            if failures.stops_everything(error):
                raise
            outcomes[variant.name] = error
    return Verified(outcomes=outcomes)


def verify_one(
    made: Build, variant: Variant, now: Clock, *, boot: bool = False, firmware: str | None = None
) -> Verification:
    """Verify one build; with `boot`, boot it as its properties ask."""
    chosen: qemu.Firmware | None = None
    if firmware is not None:
        chosen = _firmware(firmware)
    elif boot:
        chosen = qemu.firmware_of(dict(variant.properties))
    from pipelines.verify import verifier  # noqa: PLC0415  # as in _made

    return verifier.verify(made, variant, now(), firmware=chosen)


def _firmware(name: str) -> qemu.Firmware:
    for known in get_args(qemu.Firmware):
        if name == known:
            return cast(qemu.Firmware, known)
    raise UsageError(f"there is no firmware {name}", remedy="Write --firmware bios, uefi or secure.")


def require_passed(result: Verification) -> None:
    """Raise VerifyError that lists what is wrong."""
    failed = [check for check in result.checks if check.passed is False]
    if failed:
        lines = "\n".join(f"  {check.name}: {check.detail}" for check in failed)
        counts = f"{len(failed)} of {len(result.checks)} checks failed"
        raise VerifyError(
            f"{result.variant} {result.build_id} is not good: {counts}\n{lines}",
            remedy="The build is kept for inspection and never uploaded. Mend the cause and build again.",
        )


def _report_built(made: Build) -> None:
    about = made.manifest()
    image = about.artifact
    driver = f", NVIDIA {about.driver['version']}" if about.driver else ""
    inside = f"kernel {about.kernel}{driver}" if about.kernel else "a ready image"
    console.say(
        f"{about.variant} {about.build_id}: {inside}, {image.size / 2**20:.0f} MiB "
        f"({image.virtual_size / 2**30:.0f} GiB virtual), built in {about.seconds:.0f} s and verified: {made.image()}"
    )
