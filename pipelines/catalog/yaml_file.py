"""Reader of YAML files that keeps the line of every value, and its text as it is written.

By YAML 1.2's core rules, as editors apply them: `yes` is text, only `true` and `false` are booleans. Duplicate keys,
anchors and tags are refused. Values are plain dicts, lists and scalars; the line of a value, and its text (the float
24.1 no longer has the `24.10` of the file), are found by path.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pipelines.util.errors import CatalogError

Where = tuple[str | int, ...]  # the path of a value in the file: keys, and positions in lists
_TAG = "tag:yaml.org,2002:"
_DEEPEST = 12  # a catalog has six levels; without an end, a strange file would end the program instead
_PARSER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, where PyYAML was built with it


class _CoreLoader(_PARSER):  # type: ignore[misc]  # the base is chosen at run time
    """Resolves plain scalars by YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # PyYAML's protocol


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("int", r"[-+]?[0-9]{1,18}", [*"-+0123456789"]),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", [*"-+.0123456789"]),
):
    _CoreLoader.add_implicit_resolver(_TAG + _tag, re.compile(f"^(?:{_pattern})$"), _first)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A problem at one place; `what` also says what to write instead. Lines count from 1."""

    where: Where
    line: int | None
    what: str

    def __str__(self) -> str:
        line = f" (line {self.line})" if self.line else ""
        return f"{show(self.where)}{line}: {self.what}" if self.where else f"{self.what}{line}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A file's value, and the problems of its YAML; keys and values with problems are not in the value."""

    value: Any
    problems: tuple[Problem, ...] = ()
    _root: yaml.Node | None = field(default=None, repr=False)

    def line(self, where: Where) -> int | None:
        """The line of a value, or of the nearest enclosing one that is written in the file."""
        line = None
        for key_node, _ in self._steps(where):
            line = key_node.start_mark.line + 1
        return line

    def text(self, where: Where) -> str | None:
        """A scalar as it is written; None where there is none."""
        steps = list(self._steps(where))
        node = steps[-1][1] if len(steps) == len(where) and steps else None
        return str(node.value) if isinstance(node, yaml.ScalarNode) else None

    def _steps(self, where: Where) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        """The (key or item, value) nodes along a path, as far as it exists."""
        node = self._root
        for part in where:
            found = _child(node, part)
            if found is None:
                return
            yield found
            node = found[1]


def show(where: Where) -> str:
    """A path as an operator reads it: images.debian-cuda.packages[1]."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)
    return text.removeprefix(".")


def read(path: Path) -> Document:
    """Read a YAML file; CatalogError where there is none, and, with line and column, where it is not valid YAML."""
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=_CoreLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogError(f"cannot read {path}: {error}", remedy="Name the catalog with --catalog PATH.") from error
    except yaml.MarkedYAMLError as error:
        raise CatalogError(f"{path} is not valid YAML: {_syntax(error)}", remedy="Correct that line.") from error
    except yaml.YAMLError as error:
        raise CatalogError(f"{path} is not valid YAML: {error}", remedy="Remove that character.") from error
    except RecursionError as error:
        raise CatalogError(f"{path} is nested too deeply", remedy="Three or four levels are enough.") from error
    problems: list[Problem] = []
    value = None if root is None else _plain(root, (), problems, set())
    return Document(value=value, problems=tuple(problems), _root=root)


def _syntax(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return where + ", ".join(part for part in (error.context, error.problem) if part)


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def _plain(node: yaml.Node, where: Where, problems: list[Problem], seen: set[int]) -> Any:
    def refuse(what: str, at: yaml.Node = node, place: Where = where) -> None:
        problems.append(Problem(where=place, line=at.start_mark.line + 1, what=what))

    if id(node) in seen:
        refuse("anchors and aliases are not supported; inherit with `parent`, or write the value again")
        return None
    seen.add(id(node))
    if len(where) > _DEEPEST:
        refuse("this is nested too deeply; move it to where the key belongs")
        return None
    if not node.tag.startswith(_TAG):
        refuse(f"the tag {node.tag} is not supported; remove it")
        return None
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*where, index), problems, seen) for index, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(node)
    result: dict[str, Any] = {}
    for key, value in node.value:
        place = (*where, str(key.value))
        if not isinstance(key, yaml.ScalarNode):
            refuse("a key must be text, not a list or a mapping", key)
        elif key.value in result:
            refuse("this key appears twice; remove one of the two", key, place)
        else:
            result[key.value] = _plain(value, place, problems, seen)
    return result


def _scalar(node: yaml.Node) -> Any:
    match node.tag.removeprefix(_TAG):
        case "null":
            return None
        case "bool":
            return node.value.lower() == "true"
        case "int":
            return int(node.value)
        case "float":
            return float(node.value)
        case _:
            return str(node.value)
