"""What does one of our builds take, without its verification?

The program that the cases of ours.py measure, from the copy of the project that it lies in:
`python -m benchmarks.building CATALOG NAME BUILDS`. From its start to its end, as `inv build` without `verify`.
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
