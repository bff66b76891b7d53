"""What is wrong in images.yaml, in an operator's words?

pydantic finds what is wrong with a merged document; here each error gets the place where it is written (an inherited
value is its ancestor's), the line, and what to write instead.
"""

import dataclasses
import difflib
import json
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from pipelines.catalog.variant import Variant
from pipelines.catalog.yaml_file import Document, Problem, Where

Layer = tuple[Where, Mapping[str, Any]]  # a part of the file, by its path; of several, the nearest comes first
T = TypeVar("T")

_ROUNDS = 3  # an error can hide others: those of a whole section are found once its keys are right
_INSTEAD = {
    "string_type": "write text",
    "int_type": "write a whole number",
    "int_from_float": "write a whole number",
    "bool_type": "write true or false",
    "tuple_type": "write a list, like [one, two]",
    "dict_type": "write a mapping, like {key: value}",
    "mapping_type": "write a mapping, like {key: value}",
    "dataclass_type": "write a mapping, like {key: value}",
}


class Complaints:
    """Collects the problems of one file."""

    def __init__(self, document: Document, folder: Path) -> None:
        self._document = document
        self._context = {"folder": folder}  # what relative paths in the file are relative to
        self._found: dict[tuple[Where, str], Problem] = {(p.where, p.what): p for p in document.problems}

    def all(self) -> list[Problem]:
        """Every problem once, in the file's order."""
        return sorted(self._found.values(), key=lambda problem: problem.line or 0)

    def note(self, where: Where, what: str) -> None:
        """A problem at a path of the file."""
        self._found.setdefault((where, what), Problem(where=where, line=self._document.line(where), what=what))

    def note_merged(
        self,
        faults: Iterable[tuple[Where, str]],
        merged: Mapping[str, Any],
        layers: Sequence[Layer],
        *,
        once: bool = False,
    ) -> None:
        """Problems at paths of a merged document, each noted where the file says it.

        `once`: not where something else is wrong already.
        """
        for loc, what in faults:
            where = origin(loc, merged, layers)
            if not (once and any(place == where for place, _ in self._found)):
                self.note(where, what)

    def validated(
        self,
        model: type[T],
        adapter: TypeAdapter[T],
        merged: Mapping[str, Any],
        layers: Sequence[Layer],
        *,
        partial: bool = False,
        stand_ins: Mapping[str, Any] | None = None,
    ) -> T | None:
        """The merged document as a `model`; what is wrong is noted, left out, and the rest tried again.

        `partial`: the document may lack what a child adds. `stand_ins` takes the place of sections that are wrong and
        cannot be left out, so that the rest can be looked at. None where the document cannot be used at all.
        """
        seen: list[Where] = []
        for _ in range(_ROUNDS):
            try:
                return adapter.validate_json(json.dumps(merged), context=self._context)
            except ValidationError as error:
                new = [each for each in error.errors() if not any(_overlap(_location(each), loc) for loc in seen)]
            for each in new:
                if not (partial and _a_child_may_add(each, merged)):
                    where = origin(_location(each), merged, layers)
                    self.note(where, self._words(each, where, model))
            seen += [_location(each) for each in new]
            wrong = {_location(each)[:1] for each in new}
            merged = _without(merged, [_location(each) for each in new])
            merged |= {key: value for key, value in (stand_ins or {}).items() if (key,) in wrong}
        return None

    def _words(self, error: ErrorDetails, where: Where, model: type) -> str:
        loc, context = _location(error), error.get("ctx", {})
        written = self._document.text(where)
        match error["type"]:
            case "unexpected_keyword_argument":
                what = f"unknown key; {did_you_mean(str(loc[-1]), known_keys(model, loc[:-1]))}"
            case "missing":
                what = f"this key is missing; write `{loc[-1]}: …`"
            case "value_error":
                what = str(context["error"])
            case "literal_error":
                known = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
                what = f"{written or 'this'} is not possible here; {did_you_mean(written or '', known)}"
            case "greater_than_equal" | "less_than_equal":
                bound = f"{context['ge']} or more" if "ge" in context else f"{context['le']} or less"
                what = f"{written} is out of range; write {bound}"
            case "string_type" if written:
                what = f'{written} without quotes is no text; write "{written}" in quotes'
            case kind:
                what = f"{written or 'this'} has the wrong type; {_INSTEAD.get(kind, error['msg'])}"
        return what


def origin(loc: Where, merged: Mapping[str, Any], layers: Sequence[Layer]) -> Where:
    """The path in the file of what is at `loc` in the merged document: in the nearest layer that says it."""
    wanted = _at(merged, loc)
    for prefix, document in layers:
        place = _written(document, loc, wanted)
        if place is not None:
            return (*prefix, *place)
    return (*layers[0][0], *loc)


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """The close match for a mistyped word, or all that there is to choose from."""
    close = difflib.get_close_matches(word.lower(), known, n=1)
    return f"did you mean {close[0]}?" if close else f"write one of: {', '.join(known)}"


def known_keys(model: type, loc: Where) -> list[str]:
    """The keys that a section of images.yaml may have."""
    section: Any = model
    for part in loc:
        if dataclasses.is_dataclass(section):
            section = next((field.type for field in dataclasses.fields(section) if field.name == part), None)
        section = next((hint for hint in _flat(section) if dataclasses.is_dataclass(hint)), None)
    keys = [field.name for field in dataclasses.fields(section)] if dataclasses.is_dataclass(section) else []
    return [*(key for key in keys if key != "name"), "parent", "abstract"] if section is Variant else keys


def _flat(hint: Any) -> list[Any]:
    """A type and all that it is made of."""
    return [hint, *(inner for argument in typing.get_args(hint) for inner in _flat(argument))]


def _written(document: Mapping[str, Any], loc: Where, wanted: Any) -> Where | None:
    """`loc` in one layer, whose lists are shorter than the merged ones; None where the layer does not say it."""
    node: Any = document
    place: list[str | int] = []
    for part in loc:
        if isinstance(part, int) and isinstance(node, list) and wanted in node:
            return (*place, node.index(wanted))
        if not isinstance(node, dict) or part not in node:
            return None
        node = node[part]
        place.append(part)
    return tuple(place)


def _location(error: ErrorDetails) -> Where:
    """Where an error is; pydantic marks a key that is wrong, rather than its value, by one more part."""
    return tuple(part for part in error["loc"] if part != "[key]")


def _overlap(one: Where, other: Where) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _a_child_may_add(error: ErrorDetails, merged: Mapping[str, Any]) -> bool:
    whole_section = error["type"] == "value_error" and isinstance(_at(merged, _location(error)), dict)
    return error["type"] == "missing" or whole_section


def _at(node: Any, loc: Where) -> Any:
    for part in loc:
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            return None
    return node


def _without(document: Mapping[str, Any], places: Sequence[Where]) -> dict[str, Any]:
    """A copy without what is at these paths; the last of a list first, so that the others keep their positions."""
    copy: dict[str, Any] = json.loads(json.dumps(document))
    for place in sorted((each for each in places if each), key=lambda each: str(each[-1]).rjust(9), reverse=True):
        inside = _at(copy, place[:-1])
        if _at(inside, place[-1:]) is not None:
            del inside[place[-1]]
    return copy
