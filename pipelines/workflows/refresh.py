"""Refresh of several images, on this host and in all clouds: build, verify, upload, promote, update, prune.

What exists is read again for each image, so an interrupted run is finished by the next one. A failure stops neither the
other images nor the other clouds; all failures are raised at the end.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipelines.artifacts import store
from pipelines.catalog.variant import Variant
from pipelines.plan import planner
from pipelines.plan.model import Action
from pipelines.release import prune
from pipelines.util import console, failures
from pipelines.util.errors import CloudError
from pipelines.workflows import refresh_clouds
from pipelines.workflows import site as workflows_site
from pipelines.workflows.build import run_builder, warn_about_drivers
from pipelines.workflows.refresh_run import Refresh, failure_text
from pipelines.workflows.site import SiteState
from pipelines.workflows.verify import require_passed, verify_build


def refresh(run: Refresh, variants: Sequence[Variant]) -> None:
    """Refresh one image after the other."""
    warn_about_drivers(variants, run.now().date())
    connection_errors = {f"cloud {name}": error for name, error in run.site.connection_errors.items()}
    with failures.each([*(variant.name for variant in variants), *connection_errors]) as one:
        for name, error in connection_errors.items():
            with one(name):
                raise error
        for variant in variants:
            with one(variant.name), run.recording_outcome(variant):
                refresh_image(run, variant)


def refresh_image(run: Refresh, variant: Variant) -> None:
    """One image, step by step, each from what the one before has left."""
    plan = _read_and_plan(run, variant)
    _announce(plan)
    _build_and_verify(run, plan)
    _save_record(run, variant)
    if plan.builds:
        plan = _read_and_plan_again(run, variant)
    _report_idle(plan)
    _upload_promote_and_prune(run, plan)
    _prune_host(run, variant)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """What has to be done for one image, from the state that was read.

    `built`: this refresh has built it. `held_back_by`: the rolled-back build that a new one would only repeat, or "".
    """

    variant: Variant
    state: SiteState
    actions: Sequence[Action]
    built: bool = False
    held_back_by: str = ""

    @property
    def builds(self) -> bool:
        return any(action.verb == "build" for action in self.actions)

    @property
    def on_host(self) -> list[Action]:
        return [action for action in self.actions if action.cloud is None]

    @property
    def in_clouds(self) -> list[Action]:
        return [action for action in self.actions if action.cloud is not None]


def _read_and_plan(run: Refresh, variant: Variant) -> _Plan:
    state = workflows_site.read_state(run.site, [variant], online=True, all_clouds=False)
    now = run.now()
    held_back_by = planner.held_back_by(state.targets[0], state.inventory, now)
    return _Plan(variant=variant, state=state, actions=state.actions(now), held_back_by=held_back_by)


def _read_and_plan_again(run: Refresh, variant: Variant) -> _Plan:
    """What the new build leaves to do. CloudError when that would be a build once more."""
    state = workflows_site.read_state(run.site, [variant], all_clouds=False)
    plan = _Plan(variant=variant, state=state, actions=state.actions(run.now()), built=True)
    for action in plan.actions:
        if action.verb == "build":
            # Another scheduler was faster, or a clock is behind: one more build would end the same way.
            what = f"{variant.name} was built, and would have to be built again: {action.reason}"
            raise CloudError(what, remedy="Run the same command again.")
    return plan


def _announce(plan: _Plan) -> None:
    for action in plan.actions:
        where = f" in {action.cloud}" if action.cloud else ""
        console.note(f"{plan.variant.name}: {action.verb}{where}: {action.reason}")


def _build_and_verify(run: Refresh, plan: _Plan) -> None:
    for action in plan.on_host:
        run.carry_out(action, functools.partial(_build_or_verify, run, plan.variant, action))


def _build_or_verify(run: Refresh, variant: Variant, action: Action) -> tuple[str, str]:
    """Returns the build's ID, and no image's."""
    if action.verb == "build":
        build = run_builder(variant, run.site.root, run.now(), verbose=run.verbose)
    else:
        build = store.newest_complete(run.site.root, variant.name, action.build_id)
    require_passed(verify_build(build, variant, run.now, boot=run.site.boots))
    return build.build_id, ""


def _save_record(run: Refresh, variant: Variant) -> None:
    """Record the newest build: from that, a later run on another host knows what is in it."""
    for build in store.complete(run.site.root, variant)[-1:]:
        run.site.records.put(build)


def _cloud_errors(plan: _Plan) -> dict[str, CloudError]:
    """Why nothing can be done in some clouds."""
    return {**plan.state.listing_errors, **_clouds_without_image(plan)}


def _clouds_without_image(plan: _Plan) -> dict[str, CloudError]:
    """The clouds that have no current image and get none, since the only possible build was rolled back."""
    if not plan.held_back_by:
        return {}
    images = plan.state.inventory.images
    current = {image.cloud for image in images if image.state == "current"}
    promoted = {action.cloud for action in plan.actions if action.verb == "promote"}
    missing = [cloud.name for cloud in plan.state.site.clouds if cloud.name not in current | promoted]
    holders = {image.cloud for image in images if image.build_id == plan.held_back_by and image.state != "broken"}
    return {name: _held_back(plan, name, uploaded=name in holders) for name in missing}


def _held_back(plan: _Plan, cloud: str, *, uploaded: bool) -> CloudError:
    variant, build_id = plan.variant.name, plan.held_back_by
    command = f"./inv {'promote' if uploaded else 'upload'} --cloud {cloud} --only {variant} --build {build_id}"
    return CloudError(
        f"{cloud} has no current image of {variant}, and a new build would only repeat {build_id}, "
        "which was rolled back",
        remedy=f"`{command}` releases it anyway; a changed image or package is built as usual.",
    )


def _report_idle(plan: _Plan) -> None:
    if not (plan.built or plan.actions or _cloud_errors(plan)):
        held_back_by = plan.held_back_by
        why = f": a new build would only repeat {held_back_by}, which was rolled back" if held_back_by else ""
        console.say(f"{plan.variant.name}: nothing to do{why}")


def _upload_promote_and_prune(run: Refresh, plan: _Plan) -> None:
    """In the clouds that could be listed; the errors of the others are raised with those that happen here."""
    errors = _cloud_errors(plan)
    run.cloud_errors.update({(plan.variant.name, cloud): failure_text(error) for cloud, error in errors.items()})
    # A cloud that could not be listed is not asked for a build that another one needs, either.
    listed = replace(run, site=plan.state.site)
    refresh_clouds.release(listed, plan.variant, plan.in_clouds, errors)


def _prune_host(run: Refresh, variant: Variant) -> None:
    for path in prune.prune_here(run.site.root, variant.name, variant.keep):
        console.note(f"{variant.name}: deleted {path} (retention, keep: {variant.keep})")
