"""One run of a refresh: what it works with, and what it has done so far."""

import contextlib
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pipelines.catalog.variant import Variant
from pipelines.plan import model
from pipelines.plan.model import Action
from pipelines.util.errors import PipelineError
from pipelines.util.times import Clock
from pipelines.workflows.site import Site


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One action that was carried out, or that failed: then `error` has the failure and its remedy.

    `cloud` is None for what happened on this host. `image_id` is what was released or, of a prune, what was deleted.
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
    """A refresh of several images. `steps` is filled as they end, those of several clouds in any order.

    `outcomes` has each image that was reached: the error that ended its work, "" when all of it was done.
    `cloud_errors` has, for an image and a cloud for which nothing could be done at all, the reason.
    """

    site: Site
    now: Clock
    verbose: bool = False
    steps: list[Step] = field(default_factory=list)
    outcomes: dict[str, str] = field(default_factory=dict)
    cloud_errors: dict[tuple[str, str], str] = field(default_factory=dict)
    download_lock: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def recording_outcome(self, variant: Variant) -> Iterator[None]:
        """Note how the work on an image ends, whatever ends it."""
        try:
            yield
        except BaseException as error:
            self.outcomes[variant.name] = failure_text(error)
            raise
        self.outcomes[variant.name] = ""

    def carry_out(self, action: Action, work: Callable[[], tuple[str, str]]) -> None:
        """Do the work of an action, which returns the IDs of the build and of the image, and note the step."""
        started = time.monotonic()
        build_id, image_id, error = action.build_id or "", " ".join(action.images), ""
        try:
            build_id, image_id = work()
        except BaseException as failed:
            error = failure_text(failed)
            raise
        finally:
            step = Step(
                verb=action.verb,
                variant=action.variant,
                cloud=action.cloud,
                reason=action.reason,
                build_id=build_id or action.build_id or "",
                image_id=image_id,
                seconds=time.monotonic() - started,
                error=error,
            )
            self.steps.append(step)


def failure_text(error: BaseException) -> str:
    """A failure and its remedy, for a summary."""
    if not isinstance(error, PipelineError):
        return traceback.format_exception_only(error)[-1].strip()
    return f"{error.what}\nremedy: {error.remedy}" if error.remedy else error.what
