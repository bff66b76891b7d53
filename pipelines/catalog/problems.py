"""Problems in images.yaml: each with its place in the file, its line, and what to write instead."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.catalog.yaml_file import Document, Problem, Where

Layer = tuple[Where, Mapping[str, Any]]  # a part of the file, with its path


@dataclass(frozen=True, kw_only=True, slots=True)
class Merged:
    """A document merged from several parts of the file; of these layers the nearest comes first."""

    document: Mapping[str, Any]
    layers: Sequence[Layer]

    def origin(self, loc: Where) -> Where:
        """The path in the file of the value at `loc`: in the nearest layer that has it, else in the nearest layer."""
        value = at(self.document, loc)
        for prefix, layer in self.layers:
            place = _place(layer, loc, value)
            if place is not None:
                return (*prefix, *place)
        return (*self.layers[0][0], *loc)


class Problems:
    """The problems of one file, each reported once."""

    def __init__(self, file: Document) -> None:
        self._file = file
        self._found = {(problem.where, problem.what): problem for problem in file.problems}

    def all(self) -> list[Problem]:
        """Every problem, in the file's order."""
        return sorted(self._found.values(), key=lambda problem: problem.line or 0)

    def add(self, where: Where, what: str) -> None:
        """A problem at a path of the file."""
        self._found.setdefault((where, what), Problem(where=where, line=self._file.line(where), what=what))

    def add_merged(self, found: Iterable[tuple[Where, str]], merged: Merged) -> None:
        """Problems at paths of a merged document, each added where the file has its value."""
        for loc, what in found:
            self.add(merged.origin(loc), what)

    def written(self, where: Where) -> str | None:
        """The scalar at a path of the file, as it is written there; None where there is none."""
        return self._file.text(where)


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """The close match for a mistyped word, or all words to choose from."""
    close = difflib.get_close_matches(word.lower(), known, n=1)
    return f"did you mean {close[0]}?" if close else f"write one of: {', '.join(known)}"


def at(node: Any, loc: Where) -> Any:
    """The value at a path of a document; None where there is none."""
    for part in loc:
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            return None
    return node


def _place(layer: Mapping[str, Any], loc: Where, value: Any) -> Where | None:
    """`loc` in one layer, whose lists are shorter than the merged ones; None where the layer does not have it."""
    node: Any = layer
    place: list[str | int] = []
    for part in loc:
        if isinstance(part, int) and isinstance(node, list) and value in node:
            return (*place, node.index(value))
        if not isinstance(node, dict) or part not in node:
            return None
        node = node[part]
        place.append(part)
    return tuple(place)
