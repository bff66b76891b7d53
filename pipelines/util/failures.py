"""Failures of some of several pieces of work.

The others are done all the same. Each failure is shown when it happens and summarized at the end; only an interrupt
stops everything.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

from pipelines.util import console
from pipelines.util.errors import INTERRUPTED, PipelineError, exit_code


class SeveralFailed(PipelineError):
    """The summary of failures that were shown when they happened, with the lowest of their exit codes."""

    def __init__(self, failed: dict[str, PipelineError], of: int) -> None:
        names = ", ".join(failed)
        super().__init__(f"{len(failed)} of {of} failed: {names}", remedy="See above, for each of them.")
        self.exit_code = exit_code(list(failed.values()))


def stops_everything(error: PipelineError) -> bool:
    """Whether the error is an interrupt."""
    return error.exit_code >= INTERRUPTED


@contextlib.contextmanager
def each(names: Sequence[str]) -> Iterator[Callable[[str], contextlib.AbstractContextManager[None]]]:
    """Let several pieces of work fail independently; the summary names those that failed, in the order of `names`."""
    failed: dict[str, PipelineError] = {}

    @contextlib.contextmanager
    def one(name: str) -> Iterator[None]:
        try:
            yield
        except PipelineError as error:
            if len(names) == 1 or stops_everything(error):
                raise
            console.fail(error)
            failed[name] = error

    yield one
    if failed:
        raise SeveralFailed({name: failed[name] for name in names if name in failed}, len(names))
