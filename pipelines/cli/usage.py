"""Spelling of tasks and options: how a command line is written, and which word a misspelt one was meant to be."""

import re
from collections.abc import Iterable

from invoke.parser import Argument, ParserContext
from invoke.parser.context import to_flag

# What the value of an option is, as help texts and errors write it; VALUE for the others.
_VALUES = {
    "build": "BUILD_ID",
    "builds": "DIR",
    "cache-limit": "SIZE",
    "catalog": "FILE",
    "cloud": "NAME",
    "count": "N",
    "firmware": "FIRMWARE",
    "for": "SYSTEM",
    "html": "FILE",
    "images": "NAMES",
    "jobs": "N",
    "limit": "SIZE",
    "name": "NAME",
    "new": "BUILD_ID",
    "old": "BUILD_ID",
    "only": "NAMES",
    "output": "PATH",
    "plan": "FILE",
    "ram": "SIZE",
    "resume": "FILE",
    "runner": "LABEL",
    "runs": "N",
    "schedule": "TIME",
    "secret": "VARIABLE",
    "summary": "FILE",
    "to": "BUILD_ID",
    # Options of the program itself.
    "help": "[TASK]",
    "list": "[GROUP]",
    "list-depth": "N",
    "list-format": "flat|nested|json",
    "print-completion-script": "bash|zsh|fish",
}
_LIKENESS = 0.65  # difflib's 0.6 takes --cloud for --count


def long_option(argument: Argument) -> str:
    """The option's long spelling, such as --dry-run."""
    return str(to_flag(argument.names[0]))


def with_value(argument: Argument) -> str:
    """The option with a word for its value, such as `--cloud NAME`."""
    return f"{long_option(argument)} {_VALUES.get(argument.names[0], 'VALUE')}"


def required(argument: Argument) -> str:
    """What a task cannot do without: an image by its name alone, everything else as an option."""
    return _VALUES["name"] if argument.names[0] == "name" else with_value(argument)


def synopsis(binary: str, task: ParserContext) -> str:
    """How the task is called, such as `./inv prune --cloud NAME`."""
    return " ".join([binary, task.name or "", *map(required, task.missing_positional_args)])


def option_rows(context: ParserContext) -> list[tuple[str, str]]:
    """Each option in all its spellings, and its help text."""
    return sorted((_spellings(context, argument), argument.help or "") for argument in context.args.values())


def _spellings(context: ParserContext, argument: Argument) -> str:
    name = long_option(argument)
    shorts = ", ".join(to_flag(nick) for nick in argument.nicknames if len(nick) == 1)
    inverse = name in context.inverse_flags.values()
    whole = f"--[no-]{name[2:]}" if inverse else with_value(argument) if argument.takes_value else name
    return f"{whole}, {shorts}" if shorts else whole


def looks_like_option(token: str) -> bool:
    """Whether a word of the command line is an option. "-" alone is a value, and so is what has spaces: "-k a or b"."""
    return re.match(r"-[^\s=]+(=|$)", token) is not None


def spellings(context: ParserContext) -> list[str]:
    """All options of a task, or of the program itself, without those of one letter."""
    return [name for name in (*context.flags, *context.inverse_flags) if name.startswith("--")]


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The one of the known words that was most likely meant; dashes in front do not count."""
    from difflib import get_close_matches  # slow to import, and only needed for an error

    names = {name.lstrip("-"): name for name in known}
    sought = word.lstrip("-")
    started = [name for name in names if len(sought) > 1 and name.startswith(sought)]
    found = started if len(started) == 1 else get_close_matches(sought, names, n=1, cutoff=_LIKENESS)
    return names[found[0]] if found else None
