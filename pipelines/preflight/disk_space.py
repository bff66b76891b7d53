"""The builds folder: free disk space, and a file system that can hold a guest's files.

The folder need not exist yet.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines.catalog.variant import Variant
from pipelines.preflight import tree_probe
from pipelines.preflight.checks import Finding
from pipelines.util import console, process, units
from pipelines.util.errors import HostError, ProgramError

_GIB = 2**30
_ELSEWHERE = "Put the builds elsewhere with --builds DIR."


def space_needed(variant: Variant) -> int:
    """The free bytes that a build of the variant needs for tree, disk and artifact, measured and rounded up."""
    gib = 4 if not variant.gpu else 9
    return (gib + (24 if variant.cuda.toolkit else 0)) * _GIB


def jobs(builds: Path, needs: Sequence[int], at_once: int) -> int:
    """How many builds with these needs, in bytes, have enough disk space at the same time: 1 to `at_once`.

    Notes it when that is fewer. A build that does not even fit alone reports that itself.
    """
    free = shutil.disk_usage(_existing(builds)).free
    largest = sorted(needs, reverse=True)[:at_once]
    fitting = sum(sum(largest[: count + 1]) <= free for count in range(len(largest)))
    if 1 <= fitting < len(largest):
        console.note(f"there is disk space for only {fitting} builds at once: {builds} has {units.size(free)} free")
    return max(1, fitting)


def make(builds: Path) -> None:
    """Create the folder; HostError when that fails."""
    try:
        builds.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HostError(f"the builds folder {builds} cannot be created: {error.strerror}", remedy=_ELSEWHERE) from error


def space(builds: Path, least: int) -> Finding:
    """Whether the folder's file system has at least that many bytes free."""
    folder = _existing(builds)
    free = shutil.disk_usage(folder).free
    detail = f"{folder} has {units.size(free)} free; this build needs {units.size(least)}"
    fit = free >= least
    remedy = "" if fit else "Free some space, or put the builds elsewhere with --builds DIR."
    return Finding(name="disk space", fit=fit, fatal=True, detail=detail, remedy=remedy)


def tree(builds: Path, as_root: tuple[str, ...]) -> Finding:
    """Whether root can create all kinds of files of a guest there. `as_root` precedes a command that needs root."""
    folder = _existing(builds)
    if not folder.is_dir():
        return _unfit(f"{folder} is not a folder")
    argv = [*as_root, sys.executable, "-I", tree_probe.__file__, str(folder)]
    try:
        refused = process.run(argv, deadline=10).stdout.splitlines()
    except (ProgramError, HostError) as error:
        return _unfit(f"{folder} cannot be tested: {error}")
    if refused:
        return _unfit(f"{folder} does not allow {', '.join(refused)}; check its mount options and its file system")
    return Finding(name="builds folder", fit=True, fatal=True, detail=f"{folder} can hold a guest's files (tested)")


def _existing(builds: Path) -> Path:
    path = builds.absolute()
    return next(each for each in (path, *path.parents) if each.exists())


def _unfit(detail: str) -> Finding:
    return Finding(name="builds folder", fit=False, fatal=True, detail=detail, remedy=_ELSEWHERE)
