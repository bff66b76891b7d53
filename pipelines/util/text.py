"""Lists in messages."""

from collections.abc import Sequence

MOST_LISTED = 3


def listed(items: Sequence[str], most: int = MOST_LISTED, separator: str = ", ") -> str:
    """The first `most` items, and how many more there are: "a, b, c and 2 more", or "a; b; c; and 2 more"."""
    more = len(items) - most
    return separator.join(items[:most]) + (f"{separator.strip(', ')} and {more} more" if more > 0 else "")
