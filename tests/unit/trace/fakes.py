"""Spans with instants counted from a fixed day, in milliseconds."""

from __future__ import annotations

from unspool.trace import Span, SpanStatus, SpanTree, build_span_tree

T0 = 1_750_000_000_000_000_000
MS = 1_000_000
OK, ERROR, TIMEOUT, OPEN = SpanStatus.OK, SpanStatus.ERROR, SpanStatus.TIMEOUT, SpanStatus.OPEN


def span(span_id: str, parent: str = "", start: float = 0, end: float | None = None, **fields) -> Span:
    """A span from `start` to `end` milliseconds after T0; without an end it is open."""
    fields.setdefault("trace_id", "t1")
    fields.setdefault("name", span_id)
    fields.setdefault("pid", 1)
    if end is None:
        fields.setdefault("status", OPEN)
    return Span(
        span_id=span_id,
        parent_span_id=parent,
        start_time_ns=T0 + int(start * MS),
        end_time_ns=0 if end is None else T0 + int(end * MS),
        **fields,
    )


def tree(*spans: Span, **options) -> SpanTree:
    built = build_span_tree(spans, **options)
    assert built is not None
    return built


def shape(built: SpanTree) -> list[str]:
    """The tree as indented names."""
    return ["  " * depth + node.name for node, depth in built.walk()]
