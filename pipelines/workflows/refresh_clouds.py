"""The cloud part of one image's refresh: all clouds side by side, in each of them one action after the other."""

import functools
import threading
from collections.abc import Callable, Mapping, Sequence

from pipelines.artifacts import store
from pipelines.artifacts.store import Build
from pipelines.catalog.variant import Variant
from pipelines.glance.client import Cloud
from pipelines.plan.model import Action
from pipelines.release import prune, publish, restore
from pipelines.util import console, failures
from pipelines.util.errors import CloudError, PipelineError
from pipelines.workflows import local_builds
from pipelines.workflows import site as workflows_site
from pipelines.workflows.refresh_run import Refresh
from pipelines.workflows.verify import verify_build


def release(run: Refresh, variant: Variant, actions: Sequence[Action], errors: Mapping[str, PipelineError]) -> None:
    """Carry out the actions of the run's clouds; in each of them, none after one that failed.

    Raises all failures together, and with them the `errors` of clouds for which nothing can be done.
    """
    work = {}
    for cloud in run.site.clouds:
        if own := [action for action in actions if action.cloud == cloud.name]:
            work[cloud.name] = functools.partial(_in_cloud, run, variant, cloud, own)
    _side_by_side(work, errors)


def _side_by_side(work: Mapping[str, Callable[[], None]], errors: Mapping[str, PipelineError]) -> None:
    """Each piece of work in a thread of its own. An interrupt ends them with the program: the next run resumes."""
    failed: dict[str, BaseException] = {}

    def run(name: str) -> None:
        try:
            work[name]()
        except BaseException as error:  # raised below, where all are waited for
            failed[name] = error

    threads = {name: threading.Thread(target=run, args=(name,), daemon=True) for name in work}
    for thread in threads.values():
        thread.start()
    with failures.each([*errors, *threads]) as one:
        for name, error in errors.items():
            with one(name):
                raise error
        for name, thread in threads.items():
            with one(name):
                thread.join()
                if name in failed:
                    raise failed[name]


def _in_cloud(run: Refresh, variant: Variant, cloud: Cloud, actions: Sequence[Action]) -> None:
    uploads = any(action.verb == "upload" for action in actions)
    here = run.site.catalog.for_cloud(variant, cloud.name)
    for action in actions:
        if action.verb == "promote" and uploads:
            continue  # an upload promotes
        run.carry_out(action, functools.partial(_done, run, here, cloud, action))


def _done(run: Refresh, variant: Variant, cloud: Cloud, action: Action) -> tuple[str, str]:
    """Carry out one action and report it; returns the IDs of the build and of the images."""
    made = functools.partial(workflows_site.manifest_of, run.site, variant.name)
    match action.verb:
        case "upload":
            done = [_upload(run, variant, cloud, action)]
        case "promote":
            done = [publish.promote(cloud, variant, action.build_id, made, run.now())]
        case "update":
            done = list(publish.update(cloud, variant, action.images, made))
        case _:
            return "", _prune(run, variant, cloud, action)
    for outcome in done:
        console.say(str(outcome))
    return done[-1].build_id if done else "", " ".join(outcome.image_id for outcome in done)


def _upload(run: Refresh, variant: Variant, cloud: Cloud, action: Action) -> publish.Outcome:
    build = _obtain(run, variant, action.build_id or "")
    verification = build.verification() or verify_build(build, variant, run.now)
    delivery = run.site.catalog.delivery(cloud.name)
    return publish.release(cloud, variant, build, verification, run.now(), delivery=delivery)


def _prune(run: Refresh, variant: Variant, cloud: Cloud, action: Action) -> str:
    """Delete images as far as that is still right; returns the IDs of those that were deleted."""
    pruned = prune.prune(cloud, variant.name, action.images, run.now())
    for each in pruned:
        console.say(str(each))
    return " ".join(each.image_id for each in pruned if not each.kept)


def _obtain(run: Refresh, variant: Variant, build_id: str) -> Build:
    """The build to upload: on this host, or downloaded from a cloud that has it."""
    with run.download_lock:
        for build in store.complete(run.site.root, variant):
            if build.build_id == build_id and local_builds.is_whole(build, build.manifest()):
                return build
        record = run.site.records.known_build(variant.name, build_id)
        found = restore.holder(list(run.site.clouds), record.manifest) if record else None
        if record is None or found is None:
            what = f"{variant.name} {build_id} is neither on this host nor in a cloud any more"
            raise CloudError(what, remedy="Run the same command again: it will be built again.")
        return restore.retrieve(*found, record, run.site.root)
