"""One way to write a duration, used wherever a person reads one: strace, replay, trace."""

from __future__ import annotations

__all__ = ["format_duration"]


def format_duration(nanoseconds: int) -> str:
    """A duration as people read it: `850µs`, `12ms`, `1.50s`.

    Below one second the value is truncated to whole microseconds or milliseconds, so `1ms` never stands for less than a
    millisecond; from one second on it has two decimals.
    """
    if nanoseconds < 0:
        return "-" + format_duration(-nanoseconds)
    if nanoseconds < 1_000_000:
        return f"{nanoseconds // 1_000}µs"
    if nanoseconds < 1_000_000_000:
        return f"{nanoseconds // 1_000_000}ms"
    return f"{nanoseconds / 1e9:.2f}s"
