"""Spans of a program's own code: what it said of them, and the spans of other programs that they belong below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from unspool.events import RecordEvent
from unspool.recording.reader import RecordReader
from unspool.trace import names
from unspool.trace.spans import Span
from unspool.tracecontext import parse_traceparent

__all__ = ["SPAN", "hang_below_remote", "own_attributes", "stated_attributes"]

SPAN: Final = "Span"  # the syscall
_SPAN_DIGITS: Final = 16  # of an id of ours that W3C has room for


def hang_below_remote(spans: Sequence[Span]) -> None:
    """Hang what answers a request below the span that sent it, where that is among these, in place.

    Where it is elsewhere, the attribute `unspool.traceparent` tells of it.
    """
    asked = [(span, remote) for span in spans if (remote := parse_traceparent(span.attributes.get(names.REMOTE)))]
    if not asked:
        return
    known = {(span.trace_id, span.span_id[-_SPAN_DIGITS:]): span for span in spans}
    for span, remote in asked:
        above = known.get((remote.trace_id, remote.span_id))
        if above is not None and above is not span:
            span.parent_span_id = above.span_id


def stated_attributes(reader: RecordReader, event: RecordEvent) -> dict[str, Any]:
    """The attributes of an ended span, as it is on disk: what is long is fetched from the pool."""
    args = event.syscall.args if event.syscall is not None else {}
    given = args.get("attributes")
    if isinstance(given, dict) and any(isinstance(value, dict | list) for value in given.values()):
        whole = reader.whole(event).syscall
        args = whole.args if whole is not None else args
    return own_attributes(args.get("attributes"), args.get("traceparent"))


def own_attributes(given: Any, remote: Any) -> dict[str, Any]:
    """Attributes as the program gave them, without those that are ours to give.

    Args:
        remote: a W3C `traceparent`; anything else is ignored.
    """
    items = given.items() if isinstance(given, dict) else ()
    out = {key: value for key, value in items if not key.startswith(("unspool.", "gen_ai.usage."))}
    if parse_traceparent(remote) is not None:
        out[names.REMOTE] = remote
    return out
