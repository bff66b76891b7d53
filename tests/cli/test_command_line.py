"""Every word of a command line is understood or refused: none is taken for something else, and then nothing runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import invoke
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invoke import Collection, Context
from invoke.parser.context import to_flag

from pipelines.cli.program import Application
from pipelines.cli.task import task
from pipelines.util.errors import UsageError
from tasks import namespace

INVOKES = [*invoke.Program().core_args(), *invoke.Program().task_args()]
FLAGS = sorted({to_flag(name) for argument in INVOKES for name in argument.names} - {"--help", "-h"})
PROGRAM = Application
TASKS = sorted(namespace.task_names)


@dataclass(frozen=True, kw_only=True)
class Result:
    code: int
    ran: list[tuple[str, dict[str, Any]]]
    error: str


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run words with a program whose tasks only note what they were called with."""
    ran: list[tuple[str, dict[str, Any]]] = []

    @task(iterable=["cloud"])
    def refresh(
        _: Context, cloud: list[str], only: str | None = None, dry_run: bool = False, boot: bool = True, args: str = ""
    ) -> None:
        ran.append(("refresh", {"cloud": cloud, "only": only, "dry_run": dry_run, "boot": boot, "args": args}))

    @task()
    def prune(_: Context, cloud: str, only: str | None = None, dry_run: bool = False, html: str | None = None) -> None:
        ran.append(("prune", {"cloud": cloud, "only": only, "dry_run": dry_run, "html": html}))

    @task()
    def show(_: Context, name: str, json: bool = False) -> None:
        ran.append(("show", {"name": name, "json": json}))

    @task(name="up")
    def up(_: Context) -> None:
        ran.append(("cloud.up", {}))

    tasks = Collection(refresh, prune, show)
    tasks.add_collection(Collection("cloud", up))

    def ended(*words: str) -> Result:
        ran.clear()
        code = 0
        try:
            PROGRAM(namespace=tasks, name="inv", binary="./inv").run(["inv", *words])
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Result(code=code, ran=list(ran), error=capsys.readouterr().err)

    return ended


def refused(result: Result, what: str, remedy: str = "") -> None:
    """Nothing ran, and the two lines on stderr say what is wrong and what to do."""
    assert (result.code, result.ran) == (1, [])
    error, remedies = result.error.rstrip("\n").split("\n")
    assert error == f"error: {what}"
    assert remedies.startswith("remedy: ")
    assert remedy in remedies


# invoke's own options


@pytest.mark.parametrize("name", TASKS)
def test_none_of_invokes_own_options_is_taken_after_a_tasks_name(name: str) -> None:
    (task,) = [each for each in namespace.to_contexts() if each.name == name]
    values = [word for argument in task.missing_positional_args for word in (to_flag(argument.names[0]), "x")]
    program = PROGRAM(namespace=namespace, name="inv", binary="./inv")
    program.create_config()
    for flag in FLAGS:
        if flag not in task.flags:
            for words in ([*values, flag], [flag, *values], [flag]):
                with pytest.raises(UsageError, match=f"^{name} has no option {flag}$"):
                    program.parse_core(["inv", name, *words])


@pytest.mark.parametrize("name", TASKS)
def test_an_option_of_a_task_is_the_tasks_own_where_invoke_has_one_of_that_name(name: str) -> None:
    (task,) = [each for each in namespace.to_contexts() if each.name == name]
    values = [word for argument in task.missing_positional_args for word in (to_flag(argument.names[0]), "x")]
    program = PROGRAM(namespace=namespace, name="inv", binary="./inv")
    program.create_config()
    for flag in set(FLAGS) & set(task.flags) - set(values):
        value = ["1"] if task.flags[flag].takes_value else []
        program.parse_core(["inv", name, *values, flag, *value])
        assert [argument.names for argument in program.core[0].args.values() if argument.raw_value] == []


@pytest.mark.parametrize("flag", ["--dry", "-R"])
def test_invokes_dry_is_answered_with_the_tasks_own_spelling(run: Run, flag: str) -> None:
    refused(run("prune", "--cloud", "c", flag), f"prune has no option {flag}", "Did you mean --dry-run?")
    refused(run("prune", flag), f"prune has no option {flag}", "Did you mean --dry-run?")


@pytest.mark.parametrize("flag", ["--dry", "-R"])
def test_invokes_dry_before_a_task_would_not_keep_the_task_from_its_work(run: Run, flag: str) -> None:
    refused(run(flag, "prune", "--cloud", "c"), f"./inv has no option {flag}", "./inv prune --dry-run")


def test_an_option_of_a_task_before_its_name_is_answered_with_its_place(run: Run) -> None:
    refused(run("--json", "show", "a"), "./inv has no option --json", "./inv show --json")


def test_an_option_of_the_program_after_a_task_is_answered_with_its_place(run: Run) -> None:
    refused(run("show", "a", "--version"), "show has no option --version", "write ./inv --version")


# Values


@pytest.mark.parametrize("option", ["--cloud", "-c", "--only", "-o"])
@pytest.mark.parametrize("next_word", ["--dry-run", "-d", "--no-boot", "--only=x", "--dry", "-R", "--unheard-of", "-x"])
def test_an_option_is_no_value_of_the_option_before(run: Run, option: str, next_word: str) -> None:
    result = run("refresh", option, next_word)
    name = {"-c": "--cloud", "-o": "--only"}.get(option, option)
    example = f"{name} {'NAME' if name == '--cloud' else 'NAMES'}"
    short = "" if option == name else f"{option}: "
    refused(result, f"{short}{name} needs a value: {example}", f"{next_word} is read as the next option.")


@pytest.mark.parametrize("words", [("--cloud",), ("--only",), ("--dry-run", "-c"), ("-do",)])
def test_an_option_at_the_end_needs_its_value_too(run: Run, words: tuple[str, ...]) -> None:
    result = run("refresh", *words)
    assert (result.code, result.ran) == (1, [])
    assert "needs a value: --" in result.error


@pytest.mark.parametrize("words", [("--only=",), ("--only", ""), ("--cloud=",), ("--cloud", ""), ("-c=",)])
def test_an_empty_value_is_none(run: Run, words: tuple[str, ...]) -> None:
    result = run("refresh", *words)
    assert (result.code, result.ran) == (1, [])
    assert "needs a value: --" in result.error


def test_an_empty_value_is_taken_where_it_is_the_default(run: Run) -> None:
    assert run("refresh", "--args", "").ran[0][1]["args"] == ""


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (("--args=--dry-run",), "--dry-run"),
        (("--args=-d",), "-d"),
        (("--args=-k x=y",), "-k x=y"),
        (("--args", "-k two words"), "-k two words"),
        (("--args", "-"), "-"),
        (("-a=--dry-run",), "--dry-run"),
        (("-a-d",), "-d"),
    ],
)
def test_a_value_may_begin_with_a_dash(run: Run, words: tuple[str, ...], value: str) -> None:
    ((_, given),) = run("refresh", *words).ran
    assert (given["args"], given["dry_run"]) == (value, False)


def test_an_option_of_a_list_may_look_like_one_too_when_it_is_attached(run: Run) -> None:
    ((_, given),) = run("refresh", "--cloud=--dry-run").ran
    assert (given["cloud"], given["dry_run"]) == (["--dry-run"], False)


def test_a_switch_takes_no_value(run: Run) -> None:
    refused(run("refresh", "--dry-run=false"), "--dry-run takes no value", "Write --dry-run alone.")
    refused(run("refresh", "-d=false"), "-d takes no value")
    refused(run("refresh", "--no-boot=true"), "--no-boot takes no value")
    refused(run("prune", "--cloud=c", "--dry-run", "no"), "prune takes no 'no' here, and there is no task of that name")


def test_a_value_that_is_given_twice_is_refused(run: Run) -> None:
    refused(run("refresh", "--only", "a", "--only", "b"), "--only is given twice")
    refused(run("prune", "c", "--cloud", "d"), "--cloud is given twice")


# What a task needs, and what it does not know


def test_what_a_task_cannot_do_without_is_named(run: Run) -> None:
    refused(run("prune"), "prune needs --cloud NAME", "Write ./inv prune --cloud NAME.")
    refused(run("show"), "show needs NAME", "Write ./inv show NAME.")
    refused(run("prune", "--dry-run", "--only", "a"), "prune needs --cloud NAME")


def test_a_misspelt_task_is_answered_with_the_nearest(run: Run) -> None:
    refused(run("prun", "--cloud", "c"), "there is no task prun", "Did you mean prune? ./inv --list names all tasks.")
    refused(run("cloud.pu"), "there is no task cloud.pu", "Did you mean cloud.up?")
    refused(run("zzzz"), "there is no task zzzz", "./inv --list")


@pytest.mark.parametrize(
    ("word", "meant"),
    [("--dry_run", "--dry-run"), ("--dr", "--dry-run"), ("-dry-run", "--dry-run"), ("--clod=a", "--cloud")],
)
def test_a_misspelt_option_is_answered_with_the_nearest(run: Run, word: str, meant: str) -> None:
    refused(run("refresh", word), f"refresh has no option {word.partition('=')[0]}", f"Did you mean {meant}?")


def test_an_option_that_is_like_no_other_is_answered_with_where_all_are_listed(run: Run) -> None:
    refused(run("refresh", "--zzz"), "refresh has no option --zzz", "See ./inv refresh --help.")


def test_a_word_too_many_is_explained(run: Run) -> None:
    what = "{} takes no 'abc' here, and there is no task of that name"
    refused(run("refresh", "abc"), what.format("refresh"), "Select images with --only abc.")
    refused(run("refresh", "--cloud", "a", "abc"), what.format("refresh"), "--cloud abc")
    refused(run("show", "a", "abc"), what.format("show"), "./inv show --help")
    refused(run("show", "a", "prunee"), "show takes no 'prunee' here, and there is no task of that name", "task prune?")


def test_words_after_two_dashes_are_not_swallowed(run: Run) -> None:
    refused(run("prune", "--cloud", "c", "--", "--dry-run"), "-- has no meaning here")


# What goes on working


def test_options_in_all_their_spellings(run: Run) -> None:
    words = ["--cloud", "a", "-cb", "--cloud=c", "-c=d", "-c", "e", "-d", "--no-boot", "--only=x=y"]
    ((name, given),) = run("refresh", *words).ran
    assert name == "refresh"
    assert given == {"cloud": list("abcde"), "only": "x=y", "dry_run": True, "boot": False, "args": ""}


def test_several_letters_after_one_dash(run: Run) -> None:
    ((_, given),) = run("refresh", "-doimage").ran
    assert (given["dry_run"], given["only"]) == (True, "image")
    ((_, given),) = run("refresh", "-do", "image").ran
    assert (given["dry_run"], given["only"]) == (True, "image")


def test_several_tasks_run_in_their_order_each_with_its_own_options(run: Run) -> None:
    ran = run("show", "a", "prune", "--cloud", "c", "--dry-run", "cloud.up", "show", "prune", "--json").ran
    assert [name for name, _ in ran] == ["show", "prune", "cloud.up", "show"]
    assert [ran[0][1], ran[3][1]] == [{"name": "a", "json": False}, {"name": "prune", "json": True}]
    assert ran[1][1] == {"cloud": "c", "only": None, "dry_run": True, "html": None}


def test_an_error_in_the_last_of_several_tasks_keeps_all_from_running(run: Run) -> None:
    refused(run("show", "a", "prune", "--cloud", "c", "--dry"), "prune has no option --dry")


def test_a_required_option_may_be_given_by_its_place(run: Run) -> None:
    assert run("prune", "c").ran == [("prune", {"cloud": "c", "only": None, "dry_run": False, "html": None})]


# Laws, over the real tasks

TASKS_AND_VALUES = ["refresh", "prune", "show", "c", "a", "-"]
OPTIONS = ["--cloud", "-c", "--only", "-o", "--cloud=c", "--dry-run", "-d", "-do", "--no-boot", "--json", "--dry", "--"]


def parsed(*words: str) -> list[dict[str, Any]] | None:
    """The arguments of each task; None for a command line that is refused."""
    program = PROGRAM(namespace=namespace, name="inv", binary="./inv")
    program.create_config()
    try:
        program.parse_core(["inv", *words])
    except UsageError:
        return None
    return [task.as_kwargs for task in program.tasks]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(TASKS_AND_VALUES + OPTIONS), max_size=8))
def test_a_dry_run_that_is_asked_for_is_one_or_nothing_runs(words: list[str]) -> None:
    tasks = parsed("prune", "c", *words)
    if tasks is not None:
        assert any(task.get("dry_run") for task in tasks) == bool({"--dry-run", "-d", "-do"} & set(words))


@settings(deadline=None, max_examples=100)
@given(st.text(min_size=1), st.lists(st.text(min_size=1), max_size=3))
def test_an_attached_value_is_read_as_it_is_written(only: str, clouds: list[str]) -> None:
    tasks = parsed("refresh", f"--only={only}", *(f"--cloud={cloud}" for cloud in clouds))
    assert tasks is not None
    assert (tasks[0]["only"], tasks[0]["cloud"]) == (only, clouds)
