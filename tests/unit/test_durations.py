"""Durations read the same everywhere."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from unspool.durations import format_duration, format_seconds, later


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [
        (0, "0µs"),
        (999, "0µs"),
        (1_000, "1µs"),
        (999_999, "999µs"),
        (1_000_000, "1ms"),
        (1_999_999, "1ms"),
        (999_999_999, "999ms"),
        (1_000_000_000, "1.00s"),
        (1_500_000_000, "1.50s"),
        (59_990_000_000, "59.99s"),
        (59_994_999_999, "59.99s"),
        (59_995_000_000, "1m 0s"),
        (60_000_000_000, "1m 0s"),
        (83_456_000_000, "1m 23s"),
        (1_000_000_000_000, "16m 40s"),
        (3_599_999_999_999, "59m 59s"),
        (3_600_000_000_000, "1h 0m"),
        (177_033_030_000_000, "49h 10m"),
        (-1_500_000, "-1ms"),
        (-83_456_000_000, "-1m 23s"),
    ],
)
def test_units_change_with_the_size_and_nothing_is_rounded_up_to_the_next_below_a_second(nanoseconds, shown):
    assert format_duration(nanoseconds) == shown


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [
        (999, "0µs"),
        (999_999_999, "999ms"),
        (75_250_000_000, "75.25s"),
        (1_000_000_000_000, "1000.00s"),
        (-5_000, "-5µs"),
    ],
)
def test_a_line_of_strace_counts_the_seconds_on(nanoseconds, shown):
    assert format_seconds(nanoseconds) == shown


def test_an_instant_no_calendar_has_is_unknown():
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert later(start, 1_500_000_000) == datetime(2026, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    assert later(None, 1) is None
    for nanoseconds in (10**21, -(10**21), 10**400):
        assert later(start, nanoseconds) is None
