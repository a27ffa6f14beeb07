"""Times as people give them to filters: an age such as `7d`, `today`, a date, a date with a time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["WAYS", "age_seconds", "moment"]

WAYS: Final = "an age (30m, 12h, 7d, 4w), today, yesterday, a date (2026-07-28) or a date and time (2026-07-28T14:30)"

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")


def age_seconds(text: str) -> float | None:
    """`7d` and the like in seconds; None if it is no age."""
    match = re.fullmatch(r"(\d{1,9})([smhdw])", text, re.ASCII)
    return float(int(match[1]) * _UNITS[match[2]]) if match is not None else None


def moment(text: str, *, end: bool = False, now: datetime | None = None) -> datetime | None:
    """The time that a text names; None if it names none. Times without a zone are those of this machine's clock.

    Args:
        end: of a whole day, its end and not its beginning.
        now: the present, if it is to be another.
    """
    here = (now or datetime.now(UTC)).astimezone()
    text = text.strip()
    try:
        if (seconds := age_seconds(text)) is not None:
            return here - timedelta(seconds=seconds)
        if text in ("today", "yesterday"):
            day = here.date() - timedelta(days=text == "yesterday")
        elif _DATE.fullmatch(text):
            day = datetime.fromisoformat(text).date()
        else:
            found = datetime.fromisoformat(text)
            return found if found.tzinfo is not None else found.astimezone()
        day += timedelta(days=end)
        return datetime(day.year, day.month, day.day).astimezone()
    except (ValueError, OverflowError, OSError):
        return None
