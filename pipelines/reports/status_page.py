"""Status of all clouds as an HTML page.

One file that needs nothing else: no network, no fonts, no other scripts. Other users of a cloud choose names and
properties there, so jinja2 escapes all of them, and a Content-Security-Policy lets only our own script run.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipelines.artifacts.manifest import Manifest
from pipelines.catalog.variant import Variant
from pipelines.reports import charts
from pipelines.reports.charts import Column, Picture
from pipelines.reports.timings import layer_seconds
from pipelines.util import console, files
from pipelines.util.errors import HostError
from pipelines.workflows import site as workflows_site
from pipelines.workflows.site import Site
from pipelines.workflows.status import Survey

_FOLDER = Path(__file__).with_name("templates")
SHOWN_BUILDS = 30
_OTHERS = "between them"


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """The recorded builds of a variant."""

    variant: str
    description: str
    builds: int
    pictures: tuple[Picture, ...]


def write(path: Path, site: Site, variants: Sequence[Variant], found: Sequence[Survey], now: datetime) -> None:
    """Write the page of these clouds and variants to a file; HostError if that fails."""
    histories = [_history(variant, workflows_site.manifests(site, variant)) for variant in variants]
    try:
        files.write(path, page(found, histories, now).encode(errors="replace"))
    except OSError as error:
        raise HostError(f"cannot write {path}: {error.strerror}", remedy="Name another file with --html.") from error
    console.note(f"{path}: the state of {', '.join(survey.cloud for survey in found)}")


def page(found: Sequence[Survey], histories: Sequence[History], now: datetime) -> str:
    """The page's text."""
    style, script = ((_FOLDER / name).read_text(encoding="utf-8") for name in ("style.css", "sort.js"))
    environment = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("page.html").render(
        clouds=found,
        histories=histories,
        generated_at=f"{now.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        width=charts.WIDTH,
        height=charts.HEIGHT,
        style=Markup(style),  # our own, from the folder of templates
        script=Markup(script),
        style_digest=_digest(style),
        script_digest=_digest(script),
    )


def _history(variant: Variant, made: Sequence[Manifest]) -> History:
    last = made[-SHOWN_BUILDS:]
    times = [Column(label=_day(each), parts=_layers(each)) for each in last]
    sizes = [Column(label=_day(each), parts={"image": each.artifact.size / 2**20}) for each in last]
    drawn = (charts.stacked("Build time", times, "s"), charts.stacked("Size", sizes, "MiB"))
    return History(
        variant=variant.name,
        description=variant.description,
        builds=len(made),
        pictures=tuple(each for each in drawn if each is not None),
    )


def _layers(made: Manifest) -> dict[str, float]:
    """The seconds of each layer, and those of the build outside of them."""
    layers = dict(layer_seconds(made))
    rest = made.seconds - sum(layers.values())
    return layers | {_OTHERS: rest} if rest > 0 else layers


def _day(made: Manifest) -> str:
    return f"{datetime.fromisoformat(made.created_at):%Y-%m-%d %H:%M}"


def _digest(text: str) -> str:
    """As a Content-Security-Policy names an inline script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
