"""What do the tables beside this file say?

gpus.yaml, keys.yaml, properties.yaml: long data, ours and believed as it is.
"""

from pathlib import Path
from typing import Any

import yaml

# libyaml's, where PyYAML was built with it: ten times as quick.
_PARSER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read(name: str) -> Any:
    """All that one table says: `name` is its file's, without the suffix."""
    return yaml.load(Path(__file__).with_name(f"{name}.yaml").read_bytes(), Loader=_PARSER)
