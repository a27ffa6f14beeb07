"""Spans, traces, and what explains a trace's duration, tokens, cost and failure.

Loaded on first use: whoever only records needs no analysis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    "BlameEntry": "blame",
    "BlameResult": "blame",
    "BlameSummary": "blame",
    "CriticalSegment": "critical",
    "ErrorChain": "errors_chain",
    "Span": "spans",
    "SpanEvent": "spans",
    "SpanNode": "tree",
    "SpanReader": "storage",
    "SpanRecorder": "recorder",
    "SpanStatus": "spans",
    "SpanTree": "tree",
    "SpanWriter": "storage",
    "TraceMetadata": "tree",
    "TraceSummary": "storage",
    "analyze_trace": "blame",
    "build_span_tree": "tree",
    "format_blame_result": "format",
    "format_trace_list": "format",
    "format_trace_tree": "format",
    "generate_span_id": "spans",
    "generate_trace_id": "spans",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'unspool.trace' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"unspool.trace.{home}"), name)
