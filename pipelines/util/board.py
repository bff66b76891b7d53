"""What goes on in several builds at once?

On a terminal a live line for each build that goes on, below all that is said; elsewhere only what is said.
"""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator

_REDRAW_SECONDS = 0.1


class Board:
    """The live lines; whatever else is printed on the terminal is printed `above` them."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._since: dict[str, float] = {}
        self._doing: dict[str, str] = {}
        self._drawn = 0
        self._drawn_at = 0.0

    def begins(self, name: str) -> None:
        """A build begins."""
        self._since[name], self._doing[name] = time.monotonic(), ""
        self._draw()

    def does(self, name: str, what: str) -> None:
        """What a build is at."""
        if name in self._doing:
            self._doing[name] = what
        self.tick()

    def ends(self, name: str) -> str:
        """A build has ended, after so many minutes and seconds."""
        elapsed = _elapsed(self._since.pop(name))
        del self._doing[name]
        return elapsed

    def tick(self) -> None:
        """Time has passed."""
        if time.monotonic() - self._drawn_at >= _REDRAW_SECONDS:
            self._draw()

    @contextlib.contextmanager
    def above(self) -> Iterator[None]:
        """The lines are gone while something is printed."""
        self._clear()
        yield
        self._draw()

    def _draw(self) -> None:
        if not self.live:
            return
        self._clear()
        width, height = shutil.get_terminal_size()
        lines = self._lines(max(20, width - 1))[: max(1, height - 1)]  # what scrolls away cannot be cleared
        _write("".join(f"{line}\n" for line in lines))
        self._drawn, self._drawn_at = len(lines), time.monotonic()

    def _clear(self) -> None:
        if self._drawn:
            _write(f"\x1b[{self._drawn}F\x1b[J")
        self._drawn = 0

    def _lines(self, width: int) -> list[str]:
        longest = max(map(len, self._doing), default=0)
        lines = (f"{name:{longest}}  {_elapsed(self._since[name])}  {what}" for name, what in self._doing.items())
        return ["".join(sign if sign.isprintable() else " " for sign in line.rstrip())[:width] for line in lines]


def _elapsed(since: float) -> str:
    seconds = int(time.monotonic() - since)
    return f"{seconds // 60:d}:{seconds % 60:02d}"


def _write(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone; no reason to break off a build
        sys.stderr.write(text)
        sys.stderr.flush()
