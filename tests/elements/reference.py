"""docs/reference/elements.md, made from the READMEs of the elements by `python -m tests.elements.reference`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ELEMENTS, PROJECT

FILE = PROJECT / "docs" / "reference" / "elements.md"
_INTRODUCTION = """\
# Elements

Reference of our diskimage-builder elements: what each one does, and the variables that it reads. Set them under
`environment` in images.yaml; where the catalog has a key of its own (`driver.branch`), use that. The full text is in
each element's README.rst, from which `python -m tests.elements.reference` makes this page.
"""
_VARIABLES = re.compile(r"^((?:``DIB_[A-Z_]+``(?:, )?)+)\n((?:  .*\n?)+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Variable:
    """One of an element's `DIB_*` variables, as its README explains it. `default` is empty for one that has none."""

    name: str
    meaning: str
    default: str


def variables(element: Path) -> Iterator[Variable]:
    """What the section "Environment" of an element's README explains."""
    _, _, section = (element / "README.rst").read_text().partition("\nEnvironment:\n")
    for names, lines in _VARIABLES.findall(section):
        text = " ".join(lines.split())
        meaning, found, default = text.partition("Default: ")
        for name in re.findall(r"DIB_[A-Z_]+", names):
            yield Variable(name=name, meaning=meaning.strip(), default=default.rstrip(".") if found else "")


def summary(element: Path) -> str:
    """The first paragraph of an element's README."""
    title, text = (element / "README.rst").read_text().split("\n\n", 1)
    assert title.splitlines()[1] == element.name
    return " ".join(text.split("\n\n", 1)[0].split()).removesuffix("::")


def page() -> str:
    """The whole reference, in Markdown."""
    return "\n".join([_INTRODUCTION, *(_section(path) for path in sorted(ELEMENTS.iterdir()))])


def _section(element: Path) -> str:
    found = list(variables(element))
    rows = [
        f"| `{each.name}` | {_cell(each.meaning.removesuffix(' No default.'))} | {_cell(each.default) or '–'} |"
        for each in found
    ]
    table = ["| variable | meaning | default |", "|---|---|---|", *rows, ""] if rows else []
    return "\n".join([f"## {element.name}", "", _markdown(summary(element)), "", *table])


def _cell(text: str) -> str:
    return _markdown(text).replace("|", "\\|")


def _markdown(text: str) -> str:
    return text.replace("``", "`")


if __name__ == "__main__":
    FILE.write_text(page())
