"""Why must something be done, in an operator's words?"""

from collections.abc import Mapping, Sequence

from pipelines.plan.model import CloudImage

_MOST_NAMED = 3  # what a reason names before it only counts the others


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """What differs between two builds' inputs: "element nvidia-driver changed"."""
    if not before:
        return "images.yaml or an element changed"
    kinds = {
        "changed": [name for name in after if name in before and before[name] != after[name]],
        "added": [name for name in after if name not in before],
        "removed": [name for name in before if name not in after],
    }
    said = [f"{listed(names)} {kind}" for kind, names in kinds.items() if names]
    return ", ".join(said) or "an input changed that the last build did not record"


def listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def shown(images: Sequence[CloudImage]) -> str:
    return listed([image.build_id for image in images])
