"""Record of measurements, and of the machine that they were made on.

A record is a file of JSON lines, one for the machine and one for each measurement, written as soon as it is known: an
interrupted benchmark loses nothing, and a later one goes on with the same file.
"""

import dataclasses
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.build import elements
from pipelines.util import process
from pipelines.util.errors import PipelineError, UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """The machine of a record; `memory` is in bytes, `versions` maps a program to the version that it prints."""

    cpu: str
    cores: int
    memory: int
    kernel: str
    system: str
    versions: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """One value of one run, or why there is none. `image` is empty where no image is involved; `at` is ISO 8601, UTC.

    `facts` are what makes values comparable: versions, how many packages, what came out of a cache.
    """

    image: str
    case: str
    quantity: str
    run: int
    at: str
    value: float | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What a file has: the machine, and all measurements in their order."""

    machine: Machine
    measurements: tuple[Measurement, ...]


def this_machine() -> Machine:
    """The machine that we are on."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), "")
    return Machine(
        cpu=model or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=platform.release(),
        system=platform.freedesktop_os_release()["PRETTY_NAME"],
        versions={"diskimage-builder": elements.dib_version()}
        | {program: _version(program) for program in ("qemu-img", "mmdebstrap")},
    )


def start(path: Path, machine: Machine) -> None:
    """Start a record; UsageError when the file exists already."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=False)
    except FileExistsError:
        raise UsageError(
            f"{path} exists already", remedy=f"Continue it with --resume {path}, or choose another file."
        ) from None
    _append(path, {"machine": dataclasses.asdict(machine)})


def append(path: Path, measurements: Sequence[Measurement]) -> None:
    """Add what a case has measured, at once."""
    _append(path, *({"measurement": dataclasses.asdict(each)} for each in measurements))


def read(path: Path) -> Record:
    """Read a record; what a crash left of a last line is passed over. UsageError when the file is none."""
    try:
        lines = [_parsed(line) for line in path.read_text(encoding="utf-8").splitlines()]
        machine = Machine(**lines[0]["machine"])
        found = [Measurement(**line["measurement"]) for line in lines if "measurement" in line]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UsageError(
            f"{path} is no record of a bench: {error}", remedy="Name a file that `inv bench` wrote."
        ) from error
    return Record(machine=machine, measurements=tuple(found))


def written(now: datetime) -> str:
    """A time as measurements have it."""
    return f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _append(path: Path, *values: object) -> None:
    with path.open("a", encoding="utf-8") as sink:
        sink.write("".join(f"{json.dumps(value)}\n" for value in values))
        sink.flush()
        os.fsync(sink.fileno())


def _parsed(line: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        return {}  # an interrupted write; the next line is complete again
    return found


def _version(program: str) -> str:
    try:
        printed = process.run([program, "--version"], deadline=10).stdout.splitlines()[0]
    except PipelineError:
        return "not installed"
    return printed.removeprefix(f"{program} ").removeprefix("version ")
