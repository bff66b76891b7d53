"""Report of a record: tables for people or JSON for programs, from the same summaries."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import goals
from benchmarks.goals import Summary, Verdict
from benchmarks.measurement import Record
from pipelines.util import console
from pipelines.util.errors import PipelineError


class Incomplete(PipelineError):
    """Some cases failed; each was shown when it happened."""


def show(record: Record, path: Path, *, as_json: bool) -> None:
    """The record as tables, or as JSON; Incomplete when a case has no value."""
    summed = goals.summaries(record.measurements)
    verdicts = goals.verdicts(summed)
    if as_json:
        found = [asdict(each) | {"median": each.median if each.values else None} for each in summed]
        compared = [asdict(each) | {"reached": each.reached} for each in verdicts]
        console.emit_json({"record": str(path), **asdict(record), "summaries": found, "goals": compared})
    else:
        _tables(record, summed, verdicts)
        console.note(f"all of it: {path}")
    failed = sorted({f"{each.image} {each.quantity}".strip() for each in summed if each.error})
    if failed:
        raise Incomplete(f"not measured: {', '.join(failed)}", remedy=f"See above; then --resume {path}.")


def _tables(record: Record, summed: Sequence[Summary], verdicts: Sequence[Verdict]) -> None:
    """Where, what, and whether that is as fast as it should be."""
    machine = record.machine
    days = sorted({each.at[:10] for each in record.measurements})
    console.say(
        f"{' and '.join(days[:1] + days[1:][-1:])}: {machine.cpu}, {machine.cores} cores, "
        f"{machine.memory / 2**30:.0f} GiB, {machine.system}, kernel {machine.kernel}"
    )
    console.say(", ".join(f"{name} {version}" for name, version in machine.versions.items()))
    for image, facts in _images(record).items():
        if facts:
            console.say(f"{image}: {', '.join(f'{name} {value}' for name, value in facts.items())}")
    console.table("Measured", ("image", "what", "median", "from", "to", "runs"), [_measured(each) for each in summed])
    console.table(
        "Compared", ("image", "what", "with", "is", "goal", "reached"), [_compared(each) for each in verdicts]
    )


def _images(record: Record) -> dict[str, dict[str, str]]:
    """What is in the images: of our own builds the driver and the kernel, and of each tool's how many packages."""
    found: dict[str, dict[str, str]] = {}
    for each in record.measurements:
        of = found.setdefault(each.image, {}) if each.image and each.facts else {}
        of.update({name: each.facts[name] for name in ("driver", "kernel") if each.facts.get(name)})
        if each.quantity in {"stock", "cold", "mkosi"} and "packages" in each.facts:
            of[f"packages ({each.quantity})"] = each.facts["packages"]
        if "version" in each.facts:
            of[each.case] = each.facts["version"]
    return found


def _measured(each: Summary) -> tuple[str, ...]:
    quantity = goals.QUANTITIES[each.quantity]
    if not each.values:
        return (each.image or "-", quantity.title, each.error.partition("\n")[0], "", "", "0")
    least, median, most = (
        goals.shown(value, quantity.unit) for value in (min(each.values), each.median, max(each.values))
    )
    return (each.image or "-", quantity.title, median, least, most, str(len(each.values)))


def _compared(each: Verdict) -> tuple[str, ...]:
    with_ = goals.QUANTITIES[each.goal.against].title if each.goal.against else "-"
    value = "not measured" if each.value is None else f"{each.value:.2f}" + ("" if each.goal.against else " s")
    reached = {True: "yes", False: "NO", None: "-"}[each.reached]
    return (each.image or "-", goals.QUANTITIES[each.goal.quantity].title, with_, value, str(each.goal), reached)
