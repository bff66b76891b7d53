"""How does a command end?

With an exit code that scripts can rely on, and with what failed and what to do about it on stderr; interrupted, it
cleans up first.
"""

import functools
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

from invoke import task

from pipelines.util import console
from pipelines.util.errors import Interrupted, PipelineError

_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def verb(*, help: dict[str, str] | None = None, **options: Any) -> Callable[[Callable[..., None]], Any]:
    """An invoke task that ends with the exit code of what failed, and says what to do about it."""

    def decorate(function: Callable[..., None]) -> Any:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> None:
            if code := finish(lambda: function(*args, **kwargs)):
                sys.exit(code)  # and not on success: another task may follow

        return task(run, help=help or {}, **options)

    return decorate


def finish(work: Callable[[], None]) -> int:
    """Do the work; its exit code. A signal that whoever started us ignores (nohup) stays ignored."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupted)
    try:
        work()
    except PipelineError as error:
        console.fail(error)
        return error.exit_code
    except BrokenPipeError:
        return 0  # whoever read our output has seen enough
    except Exception:  # a bug of ours: show all of it
        traceback.print_exc()
        return 1
    return 0


def _interrupted(number: int, _frame: FrameType | None) -> None:
    for further in _SIGNALS:
        signal.signal(further, signal.SIG_IGN)  # once is enough: the clean-up must not be interrupted
    raise Interrupted(number)
