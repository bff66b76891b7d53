"""Sizes and durations, as they are written and read."""

from datetime import timedelta

import pytest

from pipelines.util import units

MIB, GIB = 2**20, 2**30


@pytest.mark.parametrize(("text", "count"), [("512MiB", 512 * MIB), ("20GiB", 20 * GIB), ("2TiB", 2048 * GIB)])
def test_a_size_is_read_in_bytes(text: str, count: int) -> None:
    assert units.parse_size(text) == count


@pytest.mark.parametrize("value", ["20", "20GB", "20 GiB", "0GiB", "-1GiB", "1.5GiB", "", 20, None, "20GiB\n"])
def test_anything_else_is_not_a_size(value: object) -> None:
    with pytest.raises(ValueError, match='for example "20GiB"'):
        units.parse_size(value)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1536, "1.5 KiB"),
        (8192, "8 KiB"),
        (644 * MIB, "644 MiB"),
        (GIB - 1, "1024 MiB"),
        (21 * GIB + 900 * MIB, "21.9 GiB"),
        (40 * GIB, "40 GiB"),
        (5000 * GIB, "4.9 TiB"),
        (5000 * 1024 * GIB, "5000 TiB"),
    ],
)
def test_a_size_is_shown_in_three_digits_or_so(count: int, text: str) -> None:
    assert units.size(count) == text


@pytest.mark.parametrize(("text", "hours"), [("36h", 36), ("7d", 168), ("2w", 336), ("99999w", 99999 * 168)])
def test_a_duration_is_read(text: str, hours: int) -> None:
    assert units.parse_duration(text) == timedelta(hours=hours)


@pytest.mark.parametrize("value", ["36", "7 d", "0d", "1m", "", 7, None, "100000h"])
def test_anything_else_is_not_a_duration(value: object) -> None:
    with pytest.raises(ValueError, match='for example "36h", "7d" or "2w"'):
        units.parse_duration(value)


@pytest.mark.parametrize("text", ["1h", "36h", "1d", "7d"])
def test_a_duration_is_written_as_it_was_read(text: str) -> None:
    assert units.duration(units.parse_duration(text)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (30, "30s"), (119, "119s"), (120, "2min"), (7199, "119min"), (7200, "2h"), (172800, "2d")],
)
def test_an_age_is_in_the_largest_unit_of_which_there_are_two(seconds: float, text: str) -> None:
    assert units.age(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.9, "0:00"), (67, "1:07"), (3599, "59:59"), (3905, "1:05:05")])
def test_a_clock_shows_full_seconds(seconds: float, text: str) -> None:
    assert units.clock(seconds) == text
