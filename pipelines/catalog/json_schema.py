"""JSON Schema of images.yaml, for editors, from the classes that the catalog is validated by.

These describe a whole image, but a written one is a part of it, since a parent may have the rest. So nothing is
required in an image, and any value may be null, which removes an inherited one.
"""

import ast
import inspect
import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import DataclassSchema

from pipelines.catalog.clouds import CatalogFile, Cloud
from pipelines.catalog.variant import Variant

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DROPPED = ("title", "required")


class _Documented(GenerateJsonSchema):
    """Describes each key by the docstring below its field.

    Pydantic's use_attribute_docstrings does the same for every command, which would read all sources again each time.
    """

    def dataclass_schema(self, schema: DataclassSchema) -> JsonSchemaValue:
        found = super().dataclass_schema(schema)
        for name, description in _docstrings(schema["cls"]).items():
            found["properties"][name]["description"] = description
        return found


def json_schema() -> dict[str, Any]:
    """images.yaml as JSON Schema, draft 2020-12; images.schema.json holds exactly this."""
    file, image, cloud = (
        TypeAdapter(model).json_schema(schema_generator=_Documented) for model in (CatalogFile, Variant, Cloud)
    )
    image, cloud = _section(image), _section(cloud)
    definitions = image.pop("$defs") | cloud.pop("$defs")
    del image["properties"]["name"]  # it is the key
    image["properties"] = _image_only() | image["properties"]
    keys: dict[str, Any] = {name: _without_title(value) for name, value in file["properties"].items()}
    (name_pattern,) = keys["images"]["patternProperties"]
    keys["images"] |= _only(name_pattern, {"$ref": "#/$defs/Image"}) | {"minProperties": 1}
    keys["clouds"]["additionalProperties"] = {"$ref": "#/$defs/Cloud"}
    return {
        "$schema": _DIALECT,
        "title": "images.yaml",
        "description": file["description"],
        "type": "object",
        "additionalProperties": False,
        "required": file["required"],
        "properties": keys,
        "$defs": {name: _section(value) for name, value in definitions.items()} | {"Image": image, "Cloud": cloud},
    }


def _docstrings(model: type) -> dict[str, str]:
    """What is written below each field of a class."""
    (definition,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(below.value.value)
        for field, below in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str)
    }


def _image_only() -> dict[str, Any]:
    """The two keys for inheritance, which a resolved image does not have."""
    return {
        "parent": {"description": "The image from which this one inherits.", "type": ["string", "null"]},
        "abstract": {"description": "Only for other images to inherit from; never built.", "type": ["boolean", "null"]},
    }


def _section(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A section of which any key may be left out, or removed by null."""
    section = {key: value for key, value in schema.items() if key not in _DROPPED}
    if "properties" in section:
        section["properties"] = {name: _nullable(value) for name, value in section["properties"].items()}
    return section


def _nullable(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A value that may be null; a mapping's values may be, too."""
    value = _without_title(schema)
    if isinstance(value.get("additionalProperties"), dict):
        value["additionalProperties"] = _nullable(value["additionalProperties"])
    for pattern, inner in value.get("patternProperties", {}).items():
        value |= _only(pattern, _nullable(inner))
    if {"type": "null"} in value.get("anyOf", []):
        return value
    outside: dict[str, Any] = {key: value.pop(key) for key in ("description", "default") if key in value}
    return outside | {"anyOf": [value, {"type": "null"}]}


def _only(pattern: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Of a mapping: only keys that match."""
    return {"patternProperties": {pattern: schema}, "additionalProperties": False}


def _without_title(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in _DROPPED}


def text() -> str:
    """images.schema.json, as it is in the repository."""
    return json.dumps(json_schema(), indent=2) + "\n"
