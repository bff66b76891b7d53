"""The program behind ./inv and gpu-images: the tasks with a strict command line, and the product's version."""

import inspect
import os
import sys
from typing import Any

from invoke import Collection, Program
from invoke.completion.complete import print_completion_script
from invoke.exceptions import Exit, ParseError
from invoke.parser import Argument, ParseResult

from pipelines.cli import command_line, operator_tasks, usage
from pipelines.util import console, paths
from pipelines.util.errors import UsageError

NAME = "gpu-images"
# Those of invoke's own options that do something here. The others are about commands that invoke would run, and a
# `--dry` that a task does not heed must not be taken.
_CORE = {"complete", "help", "list", "list-depth", "list-format", "print-completion-script", "version"}
_CORE_HELP = {
    "help": "explain the program, or one task",
    "list": "list the tasks, or those of one group",
    "list-depth": "list at most this many levels of groups",
    "list-format": "how tasks are listed (default: flat)",
    "print-completion-script": "print a script that completes words for your shell",
    "complete": "print completions of what follows `--`; for that script",
    "version": "print the version",
}


class Application(Program):
    """invoke's program over our tasks. Every error of usage is in our form, with exit code 1."""

    def core_args(self) -> list[Argument]:
        """invoke's own options, as far as they do something here."""
        found = [argument for argument in super().core_args() if argument.names[0] in _CORE]
        for argument in found:
            argument.help = _CORE_HELP[argument.names[0]]
        return found

    def run(self, argv: list[str] | None = None, exit: bool = True) -> None:
        """Read the command line and run its tasks. A reader who closes the pipe early (`| head`) is no failure."""
        try:
            with console.unread_output():
                super().run(argv, exit=exit)
        except BrokenPipeError as error:
            ended = error.__context__  # a task's own exit code stays
            if exit:
                sys.exit(ended.code if isinstance(ended, SystemExit) else 0)
        except UsageError as error:
            console.fail(error)
            if exit:
                sys.exit(error.exit_code)

    def parse_core(self, argv: list[str] | None) -> None:
        """Read the whole command line; end with what needs no task.

        invoke's would keep Python from storing compiled modules, which are a third of a start.
        """
        self.normalize_argv(argv)
        assert self.namespace is not None
        self.collection = self.namespace
        self.parser = self._make_parser()
        read = command_line.read(
            self.argv[1:],
            core=self.initial_context,
            tasks=self.parser.contexts,
            binary=self.binary,
            foreign=_long_spellings(super().core_args()),
        )
        self.core = ParseResult([read.core])
        self.core.remainder = read.remainder
        self.tasks = ParseResult(read.tasks)
        if self.args.version.value:
            self.print_version()
            raise Exit
        if shell := self.args["print-completion-script"].value:
            self._print_completion_script(shell)
            raise Exit

    def parse_tasks(self) -> None:
        """Nothing: `parse_core` has read everything."""

    def parse_cleanup(self) -> None:
        """Help, the list of tasks, completions; UsageError for a task or a group that does not exist."""
        task, group = self.args.help.value, self.args.list.value
        if isinstance(task, str) and task not in self.parser.contexts:
            raise _unknown("task", task, self.parser.contexts, self.binary)
        if isinstance(group, str) and group not in self.collection.collections:
            raise _unknown("group of tasks", group, self.collection.collections, self.binary)
        if self.args["list-format"].value not in {"flat", "nested", "json"}:
            raise UsageError("--list-format needs flat, nested or json", remedy="Write --list-format nested.")
        super().parse_cleanup()

    def update_config(self, merge: bool = True) -> None:
        """Nothing of the command line changes how invoke runs commands."""
        if merge:
            self.config.merge()

    def print_version(self) -> None:
        """The product's name and version."""
        from pipelines.util.version import version

        print(f"{NAME} {version()}")

    def print_help(self) -> None:
        """How the program is called, its own options, and the tasks."""
        print(f"Usage: {self.binary} TASK [OPTIONS] [TASK [OPTIONS]]...\n\nOptions of {self.binary} itself:\n")
        self.print_columns(usage.option_rows(self.initial_context))
        self.list_tasks()

    def print_task_help(self, name: str) -> None:
        """How a task is called, what it does, and its options."""
        context = self.parser.contexts[name]
        print(f"Usage: {usage.synopsis(self.binary, context)}{' [OPTIONS]' if context.args else ''}\n")
        print(f"{inspect.getdoc(self.collection[name])}\n")
        if context.args:
            print("Options:\n")
            self.print_columns(usage.option_rows(context))

    def task_list_opener(self, extra: str = "") -> str:
        """The line above the tasks."""
        tail = f" ({extra})" if extra else ""
        return f"Tasks{tail}; {self.binary} TASK --help explains one"

    def _print_completion_script(self, shell: str) -> None:
        try:
            print_completion_script(shell=shell, names=self.binary_names)
        except ParseError as error:
            raise UsageError(f"there is no completion for {shell}", remedy="Name bash, zsh or fish.") from error


def run(tasks: Collection, binary: str, argv: list[str] | None = None) -> None:
    """Run the tasks of a command line, and exit."""
    Application(namespace=tasks, name=NAME, binary=binary, binary_names=[binary.rpartition("/")[2]]).run(argv)


def main() -> None:
    """Run the tasks of an operator, as the installed command."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")  # it would look for some in all that is installed
    run(operator_tasks.collection(), paths.COMMAND)


def _long_spellings(arguments: list[Argument]) -> dict[str, str]:
    """One letter → long spelling, of invoke's own options: `-R` of a user who knows invoke means its --dry."""
    return {f"-{nick}": usage.long_option(each) for each in arguments for nick in each.nicknames}


def _unknown(kind: str, name: str, known: Any, binary: str) -> UsageError:
    near = usage.nearest(name, known)
    meant = f"Did you mean {near}? " if near else ""
    return UsageError(f"there is no {kind} {name}", remedy=f"{meant}{binary} --list names all tasks.")
