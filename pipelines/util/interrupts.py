"""Delaying interrupts for a moment in which one would leave something behind."""

import contextlib
import signal
import threading
from collections.abc import Iterator

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Delay all signals until the end of it, also in processes that are forked meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def delayed() -> Iterator[None]:
    """Delay our handlers of interrupts until the end of it. Programs that are started meanwhile get them at once."""
    if threading.current_thread() is not threading.main_thread():  # no handler runs in another one
        yield
        return
    came: list[int] = []
    ours = [(number, handler) for number in _INTERRUPTS if callable(handler := signal.getsignal(number))]
    try:
        for number, _ in ours:
            signal.signal(number, lambda number, _frame: came.append(number))
        yield
    finally:
        for number, handler in ours:
            signal.signal(number, handler)
        for interrupt in came:
            signal.raise_signal(interrupt)
