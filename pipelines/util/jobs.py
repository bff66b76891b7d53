"""Several builds at the same time, each in a process of its own.

They share no more than any two builds on this host do, which is protected by locks. Progress is shown as it comes,
results in the order in which the builds were requested.
"""

import contextlib
import functools
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from pipelines.util import console, interrupts, units
from pipelines.util import worker as util_worker
from pipelines.util.errors import INTERRUPTED, UsageError
from pipelines.util.worker import End, Message, Worker

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

# The time that a build may need to stop its programs and to clean up.
ENDING_SECONDS = 600.0

Work = Callable[[], None]
_REDRAW_SECONDS = 0.1


def parse_jobs(text: str) -> int:
    """The value of --jobs: how many builds may run at once; limited to this host's cores, with a note."""
    if not text.isdecimal() or int(text) == 0:
        raise UsageError(f"--jobs {text} is not a valid number of builds", remedy="Write a whole number, 1 or more.")
    wanted, cores = int(text), len(os.sched_getaffinity(0))
    if wanted > cores:
        console.note(f"--jobs {wanted}: this host has {cores} cores, so at most {cores} builds run at once")
    return min(wanted, cores)


@contextlib.contextmanager
def started(work: Mapping[str, Work], at_once: int) -> Iterator[Iterator[tuple[str, Work]]]:
    """Yields the pieces of work in the order in which they end: the name, and a function that raises its failure.

    With one at a time, that function is the work itself, done in this process. Otherwise, when the context ends early,
    running work is interrupted and no more is started.
    """
    if min(at_once, len(work)) <= 1:
        yield iter(work.items())
        return
    crew = _Crew(work, at_once)
    try:
        yield crew.results()
    finally:
        crew.stop()


class _Crew:
    """The workers, the work that is waiting, and the display."""

    def __init__(self, work: Mapping[str, Work], at_once: int) -> None:
        self._waiting = dict(work)
        self._at_once = at_once
        self._workers: dict[Connection, Worker] = {}
        self._results: dict[str, list[str]] = {name: [] for name in work}  # not shown yet
        self._board = Board()

    def results(self) -> Iterator[tuple[str, Work]]:
        """The pieces of work as they end."""
        while self._waiting or self._workers:
            while self._waiting and len(self._workers) < self._at_once:
                self._start(next(iter(self._waiting)))
            for name, end in self._listen():
                with self._board.above():
                    yield name, functools.partial(_finish, end)

    def stop(self) -> None:
        """End what is still running; show what went wrong with that, and the results that were held back."""
        with interrupts.blocked():
            for worker in self._workers.values():
                worker.interrupt()
            ends = time.monotonic() + ENDING_SECONDS
            while self._workers and time.monotonic() < ends:
                with contextlib.suppress(OSError):  # the terminal may be gone
                    _report(self._listen())
            for worker in self._workers.values():
                worker.kill()
            self._workers.clear()
            with contextlib.suppress(OSError):
                self._show_results()

    def _start(self, name: str) -> None:
        with interrupts.blocked():
            worker = util_worker.start(name, self._waiting.pop(name), live=self._board.live)
            self._workers[worker.messages] = worker
        self._board.starts(name)

    def _listen(self) -> list[tuple[str, End]]:
        """Show the messages of up to a second; returns the work that has ended."""
        from multiprocessing.connection import wait  # noqa: PLC0415  # slow to import, as in worker.py

        ended = []
        ready = wait([*self._workers], timeout=1.0)
        with interrupts.blocked():  # as the sender: a message is received whole, or not yet
            for worker in [worker for messages, worker in self._workers.items() if messages in ready]:
                message = worker.receive()
                if isinstance(message, End):
                    del self._workers[worker.messages]
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

    def _show(self, name: str, message: Message) -> None:
        if message.kind == "result":
            self._results[name].append(message.text)
            self._show_results()
            return
        if message.kind == "note":
            with self._board.above():
                _note(name, message.text)
        self._board.does(name, message.text.removeprefix(f"{name}: "))

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
    """A line with the name of the work in front, unless it starts with it."""
    label, _, rest = line.partition(": ")
    show, text = (console.warn, rest) if label == "warning" else (console.note, line)
    show(text if text.startswith((f"{name}:", f"{name} ")) else f"{name}: {text}")


def _report(ended: list[tuple[str, End]]) -> None:
    """Show the failures of interrupted work, other than the interrupt."""
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

    def starts(self, name: str) -> None:
        """A build starts."""
        self._since[name], self._doing[name] = time.monotonic(), ""
        self._draw()

    def does(self, name: str, what: str) -> None:
        """What a build is doing."""
        if name in self._doing:
            self._doing[name] = what
        self.tick()

    def ends(self, name: str) -> str:
        """A build has ended; returns how long it took, as text."""
        elapsed = units.clock(time.monotonic() - self._since.pop(name))
        del self._doing[name]
        return elapsed

    def tick(self) -> None:
        """Time has passed."""
        if time.monotonic() - self._drawn_at >= _REDRAW_SECONDS:
            self._draw()

    @contextlib.contextmanager
    def above(self) -> Iterator[None]:
        """Remove the lines while something is printed."""
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
    with contextlib.suppress(OSError):  # the terminal may be gone; that is no reason to stop a build
        sys.stderr.write(text)
        sys.stderr.flush()
