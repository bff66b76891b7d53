"""Points in time: where they come from, and how they are written."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]  # tells the time, with its time zone


def utc(moment: datetime) -> str:
    """A moment as manifests and image properties have it: ISO 8601 in UTC, to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
