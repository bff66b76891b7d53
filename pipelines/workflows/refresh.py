"""Carry out a plan.

For every image, and on every cloud: build, verify, upload, promote, update, prune. Before each image the world is
looked at anew, so what an earlier run finished is not done again, wherever that broke off; one failure never stops the
rest, and none is lost.
"""

import contextlib
import functools
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipelines.artifacts import store
from pipelines.artifacts.manifest import Manifest
from pipelines.artifacts.store import Build
from pipelines.catalog.variant import Variant
from pipelines.glance.client import Cloud
from pipelines.plan import model, planner
from pipelines.plan.model import Action
from pipelines.release import prune, publish, restore
from pipelines.util import console, failures
from pipelines.util.errors import CloudError, PipelineError
from pipelines.util.times import Clock
from pipelines.workflows import build as workflows_build
from pipelines.workflows import site as workflows_site
from pipelines.workflows.site import Seen, Site


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One thing that was done, or that failed: `error` says what, and the remedy.

    `cloud` is None for what happened here. `image_id` is what was released or, of a prune, what was deleted.
    """

    verb: model.Verb
    variant: str
    cloud: str | None
    reason: str
    build_id: str = ""
    image_id: str = ""
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refresh:
    """One run over several images. `steps` is filled as they end, those of several clouds in any order.

    `ended` has each image that was reached: what ended its work, "" when all of that was done. `unserved` maps an image
    and a cloud for which nothing could be done at all to why.
    """

    site: Site
    now: Clock
    verbose: bool = False
    steps: list[Step] = field(default_factory=list)
    ended: dict[str, str] = field(default_factory=dict)
    unserved: dict[tuple[str, str], str] = field(default_factory=dict)
    fetching: threading.Lock = field(default_factory=threading.Lock)


def refresh(run: Refresh, variants: Sequence[Variant]) -> None:
    """Do what a plan says, image by image; what failed is raised at the end, all of it."""
    workflows_build.warn(variants, run.now().date())
    unreachable = {f"cloud {name}": error for name, error in run.site.unreachable.items()}
    with failures.each([*(variant.name for variant in variants), *unreachable]) as one:
        for name, error in unreachable.items():
            with one(name):
                raise error
        for variant in variants:
            with one(variant.name), _ending(run, variant):
                _one(run, variant)


def said(error: BaseException) -> str:
    """What failed, and what to do about it, as a summary shows it."""
    if not isinstance(error, PipelineError):
        return traceback.format_exception_only(error)[-1].strip()
    return f"{error.what}\nremedy: {error.remedy}" if error.remedy else error.what


@contextlib.contextmanager
def _ending(run: Refresh, variant: Variant) -> Iterator[None]:
    """How the work on an image ends is known afterwards, whatever ends it."""
    try:
        yield
    except BaseException as error:
        run.ended[variant.name] = said(error)
        raise
    run.ended[variant.name] = ""


def _one(run: Refresh, variant: Variant) -> None:
    seen = workflows_site.look(run.site, [variant], asks_archives=True, all_clouds=False)
    actions = seen.actions(run.now())
    for action in actions:
        console.note(f"{variant.name}: {action.verb}{f' in {action.cloud}' if action.cloud else ''}: {action.reason}")
    held = planner.held_back_by(seen.targets[0], seen.inventory, run.now())
    for action in actions:
        if action.cloud is None:
            _timed(run, action, functools.partial(_here, run, variant, action))
    _keep_record(run, variant)
    if built := any(action.verb == "build" for action in actions):
        seen, actions = _anew(run, variant)
    without = {**seen.lost, **_empty(variant, seen, actions, held)}
    if not (built or actions or without):
        again = f": a new build would be {held} again, from which somebody went back" if held else ""
        console.say(f"{variant.name}: nothing to do{again}")
    run.unserved.update({(variant.name, cloud): said(error) for cloud, error in without.items()})
    # A cloud that cannot be listed is not asked for a build that another one needs, either.
    own = [action for action in actions if action.cloud is not None]
    _in_clouds(replace(run, site=seen.site), variant, own, without)
    for path in prune.prune_here(run.site.root, variant.name, variant.keep):
        console.note(f"{variant.name}: deleted {path}, beyond keep {variant.keep}")


def _anew(run: Refresh, variant: Variant) -> tuple[Seen, list[Action]]:
    """What there is after a build, and what it leaves to do. CloudError when that would be a build once more."""
    seen = workflows_site.look(run.site, [variant], all_clouds=False)
    actions = seen.actions(run.now())
    for action in actions:
        if action.verb == "build":
            # Another scheduler was faster, or a clock is behind: a build now would meet the same.
            what = f"{variant.name} was built, and would have to be built again: {action.reason}"
            raise CloudError(what, remedy="Run the same command again.")
    return seen, actions


def _empty(variant: Variant, seen: Seen, actions: Sequence[Action], held: str) -> dict[str, CloudError]:
    """The clouds that show no image, and get none because somebody went back from the only build there would be."""
    shows = {image.cloud for image in seen.inventory.images if image.state == "current"}
    shows |= {action.cloud for action in actions if action.verb == "promote" and action.cloud}
    has = {image.cloud for image in seen.inventory.images if image.build_id == held and image.state != "broken"}
    return {
        cloud.name: CloudError(
            f"{cloud.name} shows no image of {variant.name}, and a new build would be {held} again, "
            "from which somebody went back",
            remedy=f"`./inv {'promote' if cloud.name in has else 'upload'} --cloud {cloud.name} --only {variant.name} "
            f"--build {held}` shows it all the same; a change of images.yaml or of a package is built as ever.",
        )
        for cloud in seen.site.clouds
        if held and cloud.name not in shows
    }


def _here(run: Refresh, variant: Variant, action: Action) -> tuple[str, str]:
    """Build and verify, or verify; the build's ID, and no image's."""
    if action.verb == "build":
        made = workflows_build.make(variant, run.site.root, run.now(), verbose=run.verbose)
    else:
        made = store.newest_complete(run.site.root, variant.name, action.build_id)
    workflows_build.require_passed(workflows_build.verify_one(made, variant, run.now, boot=run.site.boots))
    return made.build_id, ""


def _keep_record(run: Refresh, variant: Variant) -> None:
    """What is released has a record, from which a later run, elsewhere, knows what is in it."""
    for build in store.complete(run.site.root, variant)[-1:]:
        run.site.records.put(build)


def _in_clouds(run: Refresh, variant: Variant, actions: Sequence[Action], without: Mapping[str, PipelineError]) -> None:
    """All clouds side by side; in each, one action after the other, and none after one that failed.

    Why nothing can be done for the clouds `without` is raised with what fails in the others.
    """
    clouds = [cloud for cloud in run.site.clouds if any(action.cloud == cloud.name for action in actions)]
    ended: dict[str, BaseException | None] = {}

    def work(cloud: Cloud) -> None:
        own = [action for action in actions if action.cloud == cloud.name]
        try:
            _in_cloud(run, run.site.catalog.for_cloud(variant, cloud.name), cloud, own)
        except BaseException as error:  # it is raised where the others are waited for
            ended[cloud.name] = error

    # An interrupt ends them with the program: the next run finds what they left.
    begun = {cloud.name: threading.Thread(target=work, args=(cloud,), daemon=True) for cloud in clouds}
    for thread in begun.values():
        thread.start()
    with failures.each([*without, *begun]) as one:
        for name, failed in without.items():
            with one(name):
                raise failed
        for name, thread in begun.items():
            with one(name):
                thread.join()
                if error := ended.get(name):
                    raise error


def _in_cloud(run: Refresh, variant: Variant, cloud: Cloud, actions: Sequence[Action]) -> None:
    uploads = any(action.verb == "upload" for action in actions)
    for action in actions:
        if action.verb == "promote" and uploads:
            continue  # an upload ends with it
        _timed(run, action, functools.partial(_carried_out, run, variant, cloud, action))


def _carried_out(run: Refresh, variant: Variant, cloud: Cloud, action: Action) -> tuple[str, str]:
    """Do it; the build's and the image's IDs."""

    def made(build_id: str) -> Manifest | None:
        return workflows_site.manifest_of(run.site, variant.name, build_id)

    match action.verb:
        case "upload":
            build = _brought(run, variant, action)
            verification = build.verification() or workflows_build.verify_one(build, variant, run.now)
            delivery = run.site.catalog.delivery(cloud.name)
            done = [publish.release(cloud, variant, build, verification, run.now(), delivery=delivery)]
        case "promote":
            done = [publish.promote(cloud, variant, action.build_id, made, run.now())]
        case "update":
            done = list(publish.update(cloud, variant, action.images, made))
        case _:
            pruned = prune.prune(cloud, variant.name, action.images, run.now())
            for each in pruned:
                console.say(str(each))
            return "", " ".join(each.image_id for each in pruned if not each.kept)
    for outcome in done:
        console.say(str(outcome))
    return done[-1].build_id if done else "", " ".join(outcome.image_id for outcome in done)


def _brought(run: Refresh, variant: Variant, action: Action) -> Build:
    """The build to upload: it lies here, or is fetched from a cloud that has it."""
    with run.fetching:
        for build in store.complete(run.site.root, variant):
            if build.build_id == action.build_id and _is_whole(build):
                return build
        record = run.site.records.known_build(variant.name, action.build_id or "")
        found = restore.holder(list(run.site.clouds), record.manifest) if record else None
        if record is None or found is None:
            what = f"{variant.name} {action.build_id} is neither here nor in a cloud any more"
            raise CloudError(what, remedy="Run the same command again: it is built anew.")
        return restore.retrieve(*found, record, run.site.root)


def _is_whole(build: Build) -> bool:
    image = build.image()
    return image.is_file() and image.stat().st_size == build.manifest().artifact.size


def _timed(run: Refresh, action: Action, work: Callable[[], tuple[str, str]]) -> None:
    began = time.monotonic()
    build_id, image_id, error = action.build_id or "", " ".join(action.images), ""
    try:
        build_id, image_id = work()
    except BaseException as failed:
        error = said(failed)
        raise
    finally:
        run.steps.append(
            Step(
                verb=action.verb,
                variant=action.variant,
                cloud=action.cloud,
                reason=action.reason,
                build_id=build_id or action.build_id or "",
                image_id=image_id,
                seconds=time.monotonic() - began,
                error=error,
            )
        )
