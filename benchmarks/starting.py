"""Time until an operator sees something.

`./inv --list`, and `./inv plan` for many variants none of which was built, as start.py calls them.
"""

import statistics
from collections.abc import Iterator

from benchmarks import start
from benchmarks.site import Site, Taken


def measure(site: Site) -> Iterator[Taken]:
    """Medians of several calls in turns."""
    folder = site.scratch / "starting"
    folder.mkdir(exist_ok=True)
    commands = start.cases(folder)
    wanted = {"list": commands["inv --list"], "plan": commands[f"inv plan, {start.VARIANTS}"]}
    for quantity, seconds in start.measured(wanted).items():
        yield Taken(quantity=quantity, value=statistics.median(seconds))
