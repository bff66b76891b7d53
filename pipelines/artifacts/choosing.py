"""Which build is meant?"""

from collections.abc import Sequence
from pathlib import Path

from pipelines.artifacts import manifest
from pipelines.artifacts.manifest import Build
from pipelines.build import fingerprint
from pipelines.catalog.variant import Variant
from pipelines.util import console
from pipelines.util.errors import UsageError


def complete(root: Path, variant: Variant) -> list[Build]:
    """The complete builds of a variant, the oldest first."""
    return [build for build in manifest.builds(root, variant.name) if build.state == manifest.COMPLETE]


def owner(variants: Sequence[Variant], root: Path, build_id: str) -> Variant:
    """The one variant that has this build."""
    owners = [v for v in variants if any(build.build_id == build_id for build in complete(root, v))]
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
    newest = manifest.newest_complete(root, variant.name)
    same = [build for build in complete(root, variant) if build.manifest().fingerprint == wanted]
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
    made = manifest.newest_complete(root, variant.name, build_id)
    if made.manifest().fingerprint != fingerprint.present(variant, root).digest:
        console.warn(f"{variant.name}: {build_id} is stale (`./inv plan` says what changed); released as asked for")
    return made
