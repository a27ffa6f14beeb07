"""Durations read the same everywhere."""

from __future__ import annotations

import pytest

from unspool.durations import format_duration


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
        (83_456_000_000, "83.46s"),
        (-1_500_000, "-1ms"),
    ],
)
def test_units_change_at_a_millisecond_and_a_second_and_nothing_is_rounded_up_below(nanoseconds, shown):
    assert format_duration(nanoseconds) == shown
