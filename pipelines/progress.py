"""What is diskimage-builder doing?

Reads its output line by line. dib-run-parts says which script of which phase it runs and when that is done; the
element that a script belongs to is known from the recipe. Pure: the clock is an argument.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_RUNNING = re.compile(r"dib-run-parts Running \S*/(?P<phase>[a-z-]+\.d)/(?P<script>[\w-]+)$")
_COMPLETED = re.compile(r"dib-run-parts (?P<script>[\w-]+) completed$")
_CONVERTING = "Converting image using qemu-img convert"
# DIB's own clean-up comes after what went wrong, and would hide it.
_NOISE = re.compile(r"dib-run-parts|^\s*$|^\+|^> *$|^-+$|^Unmount /|diskimage_builder\.block_device")
_KEPT_LINES = 40
TIMESTAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \| ")


@dataclass(slots=True)
class Progress:
    """What is known so far. `owners` maps "phase.d/script" → (layer, element).

    `stages` maps "layer/phase.d/script" → seconds, in the order of the run; `recent` holds the last lines of output.
    """

    owners: Mapping[str, tuple[str, str]]
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
            self._end(now)
            return False
        if text.strip() == _CONVERTING:
            return self._begin("convert", now)
        return False

    def finish(self, now: float) -> None:
        """The run ended well at `now`."""
        self._end(now)

    @property
    def element(self) -> str:
        """The element whose script runs now, or ran last."""
        return self.owners.get(self.current, ("", ""))[1]

    def _begin(self, stage: str, now: float) -> bool:
        self.current, self._since = stage, now
        return True

    def _end(self, now: float) -> None:
        layer = self.owners.get(self.current, ("variant", ""))[0]
        if self._since:
            self.stages[f"{layer}/{self.current}"] = round(now - self._since, 3)
            self._since = 0.0
