"""The command line, run in a process of its own as an operator runs it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.support.paths import PROJECT

Inv = Callable[..., "subprocess.CompletedProcess[str]"]


def inv(*arguments: str | Path, cwd: Path = PROJECT, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run `inv ARGUMENTS` as an operator does, and return its result whatever its exit code."""
    argv = [sys.executable, "-m", "invoke", "--search-root", PROJECT, *arguments]
    values = os.environ | environment
    return subprocess.run(argv, cwd=cwd, env=values, capture_output=True, text=True, check=False, timeout=120)
