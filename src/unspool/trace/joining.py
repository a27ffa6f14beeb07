"""Spans of a trace that were recorded, and spans of the same trace that came in from outside, as one list.

A recorded span has an id of 32 digits, of which the world knows the last 16 (W3C trace context). Outside spans name
their parent by those, and a run that was exported comes back under them.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from unspool.trace.spans import Span

__all__ = ["join_outside"]

_W3C = 16


def join_outside(recorded: Sequence[Span], outside: Sequence[Span]) -> list[Span]:
    """The recorded spans, then those from outside that are not among them, hung under the recorded ones they name."""
    if not recorded or not outside:
        return [*recorded, *outside]
    whole = {span.span_id[-_W3C:]: span.span_id for span in recorded}
    joined = list(recorded)
    for span in outside:
        if span.span_id[-_W3C:] in whole:
            continue
        parent = whole.get(span.parent_span_id[-_W3C:]) if span.parent_span_id else None
        joined.append(span if parent is None else replace(span, parent_span_id=parent))
    return joined
