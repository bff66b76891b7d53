"""Time until `./inv` does something.

Medians of several calls in turns, also as ratios to `python -c pass` in the same run: machines are noisy, ratios are
not. The first call of each is not counted; it fills the kernel's cache, and compiles Python's modules. Run it from the
project's folder: `.venv/bin/python -m benchmarks.start`.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from pipelines.util import process

PROJECT = Path(__file__).resolve().parent.parent
VARIANTS, CALLS = 20, 11
BASELINE = "python -c pass"


def main() -> None:
    """Measure, and print a table."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = measured(cases(Path(folder)))
    print(f"{CALLS} calls of each, {VARIANTS} variants")
    for name, taken in seconds.items():
        median, spread = statistics.median(taken), max(taken) - min(taken)
        ratio = median / statistics.median(seconds[BASELINE])
        print(f"  {name:20} {median:6.3f} s ± {spread / 2:5.3f}  {ratio:5.1f} of {BASELINE}")


def cases(folder: Path) -> dict[str, tuple[str, ...]]:
    """Name → argv of what is measured, the baseline first. The catalog that one plans is written to `folder`."""
    images = folder / "images.yaml"
    images.write_text(text(), encoding="utf-8")
    inv = str(PROJECT / "inv")
    return {
        BASELINE: (sys.executable, "-c", "pass"),
        "inv --version": (inv, "--version"),
        "inv --list": (inv, "--list"),
        "inv list": (inv, "list"),
        "inv show": (inv, "show", "debian-cuda"),
        f"inv plan, {VARIANTS}": (inv, "plan", "--catalog", str(images), "--builds", str(folder / "builds")),
    }


def text() -> str:
    """A catalog in which no two variants are equal: each inherits, has GPUs and elements, and two have a toolkit."""
    above = (
        "  above: {abstract: true, kernel: {flavour: generic}, elements: [gpu-check], packages: [pciutils], "
        "rebuild_age: 7d, glance: {tags: [gpu], min_ram: 2048}}"
    )
    rows = [
        f"  v{number}: {{parent: above, base: {{distribution: debian, release: {('trixie', 'bookworm')[number % 2]}}}, "
        f"gpus: [t4, a100], driver: {{source: archive, modules: proprietary}}, disk: {{size: {number + 8}GiB}}"
        f"{', cuda: {toolkit: archive}' if number % 10 == 0 else ''}}}"
        for number in range(VARIANTS)
    ]
    return "\n".join(["version: 1", "images:", above, *rows]) + "\n"


def measured(commands: Mapping[str, tuple[str, ...]]) -> dict[str, list[float]]:
    """Seconds of each call, by name; ProgramError when one fails."""
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for call in range(1 + CALLS):
        for name, argv in commands.items():
            started = time.perf_counter()
            process.run(argv, deadline=120)
            if call:
                taken[name].append(time.perf_counter() - started)
    return taken


if __name__ == "__main__":
    main()
