"""Comparison of package versions, as dpkg and rpm do it.

Both forms are "epoch:upstream-revision", with the epoch left out where it is 0.
"""

import re
from collections.abc import Callable
from itertools import zip_longest

Compare = Callable[[str, str], int]
_PARTS = re.compile(r"[0-9]+|[A-Za-z]+|~|\^")


def debian(one: str, other: str) -> int:
    """Negative, 0 or positive as `one` is older than, the same as, or newer than `other` (deb-version(7)).

    ValueError when one of them is not a valid version.
    """
    from debian.debian_support import NativeVersion  # noqa: PLC0415  # slow to import, and few commands compare versions

    first, second = NativeVersion(one), NativeVersion(other)
    return (first > second) - (first < second)


def rpm(one: str, other: str) -> int:
    """The same for rpm: epoch, then version, then release (rpm-version(7), and rpm's rpmio/rpmvercmp.c).

    ValueError when an epoch is not a number.
    """
    first, second = _evr(one), _evr(other)
    epochs = int(first[0]) - int(second[0])
    return epochs or _segments(first[1], second[1]) or _segments(first[2], second[2])


def upstream(version: str) -> str:
    """The version without epoch and revision."""
    return version.split(":", 1)[-1].rsplit("-", 1)[0]


def _evr(version: str) -> tuple[str, str, str]:
    """Epoch, version and release."""
    epoch, _, rest = version.rpartition(":")
    number, _, release = rest.partition("-")
    return epoch or "0", number, release


def _segments(one: str, other: str) -> int:
    """Compare run by run of digits or letters; separators do not matter."""
    for pair in zip_longest(_PARTS.findall(one), _PARTS.findall(other)):
        if pair[0] != pair[1] and (order := _segment(*pair)):
            return order
    return 0


def _segment(one: str | None, other: str | None) -> int:
    """Compare two different runs; None is the end of a version."""
    if "~" in (one, other):  # older than the end
        return -1 if one == "~" else 1
    if "^" in (one, other):  # newer than the end, older than anything else
        return (1 if other is None else -1) if one == "^" else (-1 if one is None else 1)
    if one is None or other is None:
        return -1 if one is None else 1
    if one.isdigit() and other.isdigit():
        return (int(one) > int(other)) - (int(one) < int(other))
    if one.isdigit() != other.isdigit():
        return 1 if one.isdigit() else -1
    return 1 if one > other else -1
