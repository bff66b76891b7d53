"""How is the state of clouds shown?

As a table per cloud for people, or as JSON for programs, from the same surveys.
"""

from collections.abc import Sequence

from pipelines.util import console
from pipelines.workflows.status import Seen, Survey

_COLUMNS = ("variant", "build_id", "state", "visibility", "name", "id", "whose")


def show(found: Sequence[Survey], *, as_json: bool) -> None:
    """`inv status`. The table shows all others of the same name, too, and whose they are; JSON what is out of order."""
    if as_json:
        console.emit_json([each for survey in found for each in survey.plain()])
        return
    for survey in found:
        if survey.failed is None or survey.images:
            cells = [_cells(image) for image in survey.images]
            console.table(f"Images in {survey.cloud}", (*_COLUMNS, "drift"), cells)
        if survey.absent:
            console.note(f"not in {survey.cloud}: {', '.join(survey.absent)}")


def _cells(image: Seen) -> tuple[str, ...]:
    said = (str(getattr(image.row, column)) for column in _COLUMNS)
    return tuple(_plain(cell) or "-" for cell in (*said, "; ".join(map(str, image.drift))))


def _plain(text: str) -> str:
    """Without control characters: what others wrote in a cloud must not steer our terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
