"""Who puts the verbs together?

Build then verify, verify then upload, for several variants: a failure of one never stops the others, and none is lost.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import cast, get_args

from pipelines import build as building
from pipelines import console, manifest, publish, qemu, recipe, released
from pipelines import plan as planning
from pipelines import verify as verifying
from pipelines.catalog import Catalog
from pipelines.errors import PipelineError, UsageError, VerifyError, exit_code
from pipelines.glance import Cloud
from pipelines.manifest import Build, Verification
from pipelines.variant import Variant

Clock = Callable[[], datetime]
_One = Callable[[Variant | Verification], contextlib.AbstractContextManager[None]]


class SeveralFailed(PipelineError):
    """Each failure was shown when it happened; this is the summary, with the lowest of their exit codes."""

    def __init__(self, failed: dict[str, PipelineError], of: int) -> None:
        names = ", ".join(failed)
        super().__init__(f"{len(failed)} of {of} failed: {names}", remedy="See above, for each of them.")
        self.exit_code = exit_code(list(failed.values()))


def build(variants: Sequence[Variant], root: Path, now: Clock, *, verbose: bool = False, boot: bool = False) -> None:
    """Build and verify each variant. A build that fails verification is kept, and never uploaded."""
    with _each(variants) as one:
        for variant in variants:
            with one(variant):
                made = building.build(variant, root, now(), verbose=verbose)
                console.note(f"{variant.name}: built {made.build_id}; verifying")
                _require_passed(_verify(made, variant, now, boot=boot, firmware=None))
                _report_built(made)


def verify(
    variants: Sequence[Variant], root: Path, build_id: str | None, now: Clock, *, boot: bool, firmware: str | None
) -> list[Verification]:
    """Verify the newest complete build of each variant, or the one named."""
    results = []
    with _each(variants) as one:
        for variant in variants:
            with one(variant):
                made = manifest.newest_complete(root, variant.name, build_id)
                results.append(_verify(made, variant, now, boot=boot, firmware=firmware))
    return results


def require_passed(results: Sequence[Verification]) -> None:
    """VerifyError that names every check that failed."""
    with _each(results) as one:
        for result in results:
            with one(result):
                _require_passed(result)


def upload(variants: Sequence[Variant], cloud: Cloud, root: Path, build_id: str | None, now: Clock) -> None:
    """Release the newest complete build of each variant; one that was never verified is verified first.

    A variant that was never built has nothing to release: an error when it is the only one, a note among several.
    """
    with _each(variants) as one:
        for variant in variants:
            with one(variant):
                if len(variants) > 1 and not _is_built(root, variant):
                    console.note(f"{variant.name}: no complete build; nothing to upload")
                    continue
                made = manifest.newest_complete(root, variant.name, build_id)
                verification = made.verification() or _verify(made, variant, now, boot=False, firmware=None)
                _require_passed(verification)
                console.say(str(publish.upload(cloud, variant, made, verification, now())))


def plan(
    catalog: Catalog, variants: Sequence[Variant], clouds: Sequence[Cloud], root: Path, now: datetime
) -> list[planning.Action]:
    """What would have to be done for these variants here and in these clouds. Touches nothing."""
    targets = [_target(variant, catalog, clouds) for variant in variants]
    inventory = planning.Inventory(
        builds=tuple(build for variant in variants for build in _local_builds(root, variant)),
        images=tuple(image for cloud in clouds for image in released.inventory(cloud)),
    )
    return planning.plan(targets, inventory, now)


def status(catalog: Catalog, variants: Sequence[Variant], cloud: Cloud) -> list[released.Row]:
    """What a cloud has of these variants, with a note where it needs attention."""
    fingerprints = {variant.name: recipe.resolve(variant).fingerprint for variant in variants}
    return released.status(cloud, [catalog.for_cloud(v, cloud.name) for v in variants], fingerprints)


def _verify(made: Build, variant: Variant, now: Clock, *, boot: bool, firmware: str | None) -> Verification:
    chosen: qemu.Firmware | None = None
    if firmware is not None:
        chosen = _firmware(firmware)
    elif boot:
        chosen = qemu.firmware_of(dict(variant.properties))
    return verifying.verify(made, variant, now(), firmware=chosen)


def _firmware(name: str) -> qemu.Firmware:
    for known in get_args(qemu.Firmware):
        if name == known:
            return cast(qemu.Firmware, known)
    raise UsageError(f"there is no firmware {name}", remedy="Write --firmware bios, uefi or secure.")


def _require_passed(result: Verification) -> None:
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
    seconds = sum(about.stages.values())
    driver = f", NVIDIA {about.driver['version']}" if about.driver else ""
    console.say(
        f"{about.variant} {about.build_id}: kernel {about.kernel}{driver}, {image.size / 2**20:.0f} MiB "
        f"({image.virtual_size / 2**30:.0f} GiB virtual), built in {seconds:.0f} s and verified: {made.image()}"
    )


def _is_built(root: Path, variant: Variant) -> bool:
    return any(build.state == manifest.COMPLETE for build in manifest.builds(root, variant.name))


def _target(variant: Variant, catalog: Catalog, clouds: Sequence[Cloud]) -> planning.Target:
    resolved = recipe.resolve(variant)
    return planning.Target(
        variant=variant.name,
        fingerprint=resolved.fingerprint,
        parts=resolved.parts,
        clouds={cloud.name: released.release_digest(catalog.for_cloud(variant, cloud.name)) for cloud in clouds},
        keep=variant.keep,
        rebuild_age=variant.rebuild_age,
    )


def _local_builds(root: Path, variant: Variant) -> Iterator[planning.LocalBuild]:
    for build in manifest.builds(root, variant.name):
        if build.state != manifest.COMPLETE:
            continue
        about = build.manifest()
        verification = build.verification()
        yield planning.LocalBuild(
            variant=variant.name,
            build_id=build.build_id,
            fingerprint=about.fingerprint,
            created_at=datetime.fromisoformat(about.created_at),
            verified=verification.passed if verification else None,
            parts=about.parts,
        )


@contextlib.contextmanager
def _each(
    subjects: Sequence[Variant] | Sequence[Verification],
) -> Iterator[Callable[..., contextlib.AbstractContextManager[None]]]:
    """Pieces of work that fail alone. Of several, each failure is shown when it happens, and summed up at the end."""
    failed: dict[str, PipelineError] = {}

    @contextlib.contextmanager
    def one(subject: Variant | Verification) -> Iterator[None]:
        try:
            yield
        except PipelineError as error:
            if len(subjects) == 1 or error.exit_code >= 128:  # an interrupt stops everything
                raise
            console.fail(error)
            failed[subject.name if isinstance(subject, Variant) else subject.variant] = error

    yield one
    if failed:
        raise SeveralFailed(failed, len(subjects))
