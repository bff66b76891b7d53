"""Sizes and durations, as text and as numbers."""

import re
from datetime import timedelta

_UNITS = {"MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_HOURS = {"h": 1, "d": 24, "w": 7 * 24}
_SIZE, _AGE = r"([1-9][0-9]*)(MiB|GiB|TiB)", r"([1-9][0-9]*)([hdw])"


def byte_count(value: object) -> int:
    """How many bytes a size is; ValueError that says how one is written."""
    match = re.fullmatch(_SIZE, value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('this is no size; write a number and MiB, GiB or TiB, for example "20GiB"')
    return int(match[1]) * _UNITS[match[2]]


def span(age: timedelta) -> str:
    """A duration as images.yaml writes it."""
    hours = int(age.total_seconds() // 3600)
    return f"{hours // 24}d" if hours % 24 == 0 else f"{hours}h"
