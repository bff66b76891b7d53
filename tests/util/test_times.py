"""Moments, as they are written."""

from datetime import datetime, timedelta, timezone

from pipelines.util import times


def test_a_moment_is_written_in_utc_wherever_it_is_taken() -> None:
    moment = datetime(2026, 11, 22, 8, 0, 7, 900000, tzinfo=timezone(timedelta(hours=9)))
    assert times.utc(moment) == "2026-11-21T23:00:07Z"
