"""Comparison of the measurements with each other and with the goals.

Medians, spreads, and ratios of medians beside the ratios that are the goal. Pure.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.measurement import Measurement


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity:
    """What is measured, in an operator's words, and in what: s, B or B/s."""

    title: str
    unit: str = "s"


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """A limit for a quantity's median, or its ratio to that of another: the most, or with `at_least` the least."""

    quantity: str
    limit: float
    against: str = ""
    at_least: bool = False

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}" + ("" if self.against else " s")


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The values of one quantity of one image, over all runs; `error` says why there is none, or not in every run."""

    image: str
    quantity: str
    values: tuple[float, ...]
    error: str = ""

    @property
    def median(self) -> float:
        """Of at least one value."""
        return statistics.median(self.values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Whether a goal is reached. `value` is a ratio, or seconds; None where one of the two was not measured."""

    image: str
    goal: Goal
    value: float | None

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None when that is not known."""
        if self.value is None:
            return None
        return self.value >= self.goal.limit if self.goal.at_least else self.value <= self.goal.limit


QUANTITIES: Mapping[str, Quantity] = {
    "stock": Quantity(title="stock disk-image-create"),
    "cold": Quantity(title="cold: empty caches"),
    "nothing": Quantity(title="nothing changed: inv build again"),
    "second": Quantity(title="a second variant with the same base and driver"),
    "warm": Quantity(title="warm: one element of the variant layer changed"),
    "driver": Quantity(title="driver layer changed, modules compiled again"),
    "mkosi": Quantity(title="mkosi, empty cache"),
    "mkosi-again": Quantity(title="mkosi, its incremental cache filled"),
    "conversion": Quantity(title="our conversion of the disk"),
    "conversion-qemu": Quantity(title="qemu-img convert -c of the same disk"),
    "size": Quantity(title="size of our image", unit="B"),
    "size-qemu": Quantity(title="size of qemu-img's", unit="B"),
    "scratch": Quantity(title="scratch space of a cold build at its peak", unit="B"),
    "tree": Quantity(title="the guest's tree", unit="B"),
    "upload": Quantity(title="our upload", unit="B/s"),
    "upload-put": Quantity(title="a bare HTTP PUT", unit="B/s"),
    "list": Quantity(title="inv --list"),
    "plan": Quantity(title="inv plan, 20 variants"),
}

GOALS = (
    Goal(quantity="cold", against="stock", limit=0.6),
    Goal(quantity="cold", against="mkosi", limit=1),
    Goal(quantity="warm", against="stock", limit=0.15),
    Goal(quantity="warm", against="mkosi-again", limit=1),
    Goal(quantity="driver", against="stock", limit=0.5),
    Goal(quantity="second", against="stock", limit=0.12),
    Goal(quantity="nothing", limit=2),
    Goal(quantity="conversion", against="conversion-qemu", limit=0.2),
    Goal(quantity="size", against="size-qemu", limit=1),
    Goal(quantity="scratch", against="tree", limit=2.5),
    Goal(quantity="upload", against="upload-put", limit=0.9, at_least=True),
    Goal(quantity="list", limit=0.7),
    Goal(quantity="plan", limit=0.7),
)


def summaries(measurements: Iterable[Measurement]) -> tuple[Summary, ...]:
    """One for each image and quantity, in the order of QUANTITIES. Of a run that was made again the newest counts."""
    newest = {(each.image, each.quantity, each.run): each for each in measurements}
    grouped: dict[tuple[str, str], list[Measurement]] = {}
    for (image, quantity, _), each in sorted(newest.items()):
        grouped.setdefault((image, quantity), []).append(each)
    order = list(QUANTITIES)
    return tuple(
        _summary(image, quantity, grouped[image, quantity])
        for image, quantity in sorted(grouped, key=lambda key: (key[0], order.index(key[1])))
    )


def verdicts(summed: Sequence[Summary]) -> tuple[Verdict, ...]:
    """Each goal for each image whose quantity was measured."""
    known = {(each.image, each.quantity): each for each in summed if each.values}
    images = sorted({each.image for each in summed})
    return tuple(_verdict(image, goal, known) for image in images for goal in GOALS if (image, goal.quantity) in known)


def shown(value: float, unit: str) -> str:
    """A value for people."""
    if unit == "s":
        return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 2**20:.0f} MiB" + unit.removeprefix("B")


def _summary(image: str, quantity: str, measured: Sequence[Measurement]) -> Summary:
    values = tuple(each.value for each in measured if each.value is not None)
    error = next((each.error for each in measured if each.error), "")
    return Summary(image=image, quantity=quantity, values=values, error=error)


def _verdict(image: str, goal: Goal, known: Mapping[tuple[str, str], Summary]) -> Verdict:
    value: float | None = known[image, goal.quantity].median
    if goal.against:
        other = known.get((image, goal.against))
        value = known[image, goal.quantity].median / other.median if other else None
    return Verdict(image=image, goal=goal, value=value)
