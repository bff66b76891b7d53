"""What do the tables beside our modules say?

Long data, ours and believed as it is.
"""

from pathlib import Path
from typing import Any

import yaml

# libyaml's, where PyYAML was built with it: ten times as quick.
_PARSER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read(path: Path) -> Any:
    """All that one table says."""
    return yaml.load(path.read_bytes(), Loader=_PARSER)
