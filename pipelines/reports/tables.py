"""Tables of results for people, or the same rows as JSON for programs."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

from pipelines.artifacts.manifest import Verification
from pipelines.catalog.loader import Catalog
from pipelines.catalog.variant import Variant
from pipelines.plan.model import Action
from pipelines.preflight import checks
from pipelines.util import console
from pipelines.workflows.status import ImageStatus, Survey

_MARKS = {True: "ok", False: "FAILED", None: "n/a"}
_COLUMNS = ("variant", "build_id", "state", "visibility", "name", "id", "whose")


def images(catalog: Catalog, builds: Path, *, as_json: bool) -> None:
    """`inv list`."""
    from pipelines.reports import describe  # noqa: PLC0415  # `plan` and others start sooner without

    newest = {variant.name: describe.newest_build(builds, variant.name) for variant in catalog.variants.values()}
    if as_json:
        keys = ("name", "description", "gpu")
        found = ({key: getattr(variant, key) for key in keys} for variant in catalog.variants.values())
        console.emit_json([row | {"newest_build": newest[row["name"]]} for row in found])
        return
    cells = [
        (variant.name, "yes" if variant.gpu else "no", newest[variant.name] or "-", variant.description)
        for variant in catalog.variants.values()
    ]
    console.table("Images", ("name", "gpu", "newest build", "description"), cells)


def image(variant: Variant, builds: Path, today: date, guest: tuple[int, int], *, as_json: bool) -> None:
    """`inv show`: what a variant resolves to, and what a `guest` with so many GPUs and GiB of RAM needs beside it."""
    from pipelines.reports import describe  # noqa: PLC0415  # as above

    about = describe.of(variant, builds, today) | describe.placed(variant, *guest)
    if as_json:
        console.emit_json(about)
    else:
        _show(describe.readable(about))


def actions(planned: Sequence[Action], *, as_json: bool) -> None:
    """`inv plan`."""
    if as_json:
        keys = ("verb", "variant", "cloud", "reason")
        console.emit_json([{key: getattr(action, key) for key in keys} for action in planned])
    elif planned:
        cells = [(action.verb, action.variant, action.cloud or "-", action.reason) for action in planned]
        console.table("Plan", ("verb", "image", "cloud", "reason"), cells)
    else:
        console.say("Nothing to do.")


def verifications(results: Sequence[Verification]) -> None:
    """`inv verify`."""
    for result in results:
        cells = [(_MARKS[check.passed], check.name, check.detail) for check in result.checks]
        console.table(f"{result.variant} {result.build_id}", ("result", "check", "detail"), cells)


def findings(variants: Sequence[Variant], builds: Path) -> None:
    """`inv doctor`; HostError when a build of one of the variants would fail."""
    from pipelines.preflight import preflight  # noqa: PLC0415  # as above

    found = preflight.examine(variants, builds)
    cells = [
        (_fitness(f), f.name, "all" if len(f.images) == len(variants) else ", ".join(f.images), f.detail, f.remedy)
        for f in found
    ]
    console.table("This host", ("result", "what", "for", "detail", "remedy"), cells)
    checks.require(found)


def _fitness(found: checks.Finding) -> str:
    return "FAILED" if found.breaks else {True: "ok", False: "no", None: "-"}[found.fit]


def _show(about: Mapping[str, object]) -> None:
    for name, value in about.items():
        if isinstance(value, Mapping):
            console.say(f"{name}:")
            for key, item in value.items():
                console.say(f"  {key}: {item}")
        else:
            console.say(f"{name}: {_text(value)}")


def _text(value: object) -> str:
    if isinstance(value, list):
        return " ".join(value) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if value not in {None, ""} else "-"


def status(found: Sequence[Survey], *, as_json: bool) -> None:
    """`inv status`. The table also has other images of the same name; JSON has what needs attention."""
    if as_json:
        console.emit_json([each for survey in found for each in survey.plain()])
        return
    for survey in found:
        if survey.failed is None or survey.images:
            cells = [_cells(image) for image in survey.images]
            console.table(f"Images in {survey.cloud}", (*_COLUMNS, "drift"), cells)
        if survey.absent:
            console.note(f"not in {survey.cloud}: {', '.join(survey.absent)}")


def _cells(image: ImageStatus) -> tuple[str, ...]:
    values = (str(getattr(image.row, column)) for column in _COLUMNS)
    return tuple(_plain(cell) or "-" for cell in (*values, "; ".join(map(str, image.drift))))


def _plain(text: str) -> str:
    """The text without control characters: names from a cloud must not control the terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
