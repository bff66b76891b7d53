"""The lock files: exact versions of all packages and digests of their files, made from pyproject.toml.

uv resolves them for every Python and platform at once, from the index that pip is configured with; no lock file names
one. Versions stay as they are while they fit, unless newer ones are asked for. Packages come as wheels: building one
would need a compiler, and build tools that nothing pins.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.util import console, process, virtualenv
from pipelines.util.errors import ProgramError, UsageError
from pipelines.util.paths import PROJECT

# Required by others, and not used by what we use of them.
EXCLUDED: Mapping[str, str] = {
    "crypt-r": "virt-firmware's helper for guests of its own tests; it would need a compiler on Python 3.13",
    "flake8": "diskimage-builder's dib-lint; `./inv lint` and `./inv test` name it themselves",
    "setuptools": "pbr's part that builds packages",
}
_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Lock:
    """A lock file, and the dependency group that it is made from, or a list of requirements."""

    path: Path
    group: str = ""
    source: str = "pyproject.toml"
    from_source: str = ""

    def options(self) -> tuple[str, ...]:
        """What uv is told for this one."""
        built = ("--no-binary", self.from_source) if self.from_source else ()
        return ("--group", self.group, *built) if self.group else (self.source,)


RUN = Lock(path=Path("requirements/run.txt"))
TEST = Lock(path=Path("requirements/test.txt"), group="test")
LINT = Lock(path=Path("requirements/lint.txt"), group="lint")
LOCKS = (
    RUN,
    TEST,
    LINT,
    Lock(path=Path("pipelines/util/uv.txt"), group="setup"),
    Lock(path=Path("pipelines/devcloud/requirements.txt"), group="cloud", from_source="simplegeneric"),
    Lock(path=Path("pipelines/devcloud/build-requirements.txt"), group="cloud-build"),
)
# A site's own additions, a driver of its records for example; only where it has written this list.
SITE = Lock(path=Path("requirements/site.txt"), source="requirements/site.in")
# What is installed into one environment has to agree.
_BESIDE = {TEST: (RUN,), LINT: (RUN, TEST), SITE: (RUN, TEST, LINT)}


def write(project: Path = PROJECT, *, upgrade: bool = False) -> None:
    """Make all lock files again; UsageError with uv's reason when the dependencies do not fit together."""
    with tempfile.TemporaryDirectory(dir=project, prefix=".lock-") as folder, virtualenv.tools(Path(folder)) as tools:
        excluded = Path(folder) / "excluded.txt"
        excluded.write_text("".join(f"{name}\n" for name in EXCLUDED), encoding="utf-8")
        for lock in (*LOCKS, *((SITE,) if (project / SITE.source).exists() else ())):
            argv = [*_command(lock), *(("--upgrade",) if upgrade else ())]
            argv += ["--excludes", str(excluded)] if lock == RUN else []
            try:
                # An extra index may have few of a version's files, and the digests of the others would be missing.
                process.run([str(tools.uv), *argv], deadline=_SECONDS, env=tools.main_index(), cwd=project)
            except ProgramError as error:
                what = f"{lock.path} could not be made:\n{error.output.strip()}"
                raise UsageError(
                    what, remedy="Change the dependencies in pyproject.toml so that they agree."
                ) from error
            console.note(f"{lock.path} is up to date")


def _command(lock: Lock) -> Sequence[str]:
    options = ["--quiet", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-header"]
    options += ["--only-binary", ":all:", "--emit-build-options", *_agreeing(lock)]
    return ("pip", "compile", *options, *lock.options(), "--output-file", str(lock.path))


def _agreeing(lock: Lock) -> Iterator[str]:
    for other in _BESIDE.get(lock, ()):
        yield from ("--constraints", str(other.path))
