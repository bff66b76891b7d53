"""Runs of diskimage-builder for one build: their log, progress, timings and failure.

Progress is read from the output, line by line: dib-run-parts names each script that it starts and completes, and the
recipe says which element a script belongs to.
"""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.build.recipe import Command, Recipe
from pipelines.util import process
from pipelines.util.console import Ticker, ticker
from pipelines.util.errors import BuildError, ProgramError

DEADLINE_SECONDS = 3 * 3600.0
SHOWN_LINES = 12
_UMASK = 0o022  # the guest's: under a stricter one of the operator's, its users could not read what phases write
_MIRROR_SIGNS = ("Failed to fetch", "Could not connect", "Temporary failure resolving", "404  Not Found")

_RUNNING = re.compile(r"dib-run-parts Running \S*/(?P<phase>[a-z-]+\.d)/(?P<script>[\w-]+)$")
_COMPLETED = re.compile(r"dib-run-parts (?P<script>[\w-]+) completed$")
# DIB's own clean-up follows the error, and would hide it.
_NOISE = re.compile(r"dib-run-parts|^\s*$|^\+|^> *$|^-+$|^Unmount /|diskimage_builder\.block_device")
_RECENT_LINES = 40
TIMESTAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \| ")


@dataclass(slots=True)
class Progress:
    """Progress so far. `owners` maps "phase.d/script" → (layer, element); `layer` is the one that is being made, empty
    where one run makes all. The time is an argument.

    `stages` maps "layer/phase.d/script" → seconds, in the order of the runs; `recent` holds the last lines of output.
    """

    owners: Mapping[str, tuple[str, str]]
    layer: str = ""
    stages: dict[str, float] = field(default_factory=dict)
    recent: list[str] = field(default_factory=list)
    current: str = "setting up"
    _since: float = 0.0

    @property
    def element(self) -> str:
        """The element whose script is running, or ran last."""
        return self.owners.get(self.current, ("", ""))[1]

    def layers(self) -> dict[str, float]:
        """Seconds by layer."""
        found: dict[str, float] = {}
        for stage, seconds in self.stages.items():
            layer = stage.partition("/")[0]
            found[layer] = round(found.get(layer, 0.0) + seconds, 3)
        return found

    def line(self, text: str, now: float) -> bool:
        """Take a line of output that came at `now` (seconds); whether a new stage starts with it."""
        text = TIMESTAMP.sub("", text)
        if not _NOISE.search(text):
            self.recent = [*self.recent[-(_RECENT_LINES - 1) :], text]
        started = _RUNNING.search(text)
        if started:
            self.start(f"{started['phase']}/{started['script']}", now)
        elif _COMPLETED.search(text):
            self.end(now)
        return started is not None

    def start(self, stage: str, now: float) -> None:
        """A stage started at `now`."""
        self.current, self._since = stage, now

    def end(self, now: float) -> None:
        """The current stage ended at `now`."""
        layer = self.layer or self.owners.get(self.current, ("variant", ""))[0]
        if self._since:
            name = f"{layer}/{self.current}"
            self.stages[name] = round(self.stages.get(name, 0.0) + now - self._since, 3)
            self._since = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """The runs of one build, in one log, shown to the operator; `progress` has their timings."""

    recipe: Recipe
    log: Path
    shown: Ticker
    progress: Progress

    def execute(self, command: Command, stdin: bytes, layer: str = "") -> None:
        """One run, that of `layer` where there are several. BuildError with the failing element and the last lines."""
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
                umask=_UMASK,
            )
        except ProgramError as error:
            raise self._failure(str(error)) from error
        if result.returncode != 0:
            raise self._failure(f"exit code {result.returncode}")
        self.progress.end(time.monotonic())

    @contextmanager
    def timed(self, layer: str, stage: str) -> Iterator[None]:
        """A stage of a layer that is not diskimage-builder's."""
        self.progress.layer = layer
        self.progress.start(stage, time.monotonic())
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
        layer = self.recipe.layer_of.get(progress.element, "")
        last = "\n".join(f"  | {line}" for line in progress.recent[-SHOWN_LINES:])
        in_layer = f" ({layer} layer)" if layer else ""
        return BuildError(
            f"{self.recipe.variant}: diskimage-builder failed in {where}{in_layer}: {how}\n{last}",
            remedy=f"The whole log: {self.log}{_hint(progress.recent)}",
        )


@contextmanager
def session(recipe: Recipe, log: Path, *, verbose: bool) -> Iterator[Session]:
    """A session for a build of this recipe."""
    with ticker(recipe.variant, verbose=verbose) as shown:
        yield Session(recipe=recipe, log=log, shown=shown, progress=Progress(owners=_owners(recipe)))


def _owners(recipe: Recipe) -> Mapping[str, tuple[str, str]]:
    """ "phase.d/script" → the layer and the element that it comes from."""
    return {
        f"{script.parent.name}/{script.name}": (recipe.layer_of[element], element)
        for element, folder in recipe.closure.items()
        for script in folder.glob("*.d/*")
    }


def _hint(lines: Sequence[str]) -> str:
    text = "\n".join(lines)
    if "No space left on device" in text:
        return "\nThe disk is full: free some disk space, or put the builds elsewhere with --builds DIR."
    if any(sign in text for sign in _MIRROR_SIGNS):
        return "\nThe package mirror failed: `./inv doctor` shows which one is used; try again when it answers."
    if "curl: (" in text:
        return "\nA server did not answer: `./inv doctor --only NAME` checks each one that the build needs."
    return ""
