"""Outcome of a check: a small function that looks at one thing and lists what is wrong with it.

A check never ends a verification: one that cannot be carried out has failed. Unless this host is the reason: then
nothing is known about the build, and the verification ends without a verdict.
"""

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipelines.artifacts.manifest import Check, Manifest
from pipelines.catalog.variant import Variant
from pipelines.diskimage.filesystem import FileSystem
from pipelines.util import text
from pipelines.util.errors import HostError, Interrupted, PipelineError, ProgramError

Outcome = tuple[bool | None, str]  # None: not applicable to this image
Subject = TypeVar("Subject")
_MOST_NAMED = 5

_OF_THE_HOST = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
)
# The same in the output of programs (which run in the C locale), and of mount without a loop device.
_MESSAGES_OF_THE_HOST = (*sorted(map(os.strerror, _OF_THE_HOST)), "failed to setup loop device")


@dataclass(frozen=True, kw_only=True, slots=True)
class Guest:
    """A finished image, open for reading: its manifest and variant, its raw disk and its root file system."""

    manifest: Manifest
    variant: Variant
    disk: Path
    files: FileSystem


def outcome(problems: Sequence[str], fine: str) -> Outcome:
    """Passed, with `fine` as the detail, when there are no problems; else failed, with the first of them."""
    if not problems:
        return True, fine
    return False, text.listed(problems, _MOST_NAMED, "; ")


def carried_out(name: str, judge: Callable[[Subject], Outcome], subject: Subject) -> Check:
    """The check's result; one that cannot be carried out has failed, with the reason. HostError if it is the host."""
    try:
        passed, detail = judge(subject)
    except (PipelineError, OSError, ValueError, LookupError) as error:
        raise_for_host(error)
        passed, detail = False, not_carried_out(error)
    return Check(name=name, passed=passed, detail=detail)


def not_carried_out(error: Exception) -> str:
    """The detail of a check that could not be carried out, with the remedy."""
    remedy = f" ({error.remedy})" if isinstance(error, PipelineError) and error.remedy else ""
    return f"could not be checked: {str(error) or type(error).__name__}{remedy}"


def raise_for_host(error: Exception) -> None:
    """HostError where an error is about this host (a full disk, a missing program), not about the build.

    An interrupt is not about the build either, and is raised again.
    """
    if isinstance(error, HostError | Interrupted):
        raise error
    output = error.output if isinstance(error, ProgramError) else str(error) if isinstance(error, PipelineError) else ""
    number = error.errno if isinstance(error, OSError) else None
    if number in _OF_THE_HOST or any(message in output for message in _MESSAGES_OF_THE_HOST):
        remedy = "This is not a verdict on the build. Fix this host (`./inv doctor` may help), then verify it again."
        raise HostError(f"this host cannot verify the build: {error}", remedy=remedy) from error
