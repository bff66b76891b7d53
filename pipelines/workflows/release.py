"""How do builds of several variants reach a cloud, and come back?

Each variant on its own: a failure of one never stops the others, and none is lost.
"""

import functools
from collections.abc import Sequence
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
from pipelines.workflows import build, local_builds
from pipelines.workflows import site as workflows_site
from pipelines.workflows.site import Site


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

    One that was never verified is verified first. A variant that was never built has nothing to release: an error when
    it is the only one, a note among several.
    """
    if build_id is not None:
        variants = [local_builds.owner(variants, root, build_id)]
    with failures.each([variant.name for variant in variants]) as one:
        for variant in variants:
            with one(variant.name):
                if len(variants) > 1 and not store.complete(root, variant):
                    console.note(f"{variant.name}: no complete build; nothing to upload")
                    continue
                made = (
                    local_builds.present(root, variant)
                    if build_id is None
                    else local_builds.named(root, variant, build_id)
                )
                verification = made.verification() or build.verify_one(made, variant, now)
                build.require_passed(verification)
                console.say(
                    str(
                        publish.release(cloud, variant, made, verification, now(), delivery=delivery, promotes=promotes)
                    )
                )


def promote(site: Site, variants: Sequence[Variant], build_id: str | None, now: Clock) -> None:
    """Show the newest image of each variant that the site's cloud has, or that of one build; nothing is sent."""
    (cloud,) = site.clouds
    with failures.each([variant.name for variant in variants]) as one:
        for variant in variants:
            with one(variant.name):
                made = functools.partial(workflows_site.manifest_of, site, variant.name)
                here = site.catalog.for_cloud(variant, cloud.name)
                console.say(str(publish.promote(cloud, here, build_id, made, now())))


def rollback(site: Site, variants: Sequence[Variant], build_id: str | None, now: Clock) -> None:
    """Go back to the good image before the current one of each variant, or to that of one build."""
    if build_id is not None and len(variants) > 1:
        raise UsageError("--to names a build of one image", remedy="Name that image alone.")
    (cloud,) = site.clouds
    with failures.each([variant.name for variant in variants]) as one:
        for variant in variants:
            with one(variant.name):
                made = functools.partial(workflows_site.manifest_of, site, variant.name)
                here = site.catalog.for_cloud(variant, cloud.name)
                console.say(str(publish.rollback(cloud, here, build_id, made, now())))


def prunable(site: Site, variants: Sequence[Variant], now: datetime) -> list[Action]:
    """What may be deleted in the site's clouds, as far as a plan can say."""
    seen = workflows_site.look(site, variants)
    return retention.prunable(seen.targets, seen.inventory, now)


def prune(site: Site, actions: Sequence[Action], now: datetime) -> None:
    """Delete it, as far as that is still right."""
    clouds = {cloud.name: cloud for cloud in site.clouds}
    with failures.each([action.variant for action in actions]) as one:
        for action in actions:
            with one(action.variant):
                for each in release_prune.prune(clouds[action.cloud or ""], action.variant, action.images, now):
                    console.say(str(each))
    if not actions:
        console.say("Nothing to delete.")
