"""The program itself: version, help, the list of tasks, completion of words; and that ./inv runs it."""

import os
import re
import subprocess
import sys
import tomllib

import pytest

from pipelines.cli.program import Application
from tasks import namespace
from tests.support.paths import PROJECT

Output = pytest.CaptureFixture[str]


def run(*words: str) -> int:
    try:
        Application(namespace=namespace, name="gpu-images", binary="./inv", binary_names=["inv"]).run(["inv", *words])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.mark.parametrize("words", [("--version",), ("-V",), ("--version", "list")])
def test_the_version_is_the_products(words: tuple[str, ...], capsys: Output) -> None:
    assert run(*words) == 0
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    assert capsys.readouterr().out == f"gpu-images {declared}\n"


@pytest.mark.parametrize(
    "words",
    [
        ("prune", "--help"),
        ("prune", "-h"),
        ("--help", "prune"),
        ("-h", "prune"),
        ("--help=prune",),
        ("prune", "--cloud", "c", "--dry-run", "-h"),
        ("list", "prune", "--help"),
        ("prune", "--help", "--cloud"),
    ],
)
def test_help_for_a_task_shows_how_it_is_called_and_runs_nothing(words: tuple[str, ...], capsys: Output) -> None:
    assert run(*words) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Usage: ./inv prune --cloud NAME [OPTIONS]\n\nDelete old images")
    assert re.search("--dry-run, -d +", shown)
    assert re.search("--only NAMES, -o +", shown)


@pytest.mark.parametrize("name", sorted(namespace.task_names))
def test_every_task_and_every_option_has_a_help_text(name: str, capsys: Output) -> None:
    task = namespace[name]
    (context,) = [each for each in namespace.to_contexts() if each.name == name]
    assert run(name, "-h") == 0
    assert capsys.readouterr().out.startswith(f"Usage: ./inv {name}")
    assert task.__doc__
    assert [flag for flag, argument in context.flags.items() if not argument.help] == []
    assert "-h" not in context.flags


def test_options_that_are_there_unless_switched_off_are_listed_with_the_switch(capsys: Output) -> None:
    run("refresh", "--help")
    assert "--[no-]boot" in capsys.readouterr().out


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help_has_the_options_of_the_program_and_all_tasks(words: tuple[str, ...], capsys: Output) -> None:
    assert run(*words) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Usage: ./inv TASK [OPTIONS]")
    assert re.search("--help \\[TASK\\], -h +", shown)
    assert [name for name in namespace.task_names if not re.search(f"^  {re.escape(name)} ", shown, re.MULTILINE)] == []
    assert "--dry" not in shown


@pytest.mark.parametrize("words", [("prune", "--help"), ("--list",), ("--version",)])
def test_a_reader_who_has_seen_enough_of_the_help_is_no_failure(words: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    argv = [sys.executable, "tasks.py", *words]
    try:
        ended = subprocess.run(argv, cwd=PROJECT, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=60)
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_help_for_a_task_that_does_not_exist_names_the_nearest(capsys: Output) -> None:
    assert run("--help", "prun") == 1
    assert capsys.readouterr().err == (
        "error: there is no task prun\nremedy: Did you mean prune? ./inv --list names all tasks.\n"
    )


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--list", "clod"), "there is no group of tasks clod"),
        (("--list", "--list-format", "long"), "--list-format needs flat, nested or json"),
        (("--list", "--list-depth", "deep"), "--list-depth needs a number, not 'deep'"),
        (("--print-completion-script", "ksh"), "there is no completion for ksh"),
    ],
)
def test_wrong_values_of_the_programs_own_options_are_errors_of_usage(
    words: tuple[str, ...], error: str, capsys: Output
) -> None:
    assert run(*words) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith(f"error: {error}\nremedy: ")
    assert shown.out == ""


def test_tasks_of_one_group_can_be_listed(capsys: Output) -> None:
    assert run("--list", "cloud") == 0
    assert re.findall(r"^  (\S+) ", capsys.readouterr().out, re.MULTILINE) == [".down", ".env", ".up"]


@pytest.mark.parametrize(
    ("typed", "word"), [("inv pru", "prune"), ("inv prune --", "--dry-run"), ("inv --", "--version")]
)
def test_words_are_completed(typed: str, word: str, capsys: Output) -> None:
    assert run("--complete", "--", *typed.split()) == 0
    assert word in capsys.readouterr().out.splitlines()


def test_compiled_modules_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    run("--list")
    assert not sys.dont_write_bytecode


def test_inv_ends_with_the_code_of_a_usage_error_before_anything_is_asked() -> None:
    tasks = [sys.executable, str(PROJECT / "tasks.py"), "prune", "--cloud", "nowhere", "--dry"]
    ended = subprocess.run(tasks, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        "error: prune has no option --dry\nremedy: Did you mean --dry-run? See ./inv prune --help.\n"
    )
