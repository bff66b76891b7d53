"""Output reaches the operator, whatever it is written to."""

import os
import subprocess
import sys

import pytest

from tests.support.paths import PROJECT


def run(code: str, stdout: int = subprocess.PIPE, **environment: str) -> "subprocess.CompletedProcess[str]":
    lines = "from pipelines.cli import task\nfrom pipelines.util import console\n" + code
    argv = [sys.executable, "-c", lines]
    env = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(
        argv, stdout=stdout, stderr=subprocess.PIPE, text=True, env=env, cwd=PROJECT, check=False, timeout=60
    )


@pytest.mark.parametrize(
    "what", ["console.say('a line')", "console.table('t', ['a'], [['1']])", "console.emit_json({})"]
)
def test_a_reader_that_closes_the_pipe_is_no_failure(what: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = run(f"raise SystemExit(task.finish(lambda: {what}))", stdout=writing)
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_notes_without_a_reader_stop_nothing() -> None:
    code = "import os, sys\nreading, writing = os.pipe()\nos.close(reading)\nos.dup2(writing, 2)\n"
    ended = run(code + "console.note('one')\nconsole.warn('two')\nconsole.say('done')\nos._exit(0)")
    assert (ended.returncode, ended.stdout) == (0, "done\n")


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1", "NO_COLOR": "1"}], ids=["plain", "drawn"])
def test_what_looks_like_markup_is_shown_as_it_is(environment: dict[str, str]) -> None:
    ended = run("console.say('[red]x[/red] [/] :smile:'); console.warn('[b]y[/b]')", **environment)
    assert ended.stdout == "[red]x[/red] [/] :smile:\n"
    assert ended.stderr == "warning: [b]y[/b]\n"


def test_a_warning_has_a_colour_where_one_is_seen() -> None:
    assert run("console.warn('y')", FORCE_COLOR="1", TERM="xterm-256color").stderr == "\x1b[33mwarning:\x1b[0m y\n"
