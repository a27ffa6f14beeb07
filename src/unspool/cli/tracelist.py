"""The traces of a store: those of recorded runs, and those that came in as spans."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection
from dataclasses import dataclass, field

from unspool.cli.joined import answers_for, open_readers, together
from unspool.cli.prices import Prices
from unspool.cli.runs import Run, runs
from unspool.events import TraceID
from unspool.recording.answered import answered_traces
from unspool.recording.reader import RecordReader
from unspool.store import Store
from unspool.trace.answered import by_trace
from unspool.trace.from_recording import recorded_trace
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
    answering: list[str] = field(default_factory=list)  # recordings of others that answered requests of it


def trace_rows(store: Store, prices: Prices, limit: int) -> tuple[list[TraceRow], bool]:
    """The newest traces, and whether there are more. Only those that are shown are read in full.

    Args:
        limit: how many; 0 for all.
    """
    spans = SpanReader(store.traces)
    found: dict[str, _Found] = {}
    for run in runs(store):
        # The metadata of the root may be lost: those it started name the trace too.
        trace_id = next((one.trace_id for one in run.records if one.trace_id), run.root.record_id)
        one = found.setdefault(trace_id, _Found(trace_id))
        one.runs.append(run)
        if run.root.start_time is not None:
            one.start = max(one.start, run.root.start_time.timestamp())
    for summary in spans.list_traces():
        one = found.setdefault(summary.trace_id, _Found(summary.trace_id))
        one.start = max(one.start, instant_ms(summary.start_time_ns) / 1000)
    ordered = sorted(found.values(), key=lambda one: (-one.start, one.trace_id))
    answered = answered_traces(store)
    rows: list[TraceRow] = []
    more = False
    for one in ordered:
        if limit and len(rows) >= limit:
            more = True
            break
        extra = spans.read_trace(one.trace_id) if (store.traces / one.trace_id).is_dir() else []
        one.answering = answered.get(one.trace_id, [])
        row = _row(store, one, extra, prices, found)
        if row is not None:
            rows.append(row)
    return rows, more


def _row(store: Store, found: _Found, extra: list[Span], prices: Prices, known: Collection[TraceID]) -> TraceRow | None:
    """One trace of the list; None for a program that did nothing but answer requests of other traces of it."""
    own = [one.record_id for run in found.runs for one in run.records]

    def lend(record_id: str) -> RecordReader:
        return RecordReader(store.records / record_id, live=True)

    with contextlib.ExitStack() as stack:
        recorded = recorded_trace(open_readers(own, lend, stack), prices=prices, now_ns=time.time_ns())
        parts = by_trace(recorded.spans, known)
        if len(parts) > 1:
            recorded.spans = parts.get(found.trace_id, [])
            if all(span.kind == "agent" for span in recorded.spans) and not extra:
                return None
        answers = answers_for(
            store, found.trace_id, own, prices=prices, lend=lend, stack=stack, answering=found.answering
        )
    spans = together(recorded, answers, extra, prices)
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
        unpriced=sum(
            span.cost_usd is None and (bool(span.tokens_used) or (span.kind == "llm" and span.tokens_used is None))
            for span in spans
        ),
    )
