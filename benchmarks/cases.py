"""List of the cases, in the order in which they are measured.

Stock, ours and mkosi in turns, so that a slow phase of the machine affects all of them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from benchmarks import conversions, mkosi, ours, starting, stock, uploads
from benchmarks.site import Site, Taken
from pipelines.catalog.variant import Variant
from pipelines.util.errors import UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What `--only` names. `measure` yields its `quantity` of an image, and maybe more."""

    name: str
    quantity: str
    measure: Callable[[Site, Variant], Iterator[Taken]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Imageless:
    """The same for a case that is not about an image."""

    name: str
    quantity: str
    measure: Callable[[Site], Iterator[Taken]]


OF_AN_IMAGE = (
    Case(name="stock", quantity="stock", measure=stock.measure),
    Case(name="cold", quantity="cold", measure=ours.cold),
    Case(name="nothing", quantity="nothing", measure=ours.nothing),
    Case(name="second", quantity="second", measure=ours.second),
    Case(name="warm", quantity="warm", measure=ours.warm),
    Case(name="driver", quantity="driver", measure=ours.driver),
    Case(name="mkosi", quantity="mkosi", measure=mkosi.measure),
    Case(
        name="conversion",
        quantity="conversion",
        measure=conversions.compare,
    ),
    Case(name="upload", quantity="upload", measure=uploads.compare),
)
OF_NONE = (Imageless(name="start", quantity="list", measure=starting.measure),)
NAMES = tuple(case.name for case in (*OF_NONE, *OF_AN_IMAGE))


def chosen(only: str) -> frozenset[str]:
    """The cases that a comma list of names and globs means; UsageError for one that means none."""
    found: set[str] = set()
    for pattern in only.split(","):
        matching = {name for name in NAMES if fnmatchcase(name, pattern.strip())}
        if not matching:
            raise UsageError(f"there is no case {pattern.strip()}", remedy=f"Name some of {', '.join(NAMES)}.")
        found |= matching
    return frozenset(found)
