"""What is diskimage-builder doing?

Reads its output line by line. dib-run-parts says which script of which phase it runs and when that is done; the
element that a script belongs to is known from the recipe. Pure: the clock is an argument.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_RUNNING = re.compile(r"dib-run-parts Running \S*/(?P<phase>[a-z-]+\.d)/(?P<script>[\w-]+)$")
_COMPLETED = re.compile(r"dib-run-parts (?P<script>[\w-]+) completed$")
# DIB's own clean-up comes after what went wrong, and would hide it.
_NOISE = re.compile(r"dib-run-parts|^\s*$|^\+|^> *$|^-+$|^Unmount /|diskimage_builder\.block_device")
_KEPT_LINES = 40
TIMESTAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \| ")


@dataclass(slots=True)
class Progress:
    """What is known so far. `owners` maps "phase.d/script" → (layer, element); `layer` is the one that is being made,
    empty where all are made in one run.

    `stages` maps "layer/phase.d/script" → seconds, in the order of the runs; `recent` holds the last lines of output.
    """

    owners: Mapping[str, tuple[str, str]]
    layer: str = ""
    stages: dict[str, float] = field(default_factory=dict)
    recent: list[str] = field(default_factory=list)
    current: str = "setting up"
    _since: float = 0.0

    def layers(self) -> dict[str, float]:
        """Seconds by layer."""
        found: dict[str, float] = {}
        for stage, seconds in self.stages.items():
            layer = stage.partition("/")[0]
            found[layer] = round(found.get(layer, 0.0) + seconds, 3)
        return found

    def line(self, text: str, now: float) -> bool:
        """Take a line of output that came at `now` (seconds); true when a new stage begins."""
        text = TIMESTAMP.sub("", text)
        if not _NOISE.search(text):
            self.recent = [*self.recent[-(_KEPT_LINES - 1) :], text]
        if started := _RUNNING.search(text):
            return self._begin(f"{started['phase']}/{started['script']}", now)
        if _COMPLETED.search(text):
            self.end(now)
        return False

    def begin(self, stage: str, now: float) -> None:
        """A stage that is not diskimage-builder's begins at `now`."""
        self._begin(stage, now)

    def end(self, now: float) -> None:
        """The stage ended at `now`."""
        layer = self.layer or self.owners.get(self.current, ("variant", ""))[0]
        if self._since:
            name = f"{layer}/{self.current}"
            self.stages[name] = round(self.stages.get(name, 0.0) + now - self._since, 3)
            self._since = 0.0

    @property
    def element(self) -> str:
        """The element whose script runs now, or ran last."""
        return self.owners.get(self.current, ("", ""))[1]

    def _begin(self, stage: str, now: float) -> bool:
        self.current, self._since = stage, now
        return True
