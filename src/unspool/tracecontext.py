"""W3C trace context: the `traceparent` by which one program tells another which span it works for."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["SAMPLED", "TraceParent", "format_traceparent", "parse_traceparent"]

SAMPLED: Final = "01"
_FORM: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII | re.DOTALL)
_SPAN_DIGITS: Final = 16


class TraceParent(NamedTuple):
    """A span of another program. `span_id` has the 16 digits of W3C, the last ones of an id of ours."""

    trace_id: str
    span_id: str
    flags: str = SAMPLED


def parse_traceparent(text: object) -> TraceParent | None:
    """What a `traceparent` says; None if it is none (the specification says to go on without it then)."""
    found = _FORM.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return TraceParent(trace_id, span_id, flags)


def format_traceparent(trace_id: str, span_id: str, flags: str = SAMPLED) -> str | None:
    """The `traceparent` of a span; None where its ids are not hexadecimal, or too short (written by other programs).

    Args:
        span_id: 16 digits or more, of which the last 16 count.
    """
    text = f"00-{trace_id}-{span_id[-_SPAN_DIGITS:]}-{flags}"
    return text if parse_traceparent(text) is not None else None
