"""The traces of a store: those of recorded runs, and those that came in as spans."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field

from unspool.cli.prices import Prices
from unspool.cli.runs import Run, runs
from unspool.errors import CorruptRecording
from unspool.recording.reader import RecordReader
from unspool.store import Store
from unspool.trace.from_recording import recorded_trace
from unspool.trace.joining import join_outside
from unspool.trace.own import hang_below_remote
from unspool.trace.rates import price_spans
from unspool.trace.spans import Span, instant_ms
from unspool.trace.storage import SpanReader
from unspool.trace.tree import SpanTree, build_span_tree

__all__ = ["TraceRow", "trace_rows"]


@dataclass
class TraceRow:
    """One trace of a list. The counts say what its sums leave out."""

    trace_id: str
    tree: SpanTree
    record_ids: list[str] = field(default_factory=list)
    is_running: bool = False
    model_calls: int = 0
    tokens_unknown: int = 0
    unpriced: int = 0


@dataclass
class _Found:
    trace_id: str
    runs: list[Run] = field(default_factory=list)
    start: float = 0.0  # seconds of the Unix epoch


def trace_rows(store: Store, prices: Prices, limit: int) -> tuple[list[TraceRow], bool]:
    """The newest traces, and whether there are more. Only those that are shown are read in full.

    Args:
        limit: how many; 0 for all.
    """
    spans = SpanReader(store.traces)
    found: dict[str, _Found] = {}
    for run in runs(store):
        trace_id = run.root.trace_id or run.root.record_id
        one = found.setdefault(trace_id, _Found(trace_id))
        one.runs.append(run)
        if run.root.start_time is not None:
            one.start = max(one.start, run.root.start_time.timestamp())
    for summary in spans.list_traces():
        one = found.setdefault(summary.trace_id, _Found(summary.trace_id))
        one.start = max(one.start, instant_ms(summary.start_time_ns) / 1000)
    ordered = sorted(found.values(), key=lambda one: (-one.start, one.trace_id))
    rows: list[TraceRow] = []
    more = False
    for one in ordered:
        if limit and len(rows) >= limit:
            more = True
            break
        row = _row(store, one, spans.read_trace(one.trace_id) if (store.traces / one.trace_id).is_dir() else [], prices)
        if row is not None:
            rows.append(row)
    return rows, more


def _row(store: Store, found: _Found, extra: list[Span], prices: Prices) -> TraceRow | None:
    with contextlib.ExitStack() as stack:
        readers = []
        for metadata in (one for run in found.runs for one in run.records):
            with contextlib.suppress(CorruptRecording):
                readers.append(stack.enter_context(RecordReader(store.records / metadata.record_id, live=True)))
        recorded = recorded_trace(readers, prices=prices, now_ns=time.time_ns())
    price_spans(extra, prices)
    spans = join_outside(recorded.spans, extra)
    if extra:
        hang_below_remote(spans)
    tree = build_span_tree(spans, until_ns=recorded.until_ns)
    if tree is None:
        return None
    return TraceRow(
        found.trace_id,
        tree,
        [one.reader.record_id for one in recorded.processes],
        is_running=any(run.is_running for run in found.runs),
        model_calls=sum(span.kind == "llm" for span in spans),
        tokens_unknown=sum(span.kind == "llm" and span.tokens_used is None for span in spans),
        unpriced=sum(bool(span.tokens_used) and span.cost_usd is None for span in spans),
    )
