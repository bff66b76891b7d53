"""Place of a benchmark: one folder below the builds, on the same file system, which is removed afterwards.

It runs the measured programs; a case returns what it measured as `Taken`.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from benchmarks import loops
from pipelines.artifacts import store
from pipelines.artifacts.store import Build
from pipelines.build.recipe import Command
from pipelines.catalog.variant import Variant
from pipelines.util import console, locks, process
from pipelines.util.errors import BuildError, ProgramError, UsageError

DEADLINE_SECONDS = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """One value of a case, and what makes it comparable."""

    quantity: str
    value: float
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """`scratch` is ours alone and empty at first; `builds` are the operator's, of the images in the file `catalog`."""

    scratch: Path
    builds: Path
    catalog: Path
    now: Callable[[], datetime]

    @property
    def logs(self) -> Path:
        """What the programs of a case print."""
        return self.scratch / "logs"

    def fresh(self, variant: Variant, name: str) -> Path:
        """An empty folder of an image for one tool."""
        folder = self.scratch / variant.name / name
        remove(folder)
        folder.mkdir(parents=True)
        return folder

    def ours(self, variant: Variant) -> Path:
        """The folder of an image in which our own builds are measured."""
        return self.scratch / variant.name / "ours"

    def finished(self, variant: Variant) -> Build:
        """A complete build of an image: of this bench, or else the operator's newest. UsageError without any."""
        for root in (self.ours(variant) / "builds", self.builds):
            with contextlib.suppress(UsageError):
                return store.newest_complete(root, variant.name)
        raise UsageError(
            f"there is no build of {variant.name} to measure with",
            remedy=f"Run `./inv build {variant.name}` first, or the case cold with this one.",
        )

    def run(self, command: Command, what: str, *, cwd: Path | None = None) -> float:
        """Seconds that a program took; BuildError, with its last lines, when it fails."""
        log = self.logs / f"{what.replace(' ', '-')}.log"
        try:
            with console.ticker(what) as shown:
                result = process.stream(
                    command.argv,
                    deadline=DEADLINE_SECONDS,
                    log=log,
                    on_line=shown.line,
                    on_idle=shown.tick,
                    env=command.environment,
                    cwd=cwd,
                )
        except ProgramError as error:
            raise BuildError(f"{what}: {error}", remedy=f"Read {log.name}.") from error
        if result.returncode:
            last = "\n".join(f"  | {line}" for line in self.output(what)[-5:])
            raise BuildError(f"{what}: exit code {result.returncode}\n{last}", remedy=f"Read {log.name}.")
        return result.seconds

    def output(self, what: str) -> list[str]:
        """The lines that a program of this case printed."""
        return (self.logs / f"{what.replace(' ', '-')}.log").read_text(errors="replace").splitlines()


@contextlib.contextmanager
def opened(builds: Path, catalog: Path, now: Callable[[], datetime]) -> Iterator[Site]:
    """A site below the builds, which is removed afterwards; HostError when another benchmark is running."""
    builds = builds.resolve()
    busy = "a benchmark is already running: {holder}"
    with locks.hold(builds / ".bench.lock", busy):
        scratch = builds / ".bench"
        try:
            clear(scratch)  # what one that was killed has left
            yield Site(scratch=scratch, builds=builds, catalog=catalog.resolve(), now=now)
        finally:
            clear(scratch)
            (builds / ".bench.lock").unlink(missing_ok=True)


def environment(**more: str) -> dict[str, str]:
    """What every measured program gets: our few variables, and the operator's proxies."""
    proxies = {name: os.environ[name] for name in ("http_proxy", "https_proxy", "no_proxy") if name in os.environ}
    return process.environment(**proxies, **more)


def clear(folder: Path) -> None:
    """Take away a folder, and loop devices of what is in it."""
    loops.detach(folder)
    remove(folder)


def remove(folder: Path) -> None:
    """Remove a tree, or a file, root's own included."""
    process.run([*process.as_root(), "rm", "-rf", "--one-file-system", "--", str(folder)], deadline=600)
