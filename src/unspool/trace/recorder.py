"""The agent spans of processes that are running, by PID.

One span for each PID: the agent process itself. Spans inside it (model calls, tools) are opened by whoever makes them,
with the parent at hand: a stack for each PID would end the wrong one as soon as two tasks interleave.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from unspool.events import PID, SpanID, TraceID
from unspool.trace.spans import SPAN_KINDS, Span, SpanStatus

__all__ = ["SpanRecorder"]

logger = logging.getLogger("unspool")


class SpanSink(Protocol):
    """Where a recorder puts spans; `SpanWriter` is one."""

    def write_start(self, span: Span) -> None:
        """Called when a span begins."""

    def write_span(self, span: Span) -> None:
        """Called once when a span has ended."""


class SpanRecorder:
    """Records one span for each PID. Safe under any number of threads; no I/O happens under its lock.

    An ended span is kept for `get_span` until another starts for its PID, and for `get_trace_spans` while any span of
    its trace is open.

    Args:
        clock: nanoseconds of the Unix epoch, read once a span; its end is the start plus the monotonic time between,
            so that setting the wall clock changes no duration.
        monotonic: nanoseconds of a clock that never goes back.
    """

    def __init__(
        self, *, clock: Callable[[], int] = time.time_ns, monotonic: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._clock, self._monotonic = clock, monotonic
        self._lock = threading.Lock()
        self._writer: SpanSink | None = None
        self._latest: dict[PID, _Entry] = {}
        self._traces: dict[TraceID, _Trace] = {}

    def set_writer(self, writer: SpanSink | None) -> None:
        """Write starts and ended spans from now on to `writer`; None writes nowhere."""
        with self._lock:
            self._writer = writer

    def start_span(  # noqa: PLR0917 - the seed's order
        self, pid: PID, trace_id: TraceID, span_id: SpanID, parent_span_id: SpanID, name: str, kind: str = "agent"
    ) -> None:
        """Begin the span of a PID; its start is written at once.

        A span of that PID that is still open is closed first: it ends now, keeps the status `open` (nobody said how it
        went) and is written.

        Raises:
            ValueError: the PID is negative or `kind` is no kind of span.
        """
        if kind not in SPAN_KINDS:
            raise ValueError(f"kind must be one of {', '.join(SPAN_KINDS)}, got {kind!r}")
        span = Span(
            trace_id=trace_id,
            span_id=span_id,
            parent_span_id=parent_span_id or "",
            pid=pid,
            name=name,
            start_time_ns=self._clock(),
            status=SpanStatus.OPEN,
            kind=kind,
        )
        entry = _Entry(span, self._monotonic())
        with self._lock:
            # Entered before the old span leaves: a trace with an open span keeps its ended ones.
            trace = self._traces.setdefault(trace_id, _Trace())
            trace.spans.append(span)
            trace.open_count += 1
            left = self._latest.get(pid)
            replaced = None if left is None or left.ended else self._end(left, SpanStatus.OPEN)
            self._latest[pid] = entry
            started, writer = span.copy(), self._writer
        if replaced is not None:
            logger.warning("PID %d started span %s while %s was open", pid, span_id, replaced.span_id)
            _write(writer, replaced)
        _write(writer, started, start=True)

    def end_span(self, pid: PID, status: SpanStatus) -> None:
        """End the span of a PID now and write it. Nothing happens if it has none or it has ended.

        Raises:
            ValueError: `status` is `open`.
        """
        status = SpanStatus(status)
        if status is SpanStatus.OPEN:
            raise ValueError("a span ends as ok, error or timeout, not as open")
        with self._lock:
            entry = self._latest.get(pid)
            if entry is None or entry.ended:
                return
            ended, writer = self._end(entry, status), self._writer
        _write(writer, ended)

    def record_syscall(self, pid: PID) -> None:
        """Count one syscall of the open span of a PID, if it has one."""
        with self._lock:
            entry = self._latest.get(pid)
            if entry is not None and not entry.ended:
                entry.span.syscall_count += 1

    def record_tokens(self, pid: PID, n: int) -> None:
        """Add `n` tokens to the open span of a PID, if it has one.

        Raises:
            ValueError: `n` is negative.
        """
        if n < 0:
            raise ValueError(f"n must not be negative, got {n}")
        with self._lock:
            entry = self._latest.get(pid)
            if entry is not None and not entry.ended:
                entry.span.tokens_used = (entry.span.tokens_used or 0) + n

    def get_span(self, pid: PID) -> Span | None:
        """A copy of the open or last ended span of a PID; None if it never had one."""
        with self._lock:
            entry = self._latest.get(pid)
            return None if entry is None else entry.span.copy()

    def get_trace_spans(self, trace_id: TraceID) -> list[Span]:
        """Copies of the spans of a trace in order of their start; [] once all of them have ended."""
        with self._lock:
            trace = self._traces.get(trace_id)
            return [] if trace is None else [span.copy() for span in trace.spans]

    def _end(self, entry: _Entry, status: SpanStatus) -> Span:
        """End a span under the lock, free its trace if that was the last open one, and give a copy to write."""
        span = entry.span
        entry.ended = True
        span.duration = max(self._monotonic() - entry.started, 0)
        span.end_time_ns = span.start_time_ns + span.duration
        span.status = status
        trace = self._traces[span.trace_id]
        trace.open_count -= 1
        if not trace.open_count:
            del self._traces[span.trace_id]
        return span.copy()


class _Entry:
    __slots__ = ("ended", "span", "started")

    def __init__(self, span: Span, started: int) -> None:
        self.span, self.started, self.ended = span, started, False


class _Trace:
    __slots__ = ("open_count", "spans")

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.open_count = 0


def _write(writer: SpanSink | None, span: Span, *, start: bool = False) -> None:
    if writer is None:
        return
    try:
        if start:
            writer.write_start(span)
        else:
            writer.write_span(span)
    except Exception as exc:  # noqa: BLE001 - a full disk must not stop the agent whose work this is
        logger.warning("span %s of trace %s was not written: %s", span.span_id, span.trace_id, exc)
