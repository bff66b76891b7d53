"""Must a variant be built, or would that make what lies here already?

The newest build that is not known to be bad stands when a build would have its fingerprint now, what servers have now
included; when it is not too old; and when the package archives that it took packages from say what they said then.
"""

from collections.abc import Iterator, Sequence
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
class Standing:
    """The build that stands, or None and why one must be made."""

    build: Build | None
    why: str = ""


def standing(variant: Variant, root: Path, now: datetime) -> Standing:
    """Whether a build of the variant would make what lies here. Servers are asked for digests, never for images.

    Whatever cannot be found out is a reason to build: a build says best what is wrong.
    """
    try:
        complete = [build for build in store.builds(root, variant.name) if build.state == store.COMPLETE]
        since = _since_the_last_good(complete)
        if not since:
            return Standing(build=None, why="no build yet")
        why = _why(variant, root, since, now)
    except (BuildError, HostError, VerifyError) as error:
        return Standing(build=None, why=" ".join(error.what.split()))
    return Standing(build=None if why else since[0], why=why)


def local_builds(builds: Sequence[Build], *, boots: bool = False) -> Iterator[KnownBuild]:
    """Complete builds, as plan.py wants to know them; with `boots`, one that was never booted is not verified."""
    for build in builds:
        yield as_build(build.manifest(), build.verification(), here=not _lacks(build), boots=boots)


def as_build(
    made: Manifest, verification: Verification | None, *, here: bool = True, boots: bool = False
) -> KnownBuild:
    """What a manifest and the verification beside it say of a build."""
    counts = verification is not None and (verification.booted or not boots or not verification.passed)
    return KnownBuild(
        variant=made.variant,
        build_id=made.build_id,
        fingerprint=made.fingerprint,
        created_at=datetime.fromisoformat(made.created_at),
        verified=verification.passed if verification and counts else None,
        on_host=here,
        parts=made.parts,
    )


def _since_the_last_good(builds: Sequence[Build]) -> Sequence[Build]:
    """The newest build that did not fail verification, and the later ones that did."""
    for index in range(len(builds) - 1, -1, -1):
        verification = builds[index].verification()
        if verification is None or verification.passed:
            return builds[index:]
    return builds


def _why(variant: Variant, root: Path, builds: Sequence[Build], now: datetime) -> str:
    """Why the first of these builds does not stand; "" when it does."""
    wanted = fingerprint.asked(variant, root)
    target = Target(
        variant=variant.name,
        fingerprint=wanted.digest,
        parts=wanted.parts,
        rebuild_age=variant.rebuild_age,
    )
    inventory = Inventory(builds=tuple(local_builds(builds)))
    reasons = [action.reason for action in planner.plan([target], inventory, now) if action.verb == "build"]
    return reasons[0] if reasons else _lacks(builds[0]) or _archives(variant, builds[0].manifest())


def _lacks(build: Build) -> str:
    """What of a build is gone."""
    image = build.image()
    whole = image.is_file() and image.stat().st_size == build.manifest().artifact.size
    return "" if whole else f"{build.build_id} has lost its image: {image}"


def _archives(variant: Variant, made: Manifest) -> str:
    if variant.kind == "import":
        return ""
    if not made.archives:
        return f"{made.build_id} does not say from which package archives it was made"
    return repositories.changed(made.archives)


def owner(variants: Sequence[Variant], root: Path, build_id: str) -> Variant:
    """The one variant that has this build."""
    owners = [v for v in variants if any(build.build_id == build_id for build in store.complete(root, v))]
    if len(owners) == 1:
        return owners[0]
    if owners:
        names = ", ".join(variant.name for variant in owners)
        raise UsageError(f"{build_id} is a build of each of {names}", remedy="Name one of them with --only.")
    names = ", ".join(variant.name for variant in variants)
    raise UsageError(f"there is no complete build {build_id} of {names} in {root}", remedy="Name one that is there.")


def present(root: Path, variant: Variant) -> Build:
    """The build that `plan` would release: the newest of what images.yaml says now whose verification has not failed.

    UsageError when there is none of that, since an image must be what its release says of it.
    """
    wanted = fingerprint.present(variant, root).digest
    newest = store.newest_complete(root, variant.name)
    same = [build for build in store.complete(root, variant) if build.manifest().fingerprint == wanted]
    if not same:
        raise UsageError(
            f"{variant.name}: {newest.build_id} is stale, since images.yaml or an element changed after it was built",
            remedy=f"`./inv plan` says what changed. Run `./inv build {variant.name}`, or name it with --build.",
        )
    return next((build for build in reversed(same) if _may_be_good(build)), same[-1])


def _may_be_good(build: Build) -> bool:
    verification = build.verification()
    return verification is None or verification.passed


def named(root: Path, variant: Variant, build_id: str) -> Build:
    """The build that was asked for, stale or not."""
    made = store.newest_complete(root, variant.name, build_id)
    if made.manifest().fingerprint != fingerprint.present(variant, root).digest:
        console.warn(f"{variant.name}: {build_id} is stale (`./inv plan` says what changed); released as asked for")
    return made
