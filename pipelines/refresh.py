"""Who puts the verbs together?

Build then verify, verify then upload, for several variants: a failure of one never stops the others, and none is lost.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import cast, get_args

from pipelines import console, failures, fingerprint, gpus, manifest, qemu, released, unchanged
from pipelines import plan as planning
from pipelines.catalog import Catalog
from pipelines.errors import PipelineError, UsageError, VerifyError
from pipelines.glance import Cloud
from pipelines.manifest import Build, Verification
from pipelines.variant import Variant

Clock = Callable[[], datetime]
# What `plan` knows and no command carries out yet: a list of things to do must be one that can be done.
_NOT_YET: frozenset[planning.Verb] = frozenset({"prune"})


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
    from pipelines import room, several  # noqa: PLC0415  # what one verb alone needs, the others start sooner without

    warn(variants, now().date())

    def build_one(variant: Variant) -> None:
        standing = None if force or not cached else _standing(variant, root, now())
        if standing is None:
            made = _made(variant, root, now(), verbose=verbose, cached=cached)
            console.note(f"{variant.name}: built {made.build_id}; verifying")
            _require_passed(_verify(made, variant, now, boot=boot, firmware=None))
            _report_built(made)
        elif boot or standing.verification() is None:
            _require_passed(_verify(standing, variant, now, boot=boot, firmware=None))

    work = {variant.name: functools.partial(build_one, variant) for variant in variants}
    fitting = room.together(root, [room.space_needed(variant) for variant in variants], jobs)
    with failures.each([*work]) as one, several.begun(work, fitting) as ended:
        for name, finish in ended:
            with one(name):
                finish()


def _standing(variant: Variant, root: Path, now: datetime) -> Build | None:
    """The build that a new one would only repeat, or None; the operator reads which, and why."""
    found = unchanged.standing(variant, root, now)
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
        for warning in gpus.warnings(variant.choice, today):
            console.warn(f"{variant.name}: {warning}")


def _made(variant: Variant, root: Path, now: datetime, *, verbose: bool, cached: bool) -> Build:
    if variant.kind == "import":
        from pipelines import importing  # noqa: PLC0415  # what one verb alone needs, the others start sooner without

        return importing.build(variant, root, now, verbose=verbose)
    from pipelines import build as building  # noqa: PLC0415  # as above

    return building.build(variant, root, now, verbose=verbose, cached=cached)


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
                    _require_passed(outcome)


def verify(
    variants: Sequence[Variant], root: Path, build_id: str | None, now: Clock, *, boot: bool, firmware: str | None
) -> Verified:
    """Verify the newest complete build of each variant, or the one named by its ID.

    What goes wrong with a variant is in the result; only an interrupt and a wrong command line are raised.
    """
    if firmware is not None:
        _firmware(firmware)  # a wrong name is said once, and before any work
    if build_id is not None and len(variants) > 1:
        variants = [_owner(variants, root, build_id)]
    outcomes: dict[str, Verification | PipelineError] = {}
    for variant in variants:
        try:
            made = manifest.newest_complete(root, variant.name, build_id)
            outcomes[variant.name] = _verify(made, variant, now, boot=boot, firmware=firmware)
        except PipelineError as error:
            if failures.stops_everything(error):
                raise
            outcomes[variant.name] = error
    return Verified(outcomes=outcomes)


def upload(variants: Sequence[Variant], cloud: Cloud, root: Path, build_id: str | None, now: Clock) -> None:
    """Release the newest good build of each variant that is what images.yaml says now, or the one named.

    One that was never verified is verified first. A variant that was never built has nothing to release: an error when
    it is the only one, a note among several.
    """
    from pipelines import publish  # noqa: PLC0415  # as in _made

    if build_id is not None:
        variants = [_owner(variants, root, build_id)]
    with failures.each([variant.name for variant in variants]) as one:
        for variant in variants:
            with one(variant.name):
                if len(variants) > 1 and not _complete(root, variant):
                    console.note(f"{variant.name}: no complete build; nothing to upload")
                    continue
                made = _present(root, variant) if build_id is None else _named(root, variant, build_id)
                verification = made.verification() or _verify(made, variant, now, boot=False, firmware=None)
                _require_passed(verification)
                console.say(str(publish.upload(cloud, variant, made, verification, now())))


def plan(
    catalog: Catalog, variants: Sequence[Variant], clouds: Sequence[Cloud], root: Path, now: datetime
) -> list[planning.Action]:
    """What would have to be done for these variants here and in these clouds, and can be. Touches nothing."""
    targets = [_target(variant, catalog, clouds, root) for variant in variants]
    inventory = planning.Inventory(
        builds=tuple(each for variant in variants for each in unchanged.local_builds(_complete(root, variant))),
        images=tuple(image for cloud in clouds for image in released.inventory(cloud)),
    )
    actions = planning.plan(targets, inventory, now)
    return [action for action in actions if action.verb not in _NOT_YET]


def status(catalog: Catalog, variants: Sequence[Variant], cloud: Cloud, root: Path) -> list[released.Row]:
    """What a cloud has of these variants, with a note where it needs attention."""
    fingerprints = {variant.name: fingerprint.present(variant, root).digest for variant in variants}
    return released.status(cloud, [catalog.for_cloud(v, cloud.name) for v in variants], fingerprints)


def _verify(made: Build, variant: Variant, now: Clock, *, boot: bool, firmware: str | None) -> Verification:
    chosen: qemu.Firmware | None = None
    if firmware is not None:
        chosen = _firmware(firmware)
    elif boot:
        chosen = qemu.firmware_of(dict(variant.properties))
    from pipelines import verify as verifying  # noqa: PLC0415  # as in _made

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
    driver = f", NVIDIA {about.driver['version']}" if about.driver else ""
    inside = f"kernel {about.kernel}{driver}" if about.kernel else "a ready image"
    console.say(
        f"{about.variant} {about.build_id}: {inside}, {image.size / 2**20:.0f} MiB "
        f"({image.virtual_size / 2**30:.0f} GiB virtual), built in {about.seconds:.0f} s and verified: {made.image()}"
    )


def _complete(root: Path, variant: Variant) -> list[Build]:
    return [build for build in manifest.builds(root, variant.name) if build.state == manifest.COMPLETE]


def _owner(variants: Sequence[Variant], root: Path, build_id: str) -> Variant:
    """The one variant that has this build."""
    owners = [v for v in variants if any(build.build_id == build_id for build in _complete(root, v))]
    if len(owners) == 1:
        return owners[0]
    if owners:
        names = ", ".join(variant.name for variant in owners)
        raise UsageError(f"{build_id} is a build of each of {names}", remedy="Name one of them with --only.")
    names = ", ".join(variant.name for variant in variants)
    raise UsageError(f"there is no complete build {build_id} of {names} in {root}", remedy="Name one that is there.")


def _present(root: Path, variant: Variant) -> Build:
    """The build that `plan` would release: the newest of what images.yaml says now whose verification has not failed.

    UsageError when there is none of that, since an image must be what its release says of it.
    """
    wanted = fingerprint.present(variant, root).digest
    newest = manifest.newest_complete(root, variant.name)
    same = [build for build in _complete(root, variant) if build.manifest().fingerprint == wanted]
    if not same:
        raise UsageError(
            f"{variant.name}: {newest.build_id} is stale, since images.yaml or an element changed after it was built",
            remedy=f"`./inv plan` says what changed. Run `./inv build {variant.name}`, or name it with --build.",
        )
    return next((build for build in reversed(same) if _may_be_good(build)), same[-1])


def _may_be_good(build: Build) -> bool:
    verification = build.verification()
    return verification is None or verification.passed


def _named(root: Path, variant: Variant, build_id: str) -> Build:
    """The build that was asked for, stale or not."""
    made = manifest.newest_complete(root, variant.name, build_id)
    if made.manifest().fingerprint != fingerprint.present(variant, root).digest:
        console.warn(f"{variant.name}: {build_id} is stale (`./inv plan` says what changed); released as asked for")
    return made


def _target(variant: Variant, catalog: Catalog, clouds: Sequence[Cloud], root: Path) -> planning.Target:
    resolved = fingerprint.present(variant, root)
    return planning.Target(
        variant=variant.name,
        fingerprint=resolved.digest,
        parts=resolved.parts,
        clouds={cloud.name: released.release_digest(catalog.for_cloud(variant, cloud.name)) for cloud in clouds},
        keep=variant.keep,
        rebuild_age=variant.rebuild_age,
    )
