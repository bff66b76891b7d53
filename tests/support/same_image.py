"""Are two images the same?

Compares them thing by thing, as image_contents.py reads them, and names every difference; what may differ, the caller
says in a table.
"""

import datetime
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from re import fullmatch

from tests.support.image_contents import Thing, Things, opened

_MOST_LINES = 6  # that are shown of a text
_LONGEST = 1000  # characters of a line


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A fact of a thing, its content or its presence, that two images do not share."""

    thing: str
    fact: str
    first: str
    second: str

    def __str__(self) -> str:
        return f"{self.thing}: {self.fact}\n    first:  {self.first}\n    second: {self.second}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowed:
    """A difference that may be: in which things and which fact of them (patterns of the whole name), and why.

    With `but_for`, a content may differ only in what that takes away: what it makes of both sides must be equal.
    """

    thing: str
    fact: str
    why: str
    but_for: Callable[[bytes], object] | None = None

    def covers(self, thing: str, fact: str) -> bool:
        """Whether this is about a fact of a thing."""
        return fullmatch(self.thing, thing) is not None and fullmatch(self.fact, fact) is not None


def of_images(first: Path, second: Path, *, since: datetime.datetime, allowed: Sequence[Allowed]) -> list[Difference]:
    """What differs between two images (qcow2 or raw, the root last and on ext4) and is not allowed. Needs root.

    Not compared: when a file was read or its owner changed, the time of last modification where that is after `since`
    in both, the order of a directory, the bytes of a compressed initramfs (but all that is in it).
    """
    with opened(first, since) as one, opened(second, since) as two:
        return compared(one, two, allowed)


def compared(first: Things, second: Things, allowed: Sequence[Allowed] = ()) -> list[Difference]:
    """What differs between two images' things and is not allowed."""
    found: list[Difference] = []
    for name in sorted(first.keys() | second.keys()):
        rules = [rule for rule in allowed if fullmatch(rule.thing, name)]
        if name in first and name in second:
            found += _in_facts(name, first[name], second[name])
            found += _in_content(name, first[name], second[name], [rule for rule in rules if rule.but_for])
        else:
            there = ("there", "missing") if name in first else ("missing", "there")
            found.append(Difference(thing=name, fact="presence", first=there[0], second=there[1]))
    plain = [rule for rule in allowed if rule.but_for is None]
    return [each for each in found if not any(rule.covers(each.thing, each.fact) for rule in plain)]


def _in_facts(name: str, first: Thing, second: Thing) -> Iterator[Difference]:
    for fact in sorted(first.facts.keys() | second.facts.keys()):
        one, two = first.facts.get(fact, "none"), second.facts.get(fact, "none")
        if one != two:
            yield Difference(thing=name, fact=fact, first=one, second=two)


def _in_content(name: str, first: Thing, second: Thing, rules: Sequence[Allowed]) -> Iterator[Difference]:
    if first.read is None or second.read is None:
        return  # a difference of type, which is told
    one, two = first.read(), second.read()
    same = one == two or any(rule.but_for(one) == rule.but_for(two) for rule in rules if rule.but_for)
    if not same:
        shown = _shown(one, two)
        yield Difference(thing=name, fact="content", first=shown[0], second=shown[1])


def _shown(first: bytes, second: bytes) -> tuple[str, str]:
    """Both sides of a content: the lines that only one has, or size and digest of what is no text."""
    try:
        texts = [Counter(content.decode().splitlines()) for content in (first, second)]
    except UnicodeDecodeError:
        one, two = (f"{len(each)} bytes, sha256 {hashlib.sha256(each).hexdigest()}" for each in (first, second))
        return one, two
    return _lines(list((texts[0] - texts[1]).elements())), _lines(list((texts[1] - texts[0]).elements()))


def _lines(lines: Sequence[str]) -> str:
    more = [f"… {len(lines) - _MOST_LINES} lines more"] if len(lines) > _MOST_LINES else []
    shown = [line[:_LONGEST] for line in lines[:_MOST_LINES]]
    return "\n            ".join([*shown, *more]) or "no line that the other has not"
