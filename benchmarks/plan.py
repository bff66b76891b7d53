"""Duration of planning for a large catalog and a full cloud.

500 variants and 10,000 images in a cloud, as ratios to reading the same catalog as plain YAML in the same run: machines
are noisy, ratios are not. Run it from the project's folder: `.venv/bin/python -m benchmarks.plan`.
"""

import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import yaml

from pipelines.build import recipe
from pipelines.catalog import loader
from pipelines.catalog.variant import Variant
from pipelines.plan import model, planner
from pipelines.release import image_metadata

VARIANTS, IMAGES = 500, 10_000
NOW = datetime(2026, 11, 22, tzinfo=UTC)
T = TypeVar("T")


def main() -> None:
    """Measure, and print a table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "images.yaml")
        path.write_text(text())
        baseline, _ = timed(lambda: yaml.safe_load(path.read_text()))
        loading, loaded = timed(lambda: loader.load(path))
    resolving, targets = timed(lambda: [target(variant) for variant in loaded.variants.values()])
    inventory = model.Inventory(images=tuple(image(number) for number in range(IMAGES)))
    planning, actions = timed(lambda: planner.plan(targets, inventory, NOW))
    print(f"{VARIANTS} variants, {IMAGES} images in the cloud, {len(actions)} actions")
    for name, seconds in (("yaml.safe_load", baseline), ("load", loading), ("resolve", resolving), ("plan", planning)):
        print(f"  {name:15} {seconds:6.2f} s  {seconds / baseline:5.2f} of yaml.safe_load")
    print(f"  {'all of ours':15} {loading + resolving + planning:6.2f} s")


def text() -> str:
    """A catalog in which no two variants are equal."""
    base = "base: {distribution: debian, release: trixie}, driver: {source: archive, modules: proprietary}"
    rows = [f"  v{number}: {{{base}, disk: {{size: {number + 4}GiB}}}}" for number in range(VARIANTS)]
    return "\n".join(["version: 1", "images:", *rows]) + "\n"


def target(variant: Variant) -> model.Target:
    """What `inv plan` asks for."""
    resolved = recipe.resolve(variant)
    return model.Target(
        variant=variant.name,
        fingerprint=resolved.fingerprint,
        parts=resolved.parts,
        clouds={"prod": image_metadata.release_digest(variant)},
        keep=variant.keep,
        rebuild_age=variant.rebuild_age,
    )


def image(number: int) -> model.CloudImage:
    """One of many images, most of them retired."""
    made = NOW - timedelta(hours=number)
    return model.CloudImage(
        cloud="prod",
        id=f"image-{number}",
        variant=f"v{number % VARIANTS}",
        build_id=f"{made:%Y%m%dT%H%M%SZ}-00000000",
        fingerprint="0" * 64,
        release_digest="0" * 64,
        state="current" if number < VARIANTS else "retired",
        created_at=made,
    )


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds of wall time, and what came of it."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


if __name__ == "__main__":
    main()
