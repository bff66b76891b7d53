"""Is there room for a build in this folder?

Free space, and a file system that can hold a guest's tree. The folder need not be there yet.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines.catalog.variant import Variant
from pipelines.preflight import tree_probe
from pipelines.preflight.checks import Finding
from pipelines.util import console, process
from pipelines.util.errors import HostError, ProgramError

_GIB = 2**30
_ELSEWHERE = "Put the builds elsewhere with --builds DIR."


def space_needed(variant: Variant) -> int:
    """Free bytes that a build of the variant needs: tree, disk and artifact together, measured and rounded up."""
    gib = 4 if not variant.gpu else 9
    return (gib + (24 if variant.cuda.toolkit else 0)) * _GIB


def together(builds: Path, needs: Sequence[int], at_once: int) -> int:
    """How many of several builds, which need so many bytes, have room at the same time: at least 1, at most `at_once`.

    Says so when that is fewer. Whether there is room for one is for the build itself to say.
    """
    free = shutil.disk_usage(_existing(builds)).free
    largest = sorted(needs, reverse=True)[:at_once]
    fitting = sum(sum(largest[: count + 1]) <= free for count in range(len(largest)))
    if 1 <= fitting < len(largest):
        console.note(f"there is room for {fitting} of these builds at once: {builds} has {free / _GIB:.1f} GiB free")
    return max(1, fitting)


def make(builds: Path) -> None:
    """Make the folder; HostError when that cannot be."""
    try:
        builds.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HostError(f"the builds folder {builds} cannot be made: {error.strerror}", remedy=_ELSEWHERE) from error


def space(builds: Path, least: int) -> Finding:
    """Whether the folder's file system has so many bytes free."""
    folder = _existing(builds)
    free = shutil.disk_usage(folder).free
    detail = f"{folder} has {free / _GIB:.1f} GiB free; this build needs {least / _GIB:.1f} GiB"
    fit = free >= least
    remedy = "" if fit else "Free some space, or put the builds elsewhere with --builds DIR."
    return Finding(name="disk space", fit=fit, fatal=True, detail=detail, remedy=remedy)


def tree(builds: Path, as_root: tuple[str, ...]) -> Finding:
    """Whether root can make there what is in a guest's tree. `as_root` goes before a command that needs root."""
    folder = _existing(builds)
    if not folder.is_dir():
        return _unfit(f"{folder} is not a folder")
    argv = [*as_root, sys.executable, "-I", tree_probe.__file__, str(folder)]
    try:
        refused = process.run(argv, deadline=10).stdout.splitlines()
    except (ProgramError, HostError) as error:
        return _unfit(f"nothing can be made in {folder}: {error}")
    if refused:
        return _unfit(f"{folder} refuses {', '.join(refused)}: its mount options or its file system")
    return Finding(name="builds folder", fit=True, fatal=True, detail=f"{folder} can hold a guest's files (probed)")


def _existing(builds: Path) -> Path:
    path = builds.absolute()
    return next(each for each in (path, *path.parents) if each.exists())


def _unfit(detail: str) -> Finding:
    return Finding(name="builds folder", fit=False, fatal=True, detail=detail, remedy=_ELSEWHERE)
