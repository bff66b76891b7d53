"""Benchmark of our builds against stock diskimage-builder, mkosi and the goals: `inv bench`.

Every case of every image, run by run. A case that fails is reported, and the others go on; each measurement is in the
record at once.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks import cases, goals, measurement, site
from benchmarks.measurement import Measurement, Record
from benchmarks.site import Site, Taken
from pipelines.catalog import loader
from pipelines.catalog.variant import Variant
from pipelines.util import console
from pipelines.util.errors import PipelineError, UsageError
from pipelines.util.times import Clock

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """The command line's request: which cases (names and globs), of which images, how often, into which record."""

    only: str
    images: str
    runs: int
    record: Path
    resumed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Piece:
    """One case of one run, ready to be measured."""

    case: str
    image: str
    run: int
    quantity: str
    measure: Callable[[Site], Iterator[Taken]]

    @property
    def key(self) -> tuple[str, str, int]:
        return self.case, self.image, self.run


def requested(only: str, images: str, runs: str, *, output: str | None, resume: str | None, now: datetime) -> Request:
    """From the command line's words; UsageError for those that make no sense."""
    cases.chosen(only)
    if not runs.isdecimal() or int(runs) == 0:
        raise UsageError(f"--runs {runs} is no number of runs", remedy="Write --runs 3, for example.")
    if output and resume:
        raise UsageError("--output begins a record and --resume goes on with one", remedy="Give one of them.")
    record = Path(resume or output or RESULTS / f"{now:%Y%m%dT%H%M%SZ}.jsonl")
    return Request(only=only, images=images, runs=int(runs), record=record, resumed=resume is not None)


def run(request: Request, images: Path, builds: Path, now: Clock) -> Record:
    """Measure what is requested and not in the record yet. Failures are in the record, with the reason."""
    loaded = loader.load(images)
    pieces = _pieces(request, loaded.select(request.images))
    done = _started(request)
    builds.mkdir(parents=True, exist_ok=True)
    with site.opened(builds, images, now) as place:
        for piece in pieces:
            if piece.key not in done:
                _measure(piece, place, request.record)
    return measurement.read(request.record)


def _pieces(request: Request, variants: Sequence[Variant]) -> list[_Piece]:
    names = cases.chosen(request.only)
    found = []
    for number in range(1, request.runs + 1):
        for alone in cases.OF_NONE:
            found.append(_Piece(case=alone.name, image="", run=number, quantity=alone.quantity, measure=alone.measure))
        for variant in variants:
            for case in cases.OF_AN_IMAGE:
                found.append(_of_image(case, variant, number))
    return [piece for piece in found if piece.case in names]


def _of_image(case: cases.Case, variant: Variant, number: int) -> _Piece:
    def measure(place: Site) -> Iterator[Taken]:
        return case.measure(place, variant)

    return _Piece(case=case.name, image=variant.name, run=number, quantity=case.quantity, measure=measure)


def _started(request: Request) -> set[tuple[str, str, int]]:
    """The pieces that the record has; a new record has none. UsageError when it is another machine's."""
    machine = measurement.this_machine()
    if not request.resumed:
        measurement.start(request.record, machine)
        return set()
    record = measurement.read(request.record)
    if record.machine != machine:
        what = f"{request.record} was started on another machine, or with other programs"
        raise UsageError(what, remedy="Numbers of two machines are not compared: begin a new record.")
    return {(each.case, each.image, each.run) for each in record.measurements if not each.error}


def _measure(piece: _Piece, place: Site, record: Path) -> None:
    """Measure, and write down what came of it, all of it or why there is nothing. An interrupt goes on."""
    name = " ".join(word for word in (piece.image, piece.case) if word)
    console.note(f"run {piece.run}: {name}")
    site.remove(place.logs)
    place.logs.mkdir(parents=True)
    try:
        taken = list(piece.measure(place))
    except PipelineError as error:
        if error.exit_code >= 128:
            raise
        console.fail(error)
        _keep_logs(place, record, f"{name} {piece.run}".replace(" ", "-"))
        measurement.append(record, [_made(piece, place, piece.quantity, error=error.what)])
        return
    except OSError as error:
        console.warn(f"{name}: {error}")
        measurement.append(record, [_made(piece, place, piece.quantity, error=str(error))])
        return
    made = [_made(piece, place, each.quantity, value=each.value, facts=each.facts) for each in taken]
    measurement.append(record, made)
    for each in taken:
        quantity = goals.QUANTITIES[each.quantity]
        console.note(f"  {quantity.title}: {goals.shown(each.value, quantity.unit)}")


def _made(piece: _Piece, place: Site, quantity: str, **came: Any) -> Measurement:
    at = measurement.written(place.now())
    return Measurement(image=piece.image, case=piece.case, quantity=quantity, run=piece.run, at=at, **came)


def _keep_logs(place: Site, record: Path, name: str) -> None:
    """What the programs of a failed case printed, beside the record."""
    logs = record.with_suffix(".logs") / name
    shutil.copytree(place.logs, logs, dirs_exist_ok=True)
    console.note(f"its logs: {logs}")
