"""Tasks that end with an exit code that scripts can rely on.

What failed, and what to do about it, is on stderr. An interrupted task cleans up first.
"""

import functools
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

import invoke
from invoke.parser import Argument

from pipelines.util import console
from pipelines.util.errors import Interrupted, PipelineError

_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class _Task(invoke.Task[Callable[..., None]]):
    """An invoke task whose options leave -h to --help, and keep their help texts."""

    def arg_opts(self, name: str, default: Any, taken_names: set[str]) -> dict[str, Any]:
        """What invoke makes of a parameter."""
        return dict(super().arg_opts(name, default, taken_names | {"h"}))

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """What invoke makes of all parameters; it takes the help texts away, which a second parser needs too."""
        texts = dict(self.help)
        found = super().get_arguments(ignore_unknown_help)
        self.help = texts
        return list(found)


def task(*, help: dict[str, str] | None = None, **options: Any) -> Callable[[Callable[..., None]], Any]:
    """An invoke task that ends with the exit code of what failed, and says what to do about it."""

    def decorate(function: Callable[..., None]) -> Any:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> None:
            if code := finish(lambda: function(*args, **kwargs)):
                sys.exit(code)  # and not on success: another task may follow

        return invoke.task(run, help=help or {}, klass=_Task, **options)

    return decorate


def finish(work: Callable[[], None]) -> int:
    """Do the work; its exit code. A signal that is ignored already (nohup) stays ignored."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupted)
    try:
        work()
    except PipelineError as error:
        console.fail(error)
        return error.exit_code
    except BrokenPipeError:
        return 0  # the reader of our output has seen enough
    except Exception:  # a bug of ours: show all of it
        traceback.print_exc()
        return 1
    return 0


def _interrupted(number: int, _frame: FrameType | None) -> None:
    for further in _SIGNALS:
        signal.signal(further, signal.SIG_IGN)  # once is enough: the clean-up must not be interrupted
    raise Interrupted(number)
