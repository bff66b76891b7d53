"""Variables that elements read, each in its README with its default; docs/reference/elements.md follows from those."""

from pathlib import Path

import pytest

from tests.elements import reference, rules
from tests.support.paths import ELEMENTS

README = "=======\nexample\n=======\n\nAn example of\nan element.\n\nMore.\n\nEnvironment:\n\n"


def test_the_page_is_what_the_readmes_say() -> None:
    assert reference.FILE.read_text() == reference.page(), "run: python -m tests.elements.reference"


def test_the_page_has_every_element_and_every_variable_that_one_reads() -> None:
    page = reference.page()
    for element in ELEMENTS.iterdir():
        assert f"\n## {element.name}\n" in page
        assert {each.name for each in reference.variables(element)} >= rules.read_by(element)


def test_an_element_is_its_first_paragraph_and_its_variables(tmp_path: Path) -> None:
    element = tmp_path / "example"
    element.mkdir()
    text = "``DIB_A``, ``DIB_B``\n  How\n  many | much. Default: ``1``.\n``DIB_C``\n  A path. No default.\n"
    (element / "README.rst").write_text(README + text)
    assert reference.summary(element) == "An example of an element."
    assert [(each.name, each.meaning, each.default) for each in reference.variables(element)] == [
        ("DIB_A", "How many | much.", "``1``"),
        ("DIB_B", "How many | much.", "``1``"),
        ("DIB_C", "A path. No default.", ""),
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("``DIB_A``\n  A number. Default: ``2``.\n", "DIB_A is '1' by default, README.rst has another default"),
        ("``DIB_A``\n  A number.\n", "README.rst has no default of DIB_A"),
        ("``DIB_A``\n  A number. Default: ``1``.\n", None),
    ],
)
def test_a_default_that_differs_from_the_readmes_is_found(tmp_path: Path, text: str, complaint: str | None) -> None:
    element = tmp_path / "example"
    (element / "environment.d").mkdir(parents=True)
    (element / "environment.d/10-example.bash").write_text('export DIB_A=${DIB_A:-"1"}\n')
    (element / "README.rst").write_text(README + text)
    found = [each.rpartition(": ")[2] for each in rules.defaults(element)]
    assert found == ([complaint] if complaint else [])
