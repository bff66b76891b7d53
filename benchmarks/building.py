"""Program that builds one image without verifying it, for the cases of ours.py to measure.

It runs in a copy of the project: `python -m benchmarks.building CATALOG NAME BUILDS`. From start to end it does what
`inv build` does without `verify`.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from pipelines.build import builder
from pipelines.catalog import loader
from pipelines.cli import task


def main() -> None:
    """Build what the command line names."""
    images, name, builds = sys.argv[1:]
    (variant,) = loader.load(Path(images)).select(name)
    builder.build(variant, Path(builds), datetime.now(UTC))


if __name__ == "__main__":
    sys.exit(task.finish(main))
