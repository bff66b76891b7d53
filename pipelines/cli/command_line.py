"""Strict reading of a command line: the program's own options, then tasks, each with its options.

invoke's parser takes invoke's own options after a task's name as well, and gives an option that waits for its value
almost anything that comes next. `prune --cloud c --dry` would delete images then, since --dry is one of invoke's. Here
each word is understood or refused. Tasks, options and values are invoke's objects, and what is read is what runs.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from invoke.parser import Argument, ParserContext

from pipelines.cli import usage
from pipelines.util.errors import UsageError

_HELP = ("--help", "-h")


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandLine:
    """The program's own options, the tasks in their order, and what follows `--complete --`."""

    core: ParserContext
    tasks: list[ParserContext]
    remainder: str


def read(
    words: Sequence[str],
    *,
    core: ParserContext,
    tasks: Mapping[str, ParserContext],
    binary: str,
    foreign: Mapping[str, str] | None = None,
) -> CommandLine:
    """What the words mean; UsageError for one that means nothing.

    `tasks` are all that there are, by name. `foreign` are options that others know (invoke): one letter → the long
    spelling, so that the task's own option can be suggested.
    """
    reader = _Reader(core, tasks, binary, foreign or {})
    remainder = reader.read(words)
    return CommandLine(core=core, tasks=reader.found, remainder=remainder)


@dataclass
class _Reader:
    """Reads one word after the other. `context` is the task whose options follow, at first the program itself."""

    core: ParserContext
    tasks: Mapping[str, ParserContext]
    binary: str
    foreign: Mapping[str, str]
    found: list[ParserContext] = field(default_factory=list)
    waiting: tuple[str, Argument] | None = None  # an option without its value so far
    last: Argument | None = None  # the option before

    def read(self, words: Sequence[str]) -> str:
        for index, word in enumerate(words):
            if word == "--":
                return self._remainder(words[index + 1 :])
            self._word(word, words[index + 1 :])
            if self.found and self.core.args["help"].value:
                return ""  # a task is to be explained: nothing will run
        self._end_value(None)
        self._end_task()
        return ""

    @property
    def context(self) -> ParserContext:
        return self.found[-1] if self.found else self.core

    def _word(self, word: str, following: Sequence[str]) -> None:
        is_option = usage.looks_like_option(word)
        if self.waiting and not is_option:
            flag, argument = self.waiting
            self._give(flag, argument, word)
        elif is_option:
            self._end_value(word)
            self._options(word, following)
        elif self.context.missing_positional_args:
            argument = self.context.missing_positional_args[0]
            self._give(usage.long_option(argument), argument, word)
        elif word in self.tasks:
            self._end_task()
            self.found.append(copy.deepcopy(self.tasks[word]))
            self.last = None
        else:
            raise self._unexpected(word)

    def _options(self, word: str, following: Sequence[str]) -> None:
        """One option, `--option=value`, or several of one letter, the last of which may have its value attached."""
        name, equals, value = word.partition("=")
        if self._knows(name):
            self._option(name, value if equals else None)
            return
        if name.startswith("--") or (letters := self._letters(word)) is None:
            raise self._unknown(name, following)
        for flag, attached in letters:
            self._option(flag, attached)

    def _letters(self, word: str) -> list[tuple[str, str | None]] | None:
        options: list[tuple[str, str | None]] = []
        for index, letter in enumerate(word[1:], start=1):
            flag = f"-{letter}"
            if not self._knows(flag):
                return None
            if flag in self.context.flags and self.context.flags[flag].takes_value:
                return [*options, (flag, word[index + 1 :].removeprefix("=") or None)]
            options.append((flag, None))
        return options

    def _knows(self, flag: str) -> bool:
        return flag in self.context.flags or flag in self.context.inverse_flags or flag in _HELP

    def _option(self, flag: str, value: str | None) -> None:
        if self.found and flag in _HELP:
            self.core.args["help"].set_value(self.context.name)
            return
        inverse = flag in self.context.inverse_flags
        argument = self.context.flags[self.context.inverse_flags[flag] if inverse else flag]
        self.last = argument
        if not argument.takes_value:
            if value is not None:
                raise UsageError(f"{flag} takes no value", remedy=f"Write {flag} alone.")
            argument.value = not inverse
        elif argument.kind is not list and argument.raw_value is not None:
            raise UsageError(f"{usage.long_option(argument)} is given twice", remedy="Give it once.")
        elif value is None:
            self.waiting = (flag, argument)
        else:
            self._give(flag, argument, value)

    def _give(self, flag: str, argument: Argument, value: str) -> None:
        self.waiting = None
        if not value and argument.default != "":
            raise self._needs_value(flag, argument, "The value that was given is empty.")
        try:
            argument.value = value
        except ValueError:
            raise UsageError(f"{flag} needs a number, not {value!r}", remedy=f"Write {flag} 1.") from None

    def _end_value(self, following: str | None) -> None:
        """Nothing more can be the value of the option before."""
        if self.waiting is None:
            return
        flag, argument = self.waiting
        if not argument.optional:
            dashed = f"A value that begins with a dash is written {usage.long_option(argument)}=VALUE."
            remedy = f"{following} is read as the next option. {dashed}" if following else self._see_help()
            raise self._needs_value(flag, argument, remedy)
        argument.set_value(True, cast=False)
        self.waiting = None

    def _end_task(self) -> None:
        """The task has all that it needs."""
        if missing := self.context.missing_positional_args:
            what = f"{self.context.name} needs {' and '.join(map(usage.required, missing))}"
            raise UsageError(what, remedy=f"Write {usage.synopsis(self.binary, self.context)}.")

    def _needs_value(self, flag: str, argument: Argument, remedy: str) -> UsageError:
        short = "" if flag == usage.long_option(argument) else f"{flag}: "
        name = usage.long_option(argument)
        return UsageError(f"{short}{name} needs a value: {usage.with_value(argument)}", remedy=remedy)

    def _unknown(self, flag: str, following: Sequence[str]) -> UsageError:
        if not self.found:
            return self._unknown_of_program(flag, following)
        what = f"{self.context.name} has no option {flag}"
        if flag in self.core.flags:
            return UsageError(what, remedy=f"{flag} is for {self.binary} itself: write {self.binary} {flag}.")
        near = usage.nearest(self.foreign.get(flag, flag), usage.spellings(self.context))
        return UsageError(what, remedy=self._meant(near))

    def _unknown_of_program(self, flag: str, following: Sequence[str]) -> UsageError:
        """Before a task's name; it may be meant for the task that follows."""
        what = f"{self.binary} has no option {flag}"
        task = next((self.tasks[word] for word in following if word in self.tasks), None)
        if task and (meant := usage.nearest(self.foreign.get(flag, flag), usage.spellings(task))):
            return UsageError(what, remedy=f"Options of a task follow its name: {self.binary} {task.name} {meant}")
        near = usage.nearest(flag, usage.spellings(self.core))
        return UsageError(what, remedy=self._meant(near))

    def _unexpected(self, word: str) -> UsageError:
        """A word that is neither a task nor anything that the task before takes."""
        near = usage.nearest(word, self.tasks)
        if not self.found:
            remedy = f"Did you mean {near}? " if near else ""
            return UsageError(f"there is no task {word}", remedy=f"{remedy}{self.binary} --list names all tasks.")
        what = f"{self.context.name} takes no {word!r} here, and there is no task of that name"
        return UsageError(what, remedy=self._instead_of(word, near))

    def _instead_of(self, word: str, near_task: str | None) -> str:
        option = usage.long_option(self.last) if self.last else ""
        if self.last and self.last.kind is list:
            return f"Repeat the option for each value: {option} {word}."
        if self.last and not self.last.takes_value:
            return f"{option} takes no value."
        if near_task:
            return f"Did you mean the task {near_task}?"
        if "only" in self.context.args:
            return f"Select images with --only {word}."
        return self._see_help()

    def _remainder(self, words: Sequence[str]) -> str:
        if self.core.args["complete"].value:
            return " ".join(words)
        raise UsageError("-- has no meaning here", remedy="Leave it out: options follow a task's name.")

    def _meant(self, near: str | None) -> str:
        return f"Did you mean {near}? {self._see_help()}" if near else self._see_help()

    def _see_help(self) -> str:
        task = f" {self.context.name}" if self.found else ""
        return f"See {self.binary}{task} --help."
