"""Times as people give them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unspool.cli.moments import age_seconds, moment

NOW = datetime(2026, 7, 28, 14, 30, tzinfo=UTC)


def test_ages_count_back_from_now():
    assert moment("7d", now=NOW) == NOW - timedelta(days=7)
    assert moment(" 30m ", now=NOW) == NOW - timedelta(minutes=30)
    assert age_seconds("2w") == 14 * 86400


def test_days_begin_and_end_at_midnight_of_this_machine():
    today = NOW.astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    assert moment("today", now=NOW) == today
    assert moment("today", end=True, now=NOW).date() == today.date() + timedelta(days=1)
    assert moment("yesterday", now=NOW).date() == today.date() - timedelta(days=1)
    day = moment("2026-07-01")
    assert (day.isoformat()[:19], moment("2026-06-30", end=True)) == ("2026-07-01T00:00:00", day)


def test_a_time_with_a_zone_is_taken_as_it_is():
    assert moment("2026-07-28T14:30Z") == NOW
    assert moment("2026-07-28T14:30").replace(tzinfo=None) == datetime(2026, 7, 28, 14, 30)


@pytest.mark.parametrize("text", ["", "soon", "7x", "d7", "2026-02-30", "9999-12-31T99:00", "999999999w", "٧d"])
def test_what_is_no_time(text):
    assert moment(text, end=True) is None


@given(st.text(max_size=30), st.booleans())
def test_no_text_raises(text, end):
    found = moment(text, end=end)
    assert found is None or found.tzinfo is not None
