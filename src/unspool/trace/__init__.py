"""Spans, traces, and what explains a trace's duration, tokens, cost and failure.

Loaded on first use: whoever only records needs no analysis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unspool.lazy import names_of

__all__ = [
    "BlameEntry",
    "BlameResult",
    "BlameSummary",
    "CriticalSegment",
    "ErrorChain",
    "Span",
    "SpanEvent",
    "SpanNode",
    "SpanReader",
    "SpanRecorder",
    "SpanStatus",
    "SpanTree",
    "SpanWriter",
    "TraceMetadata",
    "TraceSummary",
    "analyze_trace",
    "build_span_tree",
    "format_blame_result",
    "format_trace_list",
    "format_trace_tree",
    "generate_span_id",
    "generate_trace_id",
]

if TYPE_CHECKING:
    from unspool.trace.blame import BlameEntry, BlameResult, BlameSummary, analyze_trace
    from unspool.trace.critical import CriticalSegment
    from unspool.trace.errors_chain import ErrorChain
    from unspool.trace.format import format_blame_result, format_trace_list, format_trace_tree
    from unspool.trace.recorder import SpanRecorder
    from unspool.trace.spans import Span, SpanEvent, SpanStatus, generate_span_id, generate_trace_id
    from unspool.trace.storage import SpanReader, SpanWriter, TraceSummary
    from unspool.trace.tree import SpanNode, SpanTree, TraceMetadata, build_span_tree

_HOMES = {
    "BlameEntry": "unspool.trace.blame",
    "BlameResult": "unspool.trace.blame",
    "BlameSummary": "unspool.trace.blame",
    "CriticalSegment": "unspool.trace.critical",
    "ErrorChain": "unspool.trace.errors_chain",
    "Span": "unspool.trace.spans",
    "SpanEvent": "unspool.trace.spans",
    "SpanNode": "unspool.trace.tree",
    "SpanReader": "unspool.trace.storage",
    "SpanRecorder": "unspool.trace.recorder",
    "SpanStatus": "unspool.trace.spans",
    "SpanTree": "unspool.trace.tree",
    "SpanWriter": "unspool.trace.storage",
    "TraceMetadata": "unspool.trace.tree",
    "TraceSummary": "unspool.trace.storage",
    "analyze_trace": "unspool.trace.blame",
    "build_span_tree": "unspool.trace.tree",
    "format_blame_result": "unspool.trace.format",
    "format_trace_list": "unspool.trace.format",
    "format_trace_tree": "unspool.trace.format",
    "generate_span_id": "unspool.trace.spans",
    "generate_trace_id": "unspool.trace.spans",
}

__getattr__ = names_of(__name__, _HOMES)
