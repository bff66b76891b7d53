"""Why must something be done, in an operator's words?"""

from collections.abc import Mapping, Sequence

from pipelines.plan.model import CloudImage
from pipelines.util import text


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """What differs between two builds' inputs: "element nvidia-driver changed"."""
    if not before:
        return "images.yaml or an element changed"
    kinds = {
        "changed": [name for name in after if name in before and before[name] != after[name]],
        "added": [name for name in after if name not in before],
        "removed": [name for name in before if name not in after],
    }
    said = [f"{text.listed(names)} {kind}" for kind, names in kinds.items() if names]
    return ", ".join(said) or "an input changed that the last build did not record"


def shown(images: Sequence[CloudImage]) -> str:
    return text.listed([image.build_id for image in images])
