"""Charts of numbers, build after build: stacked bars as rectangles of an SVG of WIDTH × HEIGHT.

A template draws them and escapes their texts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 320, 96
_GAP = 3
_WIDEST = 24.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One bar: its label, and the values of its parts by their names, from the bottom up."""

    label: str
    parts: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A rectangle. `kind` is the index of its part in the picture's legend."""

    x: float
    y: float
    width: float
    height: float
    kind: int
    title: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """Bars, the oldest at the left, and the names of their parts; `newest` and `most` are the sums in words."""

    title: str
    bars: tuple[Bar, ...]
    legend: tuple[str, ...]
    newest: str
    most: str


def stacked(title: str, columns: Sequence[Column], unit: str) -> Picture | None:
    """A chart of all columns to one scale; None if all are empty."""
    most = max((sum(column.parts.values()) for column in columns), default=0.0)
    if most <= 0:
        return None
    legend = tuple(dict.fromkeys(part for column in columns for part in column.parts))
    step = min(WIDTH / len(columns), _WIDEST)
    scale = HEIGHT / most
    bars: list[Bar] = []
    for at, column in enumerate(columns):
        below = 0.0
        for name, value in column.parts.items():
            below += value
            bars.append(
                Bar(
                    x=round(at * step, 1),
                    y=round(HEIGHT - below * scale, 1),
                    width=round(max(step - _GAP, step / 2), 1),
                    height=round(value * scale, 1),
                    kind=legend.index(name),
                    title=f"{column.label} · {name}: {_number(value, unit)}",
                )
            )
    newest = _number(sum(columns[-1].parts.values()), unit)
    return Picture(title=title, bars=tuple(bars), legend=legend, newest=newest, most=_number(most, unit))


def _number(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}"
