"""Durations, in nanoseconds: two ways to write one, and the instant at which one ends."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

__all__ = ["format_duration", "format_seconds", "later"]

_SECOND: Final = 1_000_000_000
_MINUTE: Final = 60 * _SECOND
_HALF_HUNDREDTH: Final = _SECOND // 200


def format_duration(nanoseconds: int) -> str:
    """A duration as people read it: `850µs`, `12ms`, `1.50s`, `16m 40s`, `49h 10m`.

    Below one minute it is what `format_seconds` says; from there on minutes and seconds, from one hour on hours and
    minutes, both truncated.
    """
    if nanoseconds < 0:
        return "-" + format_duration(-nanoseconds)
    if nanoseconds + _HALF_HUNDREDTH < _MINUTE:  # what rounds to 60.00s is a minute
        return format_seconds(nanoseconds)
    seconds = max(nanoseconds, _MINUTE) // _SECOND
    if seconds < 3600:
        return f"{seconds // 60}m {seconds % 60}s"
    return f"{seconds // 3600}h {seconds // 60 % 60}m"


def format_seconds(nanoseconds: int) -> str:
    """A duration in one unit: `850µs`, `12ms`, `1.50s`, `1000.00s`.

    Below one second the value is truncated to whole microseconds or milliseconds, so `1ms` never stands for less than a
    millisecond; from one second on it has two decimals.
    """
    if nanoseconds < 0:
        return "-" + format_seconds(-nanoseconds)
    if nanoseconds < 1_000_000:
        return f"{nanoseconds // 1_000}µs"
    if nanoseconds < _SECOND:
        return f"{nanoseconds // 1_000_000}ms"
    return f"{nanoseconds / 1e9:.2f}s"


def later(start: datetime | None, nanoseconds: int) -> datetime | None:
    """The instant so long after another, to the microsecond; None if that is unknown, or in no calendar."""
    try:
        return None if start is None else start + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:
        return None
