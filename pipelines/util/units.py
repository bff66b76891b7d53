"""Sizes and durations, as text and as numbers."""

import re
from datetime import timedelta

SIZE_PATTERN, DURATION_PATTERN = r"([1-9][0-9]*)(MiB|GiB|TiB)", r"([1-9][0-9]*)([hdw])"
_BYTES = {"MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_HOURS = {"h": 1, "d": 24, "w": 7 * 24}
_SIZE_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_AGE_UNITS = (("d", 86400), ("h", 3600), ("min", 60))


def parse_size(value: object) -> int:
    """A size such as 20GiB, in bytes; ValueError that says how one is written."""
    match = re.fullmatch(SIZE_PATTERN, value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('this is not a valid size; write a number and MiB, GiB or TiB, for example "20GiB"')
    return int(match[1]) * _BYTES[match[2]]


def size(count: int) -> str:
    """A number of bytes in three digits or so: 644 MiB, 21.9 GiB, 40 GiB."""
    power = max(power for power in range(len(_SIZE_UNITS)) if power == 0 or count >= 1024**power)
    value = count / 1024**power
    return f"{value:.{1 if value < 100 else 0}f}".removesuffix(".0") + f" {_SIZE_UNITS[power]}"


def parse_duration(value: object) -> timedelta:
    """A duration such as 36h, 7d or 2w; ValueError that says how one is written."""
    match = re.fullmatch(DURATION_PATTERN, value) if isinstance(value, str) else None
    if match is None or len(match[1]) > 5:  # 99,999 weeks are a date that Python still has
        raise ValueError('this is not a valid duration; write hours, days or weeks, for example "36h", "7d" or "2w"')
    return timedelta(hours=int(match[1]) * _HOURS[match[2]])


def duration(length: timedelta) -> str:
    """A duration as images.yaml writes it, in full hours: 36h, 7d."""
    hours = int(length.total_seconds() // 3600)
    return f"{hours // 24}d" if hours % 24 == 0 else f"{hours}h"


def age(length: timedelta) -> str:
    """About how long ago, in the largest unit of which there are two: 12d, 47h, 5min, 30s."""
    seconds = max(0, int(length.total_seconds()))
    found = ((unit, seconds // unit_seconds) for unit, unit_seconds in _AGE_UNITS if seconds >= 2 * unit_seconds)
    unit, count = next(found, ("s", seconds))
    return f"{count}{unit}"


def clock(seconds: float) -> str:
    """How long something took, or has taken so far, in full seconds: 0:07, 12:40, 1:05:00."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
