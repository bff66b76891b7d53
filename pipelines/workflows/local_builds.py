"""Complete builds on this host: as a plan knows them, reusable instead of a new one, and selected for a release."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pipelines.artifacts import store
from pipelines.artifacts.manifest import Manifest, Verification
from pipelines.artifacts.store import Build
from pipelines.build import fingerprint
from pipelines.catalog.variant import Variant
from pipelines.inputs import repositories
from pipelines.plan import planner
from pipelines.plan.model import Inventory, KnownBuild, Target
from pipelines.util import console
from pipelines.util.errors import BuildError, HostError, UsageError, VerifyError


@dataclass(frozen=True, kw_only=True, slots=True)
class Reusable:
    """The build that can be used instead of a new one, or None and why not."""

    build: Build | None
    why_not: str = ""


def reusable(variant: Variant, root: Path, now: datetime) -> Reusable:
    """The newest good build of a variant, if a new one would be the same.

    Servers are asked for digests, never for images. What cannot be found out is a reason to build: a build reports
    best what is wrong.
    """
    try:
        builds = _since_last_good(store.complete(root, variant))
        why_not = _why_rebuild(variant, root, builds, now) if builds else "no build yet"
    except (BuildError, HostError, VerifyError) as error:
        return Reusable(build=None, why_not=" ".join(error.what.split()))
    return Reusable(build=None if why_not else builds[0], why_not=why_not)


def _since_last_good(builds: Sequence[Build]) -> Sequence[Build]:
    """The newest build that did not fail verification, and the later ones that did; all, if all failed."""
    for index in range(len(builds) - 1, -1, -1):
        if _may_be_good(builds[index]):
            return builds[index:]
    return builds


def _why_rebuild(variant: Variant, root: Path, builds: Sequence[Build], now: datetime) -> str:
    """Why the first of these builds cannot be used instead of a new one; "" when it can."""
    build, made = builds[0], builds[0].manifest()
    return (
        _planned_rebuild(variant, root, builds, now)
        or _missing_image(build, made)
        or _changed_repositories(variant, made)
    )


def _planned_rebuild(variant: Variant, root: Path, builds: Sequence[Build], now: datetime) -> str:
    """Why a plan would build the variant, with the inputs that servers have now: they changed, or it is too old."""
    wanted = fingerprint.asked(variant, root)
    target = Target(
        variant=variant.name, fingerprint=wanted.digest, parts=wanted.parts, rebuild_age=variant.rebuild_age
    )
    inventory = Inventory(builds=tuple(known(build.manifest(), build.verification()) for build in builds))
    reasons = (action.reason for action in planner.plan([target], inventory, now) if action.verb == "build")
    return next(reasons, "")


def _missing_image(build: Build, made: Manifest) -> str:
    return "" if is_whole(build, made) else f"the image of {build.build_id} is missing or incomplete: {build.image()}"


def _changed_repositories(variant: Variant, made: Manifest) -> str:
    if variant.kind == "import":
        return ""
    if not made.archives:
        return f"{made.build_id} does not record its package repositories"
    return repositories.changed(made.archives)


def known(
    made: Manifest, verification: Verification | None, *, on_host: bool = True, boots: bool = False
) -> KnownBuild:
    """A build as a plan knows it; with `boots`, a good build that was never booted counts as not verified."""
    counts = verification is not None and (verification.booted or not boots or not verification.passed)
    return KnownBuild(
        variant=made.variant,
        build_id=made.build_id,
        fingerprint=made.fingerprint,
        created_at=datetime.fromisoformat(made.created_at),
        verified=verification.passed if verification and counts else None,
        on_host=on_host,
        parts=made.parts,
    )


def is_whole(build: Build, made: Manifest) -> bool:
    """Whether the image of a build is on this host, in its full size."""
    image = build.folder / made.artifact.path
    return image.is_file() and image.stat().st_size == made.artifact.size


def owner(variants: Sequence[Variant], root: Path, build_id: str) -> Variant:
    """The one variant that has this build."""
    owners = [v for v in variants if any(build.build_id == build_id for build in store.complete(root, v))]
    if len(owners) == 1:
        return owners[0]
    if owners:
        names = ", ".join(variant.name for variant in owners)
        raise UsageError(f"{build_id} is a build of several images: {names}", remedy="Name one of them with --only.")
    names = ", ".join(variant.name for variant in variants)
    raise UsageError(f"there is no complete build {build_id} of {names} in {root}", remedy="Name an existing build.")


def newest_releasable(root: Path, variant: Variant) -> Build:
    """The build that `plan` would release: the newest of what images.yaml says now that did not fail verification.

    UsageError when there is no build of that, since an image must be what its release data say.
    """
    wanted = fingerprint.present(variant, root).digest
    newest = store.newest_complete(root, variant.name)
    same = [build for build in store.complete(root, variant) if build.manifest().fingerprint == wanted]
    if not same:
        raise UsageError(
            f"{variant.name}: {newest.build_id} is stale: images.yaml or an element changed after it was built",
            remedy=f"`./inv plan` lists what changed. Run `./inv build {variant.name}`, or name it with --build.",
        )
    return next((build for build in reversed(same) if _may_be_good(build)), same[-1])


def named(root: Path, variant: Variant, build_id: str) -> Build:
    """A build that the operator named, stale or not."""
    build = store.newest_complete(root, variant.name, build_id)
    if build.manifest().fingerprint != fingerprint.present(variant, root).digest:
        console.warn(f"{variant.name}: {build_id} is stale (`./inv plan` lists what changed); released because named")
    return build


def _may_be_good(build: Build) -> bool:
    verification = build.verification()
    return verification is None or verification.passed
