"""What does diskimage-builder do, and how did it end?

Runs disk-image-create, once or several times for one build, into one log; shows the operator what goes on, keeps the
timings, and says which element failed, and why.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipelines.build.progress import Progress
from pipelines.build.recipe import Command, Recipe
from pipelines.util import process
from pipelines.util.console import Ticker, ticker
from pipelines.util.errors import BuildError, ProgramError

DEADLINE_SECONDS = 3 * 3600.0
SHOWN_LINES = 12
_MIRROR_SIGNS = ("Failed to fetch", "Could not connect", "Temporary failure resolving", "404  Not Found")


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """The runs of one build; `progress` has their timings."""

    plan: Recipe
    log: Path
    shown: Ticker
    progress: Progress

    def execute(self, command: Command, stdin: bytes, layer: str = "") -> None:
        """One run, that of a layer where there are several. BuildError with the failing element and its last lines."""
        self.progress.layer = layer
        try:
            result = process.stream(
                command.argv,
                deadline=DEADLINE_SECONDS,
                log=self.log,
                on_line=self._line,
                on_idle=self.shown.tick,
                env=command.environment,
                stdin=stdin,
            )
        except ProgramError as error:
            raise self._failure(str(error)) from error
        if result.returncode != 0:
            raise self._failure(f"exit code {result.returncode}")
        self.progress.end(time.monotonic())

    @contextmanager
    def timed(self, layer: str, stage: str) -> Iterator[None]:
        """A stage of our own, of a layer's work."""
        self.progress.layer = layer
        self.progress.begin(stage, time.monotonic())
        self.shown.stage(f"{stage} ({layer} layer)")
        yield
        self.progress.end(time.monotonic())

    def _line(self, text: str) -> None:
        if self.progress.line(text, time.monotonic()):
            self.shown.stage(self._stage())
        self.shown.line(text)

    def _stage(self) -> str:
        progress = self.progress
        return f"{progress.current} ({progress.element})" if progress.element else progress.current

    def _failure(self, how: str) -> BuildError:
        progress = self.progress
        where = f"element {progress.element}, {progress.current}" if progress.element else progress.current
        layer = self.plan.layer_of.get(progress.element, "")
        last = "\n".join(f"  | {line}" for line in progress.recent[-SHOWN_LINES:])
        in_layer = f" ({layer} layer)" if layer else ""
        return BuildError(
            f"{self.plan.variant}: diskimage-builder failed in {where}{in_layer}: {how}\n{last}",
            remedy=f"The whole log: {self.log}{_hint(progress.recent)}",
        )


@contextmanager
def session(plan: Recipe, log: Path, *, verbose: bool) -> Iterator[Session]:
    """The runs of a build of this recipe, shown to the operator."""
    with ticker(plan.variant, verbose=verbose) as shown:
        yield Session(plan=plan, log=log, shown=shown, progress=Progress(owners=_owners(plan)))


def _owners(plan: Recipe) -> Mapping[str, tuple[str, str]]:
    """Which layer and element a phase's script comes from."""
    return {
        f"{script.parent.name}/{script.name}": (plan.layer_of[element], element)
        for element, folder in plan.closure.items()
        for script in folder.glob("*.d/*")
    }


def _hint(lines: Sequence[str]) -> str:
    text = "\n".join(lines)
    if "No space left on device" in text:
        return "\nThe disk is full: free some space, or put the builds elsewhere with --builds DIR."
    if any(sign in text for sign in _MIRROR_SIGNS):
        return "\nThe package mirror failed: `./inv doctor` shows which one is used; try again when it answers."
    if "curl: (" in text:
        return "\nA server did not answer: `./inv doctor --only NAME` asks each one that the build needs."
    return ""
