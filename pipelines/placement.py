"""Which firmware and address width do a guest's GPUs ask for?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Glance properties that a guest with these GPUs needs, and one sentence each that says why."""

    properties: Mapping[str, str]
    reasons: tuple[str, ...]


def placement(gpus: Sequence[str], count: int, ram_gib: int) -> Placement:
    """For `count` GPUs of each model (of the largest, where a generation is named) in a guest with `ram_gib` of RAM."""
    raise NotImplementedError((gpus, count, ram_gib))
