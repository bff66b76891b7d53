"""How soon does an operator see something?

`./inv --list`, and `./inv plan` for 20 variants none of which was built. The first call of each is not counted: it
reads what the next ones find in the kernel's cache.
"""

import statistics
from collections.abc import Iterator
from pathlib import Path

from benchmarks.site import Site, Taken, environment
from pipelines.recipe import Command

PROJECT = Path(__file__).resolve().parent.parent
VARIANTS = 20
CALLS = 5
_BASE = "base: {distribution: debian, release: trixie}, driver: {source: archive, modules: proprietary}"


def measure(site: Site) -> Iterator[Taken]:
    """Medians of a few calls."""
    folder = site.scratch / "starting"
    folder.mkdir(exist_ok=True)
    images = folder / "images.yaml"
    rows = [f"  v{number}: {{{_BASE}, disk: {{size: {number + 8}GiB}}}}" for number in range(VARIANTS)]
    images.write_text("\n".join(["version: 1", "images:", *rows]) + "\n", encoding="utf-8")
    yield Taken(quantity="list", value=_median(site, "--list"))
    planning = ("plan", "--catalog", str(images), "--builds", str(folder / "builds"))
    yield Taken(quantity="plan", value=_median(site, *planning))


def _median(site: Site, *arguments: str) -> float:
    command = Command(argv=(str(PROJECT / "inv"), *arguments), environment=environment())
    seconds = [site.run(command, f"inv {arguments[0]}") for _ in range(1 + CALLS)]
    return statistics.median(seconds[1:])
