"""Validation of merged documents by the catalog's classes, with pydantic's errors in an operator's words."""

import dataclasses
import json
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from pipelines.catalog.problems import Merged, Problems, at, did_you_mean
from pipelines.catalog.yaml_file import Where

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


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Model(Generic[T]):
    """A class that documents are validated by.

    `keys` are the keys that may be written at the top of a document. `placeholders` are valid values of sections that
    cannot be left out: they replace wrong ones, so that the rest can be validated.
    """

    adapter: TypeAdapter[T]
    cls: type[T]
    keys: tuple[str, ...]
    placeholders: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Validator:
    """Validates the documents of one file; `folder` is what relative paths in the file are relative to."""

    problems: Problems
    folder: Path

    def validated(self, model: Model[T], merged: Merged, *, partial: bool = False) -> T | None:
        """The document as an instance of the model, without what is wrong in it; None where it cannot be used at all.

        What is wrong is added to the problems. With `partial`, the document may lack what its children add.
        """
        document, known = merged.document, list[Where]()
        for _ in range(_ROUNDS):
            try:
                return model.adapter.validate_json(json.dumps(document), context={"folder": self.folder})
            except ValidationError as invalid:
                errors = invalid.errors()
            new = [error for error in errors if not any(_overlap(_location(error), loc) for loc in known)]
            for error in new:
                if not (partial and _a_child_may_fix(error, document)):
                    self._add(error, model, merged)
            wrong = [_location(error) for error in new]
            known += wrong
            document = _without(document, wrong, model.placeholders)
        return None

    def _add(self, error: ErrorDetails, model: Model[Any], merged: Merged) -> None:
        where = merged.origin(_location(error))
        self.problems.add(where, _message(error, self.problems.written(where), model))


def field_names(cls: type) -> tuple[str, ...]:
    """The keys of a section, from its class."""
    return tuple(field.name for field in dataclasses.fields(cls))


def _message(error: ErrorDetails, written: str | None, model: Model[Any]) -> str:
    """What is wrong, and what to write instead; `written` is the value in the file, where it is a scalar."""
    loc, context, value = _location(error), error.get("ctx", {}), written or "this"
    match error["type"]:
        case "unexpected_keyword_argument":
            what = f"unknown key; {did_you_mean(str(loc[-1]), _known_keys(model, loc[:-1]))}"
        case "missing":
            what = f"this key is missing; write `{loc[-1]}: …`"
        case "value_error":
            what = str(context["error"])
        case "literal_error":
            known = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            what = f"{value} is not a valid value; {did_you_mean(written or '', known)}"
        case "greater_than_equal":
            what = f"{value} is out of range; write {context['ge']} or more"
        case "less_than_equal":
            what = f"{value} is out of range; write {context['le']} or less"
        case "string_type" if written:
            what = f'{value} without quotes is not text; write "{value}" in quotes'
        case kind:
            what = f"{value} has the wrong type; {_INSTEAD.get(kind, error['msg'])}"
    return what


def _known_keys(model: Model[Any], loc: Where) -> Sequence[str]:
    """The keys that the section at `loc` may have."""
    if not loc:
        return model.keys
    section: Any = model.cls
    for part in loc:
        if dataclasses.is_dataclass(section):
            section = next((field.type for field in dataclasses.fields(section) if field.name == part), None)
        section = next((hint for hint in _flat(section) if dataclasses.is_dataclass(hint)), None)
    return field_names(section) if section is not None else ()


def _flat(hint: Any) -> list[Any]:
    """A type and all types that it is made of."""
    return [hint, *(inner for argument in typing.get_args(hint) for inner in _flat(argument))]


def _location(error: ErrorDetails) -> Where:
    """Where an error is; pydantic marks a key that is wrong, rather than its value, by one more part."""
    return tuple(part for part in error["loc"] if part != "[key]")


def _overlap(one: Where, other: Where) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _a_child_may_fix(error: ErrorDetails, document: Mapping[str, Any]) -> bool:
    of_a_section = error["type"] == "value_error" and isinstance(at(document, _location(error)), dict)
    return error["type"] == "missing" or of_a_section


def _without(document: Mapping[str, Any], wrong: Sequence[Where], placeholders: Mapping[str, Any]) -> dict[str, Any]:
    """A copy without the wrong values; the last of a list goes first, so that the others keep their positions."""
    copy: dict[str, Any] = json.loads(json.dumps(document))
    for loc in sorted(filter(None, wrong), key=lambda each: str(each[-1]).rjust(9), reverse=True):
        inside = at(copy, loc[:-1])
        if at(inside, loc[-1:]) is not None:
            del inside[loc[-1]]
    sections = {loc[0] for loc in wrong if loc}
    return copy | {key: value for key, value in placeholders.items() if key in sections}
