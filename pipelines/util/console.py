"""Output for the operator; the only importer of rich.

Results go to stdout (tables, JSON), everything else (progress, notes, errors) to stderr, so that `--json` output can be
piped as it is.
"""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TextIO

from pipelines.util import paths, units
from pipelines.util.errors import PipelineError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_SHOW_EVERY_SECONDS = 15.0
_SHOW_STAGE_SECONDS = 2.0
# Takes the text of live lines where another process shows them.
_LIVE: ContextVar[Callable[[str], None] | None] = ContextVar("live", default=None)


@contextmanager
def relayed(out: TextIO, err: TextIO, live: Callable[[str], None] | None) -> Iterator[None]:
    """Send all output elsewhere: to two streams, and live lines to `live` (None: nobody sees them)."""
    before = _LIVE.set(live)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield
    finally:
        _LIVE.reset(before)


def note(text: str) -> None:
    """A line about progress, on stderr."""
    _note(text)


def say(text: str) -> None:
    """A line of result, on stdout."""
    if _drawn(sys.stdout):
        _stdout().print(text, markup=False)
    else:
        _put(text)


def warn(text: str) -> None:
    """A warning, on stderr."""
    _note(text, "warning:", "yellow")


def fail(error: PipelineError) -> None:
    """An error and its remedy, on stderr."""
    _note(error.what, "error:", "bold red")
    if error.remedy:
        _note(error.remedy, "remedy:", "bold")


def emit_json(value: object) -> None:
    """JSON on stdout, and nothing else."""
    _put(json.dumps(value, indent=2))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout; plain text when stdout is not a terminal."""
    if not sys.stdout.isatty():
        _plain_table(title, columns, rows)
        return
    from rich.markup import escape  # noqa: PLC0415  # as below: slow to import
    from rich.table import Table  # noqa: PLC0415

    drawn = Table(title=escape(title), title_justify="left")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(escape(cell) for cell in row))
    _stdout().print(drawn)


class Ticker:
    """Progress of a long job: one live line on a terminal, a plain line now and then elsewhere."""

    def __init__(self, label: str, verbose: bool) -> None:
        self._label = label
        self._verbose = verbose
        self._console = _stderr()
        self._on_terminal = sys.stderr.isatty()  # FORCE_COLOR makes none of a file
        self._started = time.monotonic()
        self._shown = 0.0
        self._printed = False
        self._stage = ""
        self._last = ""

    def stage(self, name: str) -> None:
        """A new stage starts."""
        self._stage, self._last, self._printed = name, "", False
        self.tick()

    def line(self, text: str) -> None:
        """The job's newest line of output."""
        if self._verbose:
            self._console.print(text, markup=False)
        elif text.strip():
            self._last = text.strip()
            self.tick()

    def tick(self) -> None:
        """Time has passed. Plain lines are few, and leave out stages that take only a moment."""
        if self._verbose:
            return
        if (show := _LIVE.get()) is not None:
            show(f"{self._stage}  {self._last}".strip())
            return
        text = f"{self._prefix()}  {self._last}".rstrip()
        quiet = time.monotonic() - self._shown
        if self._on_terminal:
            self._console.file.write("\r\x1b[2K" + text[: max(20, self._console.width - 1)])
            self._console.file.flush()
        elif quiet >= _SHOW_EVERY_SECONDS or (quiet >= _SHOW_STAGE_SECONDS and not self._printed):
            self._console.print(text[:160], markup=False)
            self._shown, self._printed = time.monotonic(), True

    def close(self) -> None:
        """Clear the live line."""
        if self._on_terminal and not self._verbose:
            self._console.file.write("\r\x1b[2K")
            self._console.file.flush()

    def _prefix(self) -> str:
        return f"{self._label}  {units.clock(time.monotonic() - self._started)}  {self._stage}"


@contextmanager
def ticker(label: str, *, verbose: bool = False) -> Iterator[Ticker]:
    """A Ticker whose live line is cleared at the end."""
    shown = Ticker(label, verbose)
    try:
        yield shown
    finally:
        shown.close()


class Meter:
    """A progress meter for bytes; `advance` takes a number of bytes. Plain lines now and then without a terminal."""

    def __init__(self, label: str, progress: "Progress", total: int | None, done: int) -> None:
        from rich.markup import escape  # noqa: PLC0415  # as below: slow to import

        self._label = label
        self._progress = progress
        self._task = progress.add_task(escape(label), total=total, completed=done)
        self._total = total
        self._done = self._done_before = done
        self._started = self._shown = time.monotonic()

    def advance(self, count: int) -> None:
        """`count` more bytes are done."""
        self._done += count
        self._progress.advance(self._task, count)
        if (show := _LIVE.get()) is not None:
            show(f"{self._label}: {self._amount()}")
        elif self._progress.disable and time.monotonic() - self._shown >= _SHOW_EVERY_SECONDS:
            note(f"{self._label}: {self._amount()}")
            self._shown = time.monotonic()

    def close(self) -> None:
        """The job is done: one closing line where there was no bar."""
        if self._progress.disable:
            seconds = max(time.monotonic() - self._started, 0.001)
            speed = (self._done - self._done_before) / 2**20 / seconds
            note(f"{self._label}: {self._done / 2**20:.0f} MiB in {seconds:.1f} s, {speed:.0f} MiB/s")

    def _amount(self) -> str:
        of = "" if self._total is None else f" of {self._total / 2**20:.0f}"
        return f"{self._done / 2**20:.0f}{of} MiB"


@contextmanager
def meter(label: str, total: int | None, done: int = 0) -> Iterator[Meter]:
    """A progress bar on stderr for `total` bytes (None: not known), of which `done` exist already.

    Bars of several threads at the same time are lines of one display.
    """
    with _BARS.shared() as progress:
        shown = Meter(label, progress, total, done)
        yield shown
    shown.close()


class _Bars:
    """The one display of progress bars that a terminal can have; it exists while there are bars."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._progress: Progress | None = None

    @contextmanager
    def shared(self) -> Iterator["Progress"]:
        with self._lock:
            self._users += 1
            progress = self._progress or _bars()
            if self._progress is None:
                progress.start()
            self._progress = progress
        try:
            yield progress
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    progress.stop()
                    self._progress = None


def _bars() -> "Progress":
    from rich.progress import (  # noqa: PLC0415  # as below: slow to import
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TransferSpeedColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=_stderr(), disable=not sys.stderr.isatty())


_BARS = _Bars()


def _plain_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(columns, *rows, strict=True)]
    say(title)
    for row in (columns, *rows):
        say("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _drawn(stream: TextIO) -> bool:
    """Whether rich draws on this stream, or decides itself that it is not a terminal."""
    return stream.isatty() or "FORCE_COLOR" in os.environ or "TTY_COMPATIBLE" in os.environ


def _note(text: str, label: str = "", style: str = "") -> None:
    text = text.replace("./inv ", f"{paths.COMMAND} ")  # messages have the name that it has in a checkout
    if not _drawn(sys.stderr):
        with contextlib.suppress(BrokenPipeError):  # nobody reads our output; that is no reason to stop a build
            print(label, text, sep=" " if label else "", file=sys.stderr, flush=True)
        return
    from rich.text import Text  # noqa: PLC0415  # as below: slow to import

    _stderr().print(Text.assemble((label, style), " " if label else "", text))


def _put(text: str) -> None:
    """A line on stdout; BrokenPipeError when its reader has closed it."""
    with unread_output():
        print(text, flush=True)


@contextlib.contextmanager
def unread_output() -> Iterator[None]:
    """Pass on BrokenPipeError of stdout so that Python does not fail once more when it exits."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _stdout() -> "Console":
    # Rich is imported where something is drawn: it is a tenth of the time that `./inv --list` takes.
    from rich.console import Console  # noqa: PLC0415

    return Console(file=sys.stdout, soft_wrap=True, highlight=False, emoji=False)


def _stderr() -> "Console":
    from rich.console import Console  # noqa: PLC0415  # as above: slow to import

    class Notes(Console):
        def on_broken_pipe(self) -> None:
            """Nobody reads our output any more; that is no reason to stop a build."""
            self.quiet = True

    return Notes(file=sys.stderr, soft_wrap=True, highlight=False, emoji=False)
