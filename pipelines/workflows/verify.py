"""Verification of several builds; what fails with one stops no other."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast, get_args

from pipelines.artifacts import store
from pipelines.artifacts.manifest import Verification
from pipelines.artifacts.store import Build
from pipelines.catalog.variant import Variant
from pipelines.diskimage import qemu
from pipelines.util import failures
from pipelines.util.errors import PipelineError, UsageError, VerifyError
from pipelines.util.times import Clock
from pipelines.workflows import local_builds


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """The outcome for each variant, by its name: a verification, or the error that prevented it."""

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
        """Raise, together, the checks that failed and the errors that prevented a verification."""
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
        _firmware(firmware)  # a wrong name is reported once, and before any work
    if build_id is not None and len(variants) > 1:
        variants = [local_builds.owner(variants, root, build_id)]
    outcomes: dict[str, Verification | PipelineError] = {}
    for variant in variants:
        try:
            build = store.newest_complete(root, variant.name, build_id)
            outcomes[variant.name] = verify_build(build, variant, now, boot=boot, firmware=firmware)
        except PipelineError as error:
            if failures.stops_everything(error):
                raise
            outcomes[variant.name] = error
    return Verified(outcomes=outcomes)


def verify_build(
    build: Build, variant: Variant, now: Clock, *, boot: bool = False, firmware: str | None = None
) -> Verification:
    """Verify one build; with `boot`, boot it as its properties ask, or with a `firmware`."""
    from pipelines.verify import verifier  # noqa: PLC0415  # other tasks start sooner without it

    chosen: qemu.Firmware | None = None
    if firmware is not None:
        chosen = _firmware(firmware)
    elif boot:
        chosen = qemu.firmware_of(dict(variant.properties))
    return verifier.verify(build, variant, now(), firmware=chosen)


def require_passed(result: Verification) -> None:
    """Raise VerifyError with the checks that failed."""
    failed = [check for check in result.checks if check.passed is False]
    if failed:
        lines = "\n".join(f"  {check.name}: {check.detail}" for check in failed)
        counts = f"{len(failed)} of {len(result.checks)} checks failed"
        raise VerifyError(
            f"{result.variant} {result.build_id} is not good: {counts}\n{lines}",
            remedy="The build stays on this host for inspection and is never uploaded. Fix the cause and build again.",
        )


def _firmware(name: str) -> qemu.Firmware:
    for known in get_args(qemu.Firmware):
        if name == known:
            return cast(qemu.Firmware, known)
    raise UsageError(f"{name} is not a valid firmware", remedy="Write --firmware bios, uefi or secure.")
