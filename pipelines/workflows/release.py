"""Upload, promotion, rollback and retention for several variants in one cloud; a failure of one stops no other."""

import functools
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from pipelines.artifacts import store
from pipelines.catalog.clouds import Delivery
from pipelines.catalog.variant import Variant
from pipelines.glance.client import Cloud
from pipelines.plan import retention
from pipelines.plan.model import Action
from pipelines.release import prune as release_prune
from pipelines.release import publish
from pipelines.util import console, failures
from pipelines.util.errors import UsageError
from pipelines.util.times import Clock
from pipelines.workflows import local_builds
from pipelines.workflows import site as workflows_site
from pipelines.workflows.site import Site
from pipelines.workflows.verify import require_passed, verify_build


def upload(
    variants: Sequence[Variant],
    cloud: Cloud,
    root: Path,
    build_id: str | None,
    now: Clock,
    *,
    delivery: Delivery = publish.BY_DEFAULT,
    promotes: bool = True,
) -> None:
    """Release the newest good build of each variant that is what images.yaml says now, or the one named.

    A variant without any build is an error when it is the only one, a note among several.
    """
    if build_id is not None:
        variants = [local_builds.owner(variants, root, build_id)]

    def upload_one(variant: Variant) -> None:
        if len(variants) > 1 and not store.complete(root, variant):
            console.note(f"{variant.name}: no complete build; nothing to upload")
        else:
            upload_variant(variant, cloud, root, build_id, now, delivery=delivery, promotes=promotes)

    _for_each(variants, upload_one)


def upload_variant(
    variant: Variant, cloud: Cloud, root: Path, build_id: str | None, now: Clock, *, delivery: Delivery, promotes: bool
) -> None:
    """One variant, step by step: select its build, verify it unless that is done, upload and promote it, report."""
    if build_id is None:
        build = local_builds.newest_releasable(root, variant)
    else:
        build = local_builds.named(root, variant, build_id)
    verification = build.verification() or verify_build(build, variant, now)
    require_passed(verification)
    done = publish.release(cloud, variant, build, verification, now(), delivery=delivery, promotes=promotes)
    console.say(str(done))


def promote(site: Site, variants: Sequence[Variant], build_id: str | None, now: Clock) -> None:
    """Make the newest image of each variant in the site's cloud current, or that of one build; nothing is uploaded."""
    (cloud,) = site.clouds

    def promote_one(variant: Variant) -> None:
        made = functools.partial(workflows_site.manifest_of, site, variant.name)
        console.say(str(publish.promote(cloud, site.catalog.for_cloud(variant, cloud.name), build_id, made, now())))

    _for_each(variants, promote_one)


def rollback(site: Site, variants: Sequence[Variant], build_id: str | None, now: Clock) -> None:
    """Make the good image before the current one of each variant current again, or that of one build."""
    if build_id is not None and len(variants) > 1:
        raise UsageError("--to names a build of one image", remedy="Name only that image.")
    (cloud,) = site.clouds

    def roll_back_one(variant: Variant) -> None:
        made = functools.partial(workflows_site.manifest_of, site, variant.name)
        console.say(str(publish.rollback(cloud, site.catalog.for_cloud(variant, cloud.name), build_id, made, now())))

    _for_each(variants, roll_back_one)


def prunable(site: Site, variants: Sequence[Variant], now: datetime) -> list[Action]:
    """What may be deleted in the site's clouds, as far as a plan can tell."""
    state = workflows_site.read_state(site, variants)
    return retention.prunable(state.targets, state.inventory, now)


def prune(site: Site, actions: Sequence[Action], now: datetime) -> None:
    """Delete it, as far as that is still right."""
    clouds = {cloud.name: cloud for cloud in site.clouds}
    with failures.each([action.variant for action in actions]) as one:
        for action in actions:
            with one(action.variant):
                for pruned in release_prune.prune(clouds[action.cloud or ""], action.variant, action.images, now):
                    console.say(str(pruned))
    if not actions:
        console.say("Nothing to delete.")


def _for_each(variants: Sequence[Variant], work: Callable[[Variant], None]) -> None:
    """Failures are raised together at the end."""
    with failures.each([variant.name for variant in variants]) as one:
        for variant in variants:
            with one(variant.name):
                work(variant)
