"""How are several variants built side by side?

Each in a process of its own, at most so many at once; what they share, two builds on this host share, and that has its
locks. What they report comes as they say it, their results in the order in which they were asked for.
"""

import contextlib
import functools
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from pipelines.util import console, units
from pipelines.util import worker as util_worker
from pipelines.util.errors import INTERRUPTED, UsageError
from pipelines.util.worker import End, Said, Worker

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

# What a build may need to stop its programs and to remove what they made.
ENDING_SECONDS = 600.0

Work = Callable[[], None]


_REDRAW_SECONDS = 0.1


def jobs(text: str) -> int:
    """How many builds may go on at once, as the operator writes it; no more than this host has cores, with a note."""
    if not text.isdecimal() or int(text) == 0:
        raise UsageError(f"--jobs {text} is no number of builds", remedy="Write a whole number, 1 or more.")
    wanted, cores = int(text), len(os.sched_getaffinity(0))
    if wanted > cores:
        console.note(f"--jobs {wanted}: this host has {cores} cores, so at most {cores} are built at once")
    return min(wanted, cores)


@contextlib.contextmanager
def begun(work: Mapping[str, Work], at_once: int) -> Iterator[Iterator[tuple[str, Work]]]:
    """Pieces of work by name, in the order in which they end, each with what raises its failure.

    With one at once, that is the work itself: it is done in this process. Otherwise, whatever ends the context early
    ends what goes on gently, and begins no more.
    """
    if min(at_once, len(work)) <= 1:
        yield iter(work.items())
        return
    crew = _Crew(work, at_once)
    try:
        yield crew.ended()
    finally:
        crew.stop()


class _Crew:
    """The workers, what is still to be done, and what is shown of it all."""

    def __init__(self, work: Mapping[str, Work], at_once: int) -> None:
        self._waiting = dict(work)
        self._at_once = at_once
        self._workers: dict[Connection, Worker] = {}
        self._results: dict[str, list[str]] = {name: [] for name in work}  # not shown yet
        self._board = Board()

    def ended(self) -> Iterator[tuple[str, Work]]:
        """What has ended, as it ends."""
        while self._waiting or self._workers:
            while self._waiting and len(self._workers) < self._at_once:
                self._begin(next(iter(self._waiting)))
            for name, end in self._listen():
                with self._board.above():
                    yield name, functools.partial(_finish, end)

    def stop(self) -> None:
        """End what still goes on; shows what went wrong with that, and the results that were held back."""
        with util_worker.uninterrupted():
            for worker in self._workers.values():
                worker.interrupt()
            ends = time.monotonic() + ENDING_SECONDS
            while self._workers and time.monotonic() < ends:
                with contextlib.suppress(OSError):  # nobody may be there to read it
                    _report(self._listen())
            for worker in self._workers.values():
                worker.kill()
            self._workers.clear()
            with contextlib.suppress(OSError):
                self._show_results()

    def _begin(self, name: str) -> None:
        with util_worker.uninterrupted():
            worker = util_worker.begin(name, self._waiting.pop(name), live=self._board.live)
            self._workers[worker.said] = worker
        self._board.begins(name)

    def _listen(self) -> list[tuple[str, End]]:
        """Show what is said within a second; who ended."""
        from multiprocessing.connection import wait  # noqa: PLC0415  # slow to import, as in apart.py

        ended = []
        ready = wait([*self._workers], timeout=1.0)
        with util_worker.uninterrupted():  # as who tells it: a message is heard whole, or not yet
            for worker in [worker for said, worker in self._workers.items() if said in ready]:
                message = worker.hear()
                if isinstance(message, End):
                    del self._workers[worker.said]
                    ended.append((worker.name, message))
                    self._end(worker.name, message)
                else:
                    self._show(worker.name, message)
        self._board.tick()
        return ended

    def _end(self, name: str, end: End) -> None:
        elapsed = self._board.ends(name)
        if end.exit_code == 0:
            with self._board.above():
                console.note(f"{name}: finished after {elapsed}")
        self._show_results()

    def _show(self, name: str, said: Said) -> None:
        if said.how == "result":
            self._results[name].append(said.text)
            self._show_results()
            return
        if said.how == "note":
            with self._board.above():
                _note(name, said.text)
        self._board.does(name, said.text.removeprefix(f"{name}: "))

    def _show_results(self) -> None:
        """The results of all up to the first that has not ended."""
        for name, lines in self._results.items():
            while lines:
                with self._board.above():
                    console.say(lines.pop(0))
            if name in self._waiting or any(worker.name == name for worker in self._workers.values()):
                return


def _finish(end: End) -> None:
    if end.exit_code:
        raise end.error()


def _note(name: str, line: str) -> None:
    """A line that names whose it is."""
    label, _, rest = line.partition(": ")
    said, text = (console.warn, rest) if label == "warning" else (console.note, line)
    said(text if text.startswith((f"{name}:", f"{name} ")) else f"{name}: {text}")


def _report(ended: list[tuple[str, End]]) -> None:
    """What went wrong with those that were to end, but for just that."""
    for _, end in ended:
        if 0 < end.exit_code < INTERRUPTED:
            console.fail(end.error())


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
        elapsed = units.clock(time.monotonic() - self._since.pop(name))
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
        now = time.monotonic()
        lines = (
            f"{name:{longest}}  {units.clock(now - self._since[name])}  {what}" for name, what in self._doing.items()
        )
        return ["".join(sign if sign.isprintable() else " " for sign in line.rstrip())[:width] for line in lines]


def _write(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone; no reason to break off a build
        sys.stderr.write(text)
        sys.stderr.flush()
