"""What is a check?

A small function that looks at one thing and says what is wrong with it. It never ends a verification: one that cannot
be carried out is one that failed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipelines.errors import PipelineError
from pipelines.filesystem import FileSystem
from pipelines.manifest import Check, Manifest
from pipelines.variant import Variant

Outcome = tuple[bool, str]
Subject = TypeVar("Subject")
_MOST_NAMED = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Guest:
    """A finished image, open for reading: what it should be, its raw disk and its root file system."""

    manifest: Manifest
    variant: Variant
    disk: Path
    files: FileSystem


def outcome(problems: Sequence[str], fine: str) -> Outcome:
    """Passed, with `fine` as the detail, when there are no problems; else failed, with the first of them."""
    if not problems:
        return True, fine
    more = f"; and {len(problems) - _MOST_NAMED} more" if len(problems) > _MOST_NAMED else ""
    return False, "; ".join(problems[:_MOST_NAMED]) + more


def carried_out(name: str, judge: Callable[[Subject], Outcome], subject: Subject) -> Check:
    """The check's result; a check that cannot be carried out has failed, and says why."""
    try:
        passed, detail = judge(subject)
    except (PipelineError, OSError, ValueError, LookupError) as error:
        passed, detail = False, not_carried_out(error)
    return Check(name=name, passed=passed, detail=detail)


def not_carried_out(error: Exception) -> str:
    """The detail of a check that could not be carried out, with what can be done about it."""
    remedy = f" ({error.remedy})" if isinstance(error, PipelineError) and error.remedy else ""
    return f"could not be checked: {str(error) or type(error).__name__}{remedy}"
