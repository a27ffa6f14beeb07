"""What was done for requests of other traces: spans of a recorded server, in the traces of those who asked.

A server has one recording and works for many. The span of a request that came with a W3C `traceparent` belongs to the
trace of whoever sent it, and so does all that is below it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from unspool.events import SpanID, TraceID
from unspool.trace import names
from unspool.trace.from_recording import RecordedProcess
from unspool.trace.spans import Span
from unspool.tracecontext import TraceParent, parse_traceparent

__all__ = ["by_trace", "part_of_process"]


def by_trace(spans: Sequence[Span], into: Collection[TraceID] | None = None) -> dict[TraceID, list[Span]]:
    """Spans by the trace that they belong to, each in the order given; those that change their trace are copies.

    The span of a request gets the W3C id of the span that sent it for its parent: `hang_below_remote` finds that.

    Args:
        into: traces that spans may go to; any by default. What cannot go stays where it was recorded.
    """
    asked: dict[SpanID, TraceParent] = {}
    for span in spans:
        if names.REMOTE in span.attributes:
            remote = parse_traceparent(span.attributes[names.REMOTE])
            if remote is not None and remote.trace_id != span.trace_id and (into is None or remote.trace_id in into):
                asked[span.span_id] = remote
    moved: dict[SpanID, TraceID] = {}
    if asked:
        below: dict[SpanID, list[Span]] = {}
        for span in spans:
            if span.parent_span_id and span.span_id not in asked:
                below.setdefault(span.parent_span_id, []).append(span)
        for span_id, remote in asked.items():
            waiting = [span_id]
            while waiting:
                one = waiting.pop()
                moved[one] = remote.trace_id
                waiting += [child.span_id for child in below.get(one, ()) if child.span_id not in moved]
    found: dict[TraceID, list[Span]] = {}
    for span in spans:
        if (trace_id := moved.get(span.span_id)) is not None:
            above = asked[span.span_id].span_id if span.span_id in asked else span.parent_span_id
            span = replace(span, trace_id=trace_id, parent_span_id=above)  # noqa: PLW2901 - one or the other
        found.setdefault(span.trace_id, []).append(span)
    return found


def part_of_process(process: RecordedProcess, spans: Sequence[Span]) -> RecordedProcess:
    """What a process did within these spans, which may be copies of its own."""
    here = {span.span_id: span for span in spans}
    calls = {number: here[span.span_id] for number, span in process.calls.items() if span.span_id in here}
    return replace(
        process,
        calls=calls,
        tools=[(here[span.span_id], event) for span, event in process.tools if span.span_id in here],
        snapshots=[one for one in process.snapshots if one.call in calls],
    )
