"""A trace put together: what was recorded of it, what other recorded programs did for its requests, what came in."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Sequence

from unspool.cli.prices import Prices
from unspool.cli.runs import descendants
from unspool.errors import CorruptRecording
from unspool.events import TraceID
from unspool.recording.answered import answered_by
from unspool.recording.reader import RecordReader
from unspool.store import Store
from unspool.trace.answered import by_trace, part_of_process
from unspool.trace.from_recording import RecordedTrace, recorded_trace
from unspool.trace.joining import join_outside
from unspool.trace.own import hang_below_remote
from unspool.trace.rates import price_spans
from unspool.trace.spans import Span

__all__ = ["answers_for", "open_readers", "together"]

Lend = Callable[[str], contextlib.AbstractContextManager[RecordReader]]
_W3C = 16  # digits of a span id that requests carry


def open_readers(record_ids: Iterable[str], lend: Lend, stack: contextlib.ExitStack) -> list[RecordReader]:
    """Readers of the recordings that can be read, as long as `stack` is open."""
    readers = []
    for record_id in record_ids:
        with contextlib.suppress(CorruptRecording):
            readers.append(stack.enter_context(lend(record_id)))
    return readers


def answers_for(
    store: Store,
    trace_id: TraceID,
    own: Collection[str],
    *,
    prices: Prices,
    lend: Lend,
    stack: contextlib.ExitStack,
    asking: Sequence[Span] | None = None,
    answering: Iterable[str] | None = None,
) -> RecordedTrace:
    """What recordings of other traces did for requests of this one.

    Args:
        own: ids of the recordings that are part of the trace as a whole.
        lend: gives readers by record id; they are open as long as `stack` is.
        asking: spans whose requests are meant, where other runs are part of the same trace; all of it by default.
        answering: the recordings that answered its requests, if the caller knows.
    """
    if answering is None:
        answering = answered_by(store, trace_id) if trace_id else ()
    others: dict[str, None] = {}
    for record_id in answering:
        others |= dict.fromkeys([record_id, *(one.record_id for one in descendants(store, record_id))])
    readers = open_readers((one for one in others if one not in own), lend, stack)
    found = RecordedTrace()
    if readers:
        whole = recorded_trace(readers, prices=prices, now_ns=time.time_ns())
        found.spans = by_trace(whole.spans).get(trace_id, [])
        if asking is not None:
            found.spans = _asked_by(asking, found.spans)
        here = {span.span_id for span in found.spans}
        parts = [part_of_process(one, found.spans) for one in whole.processes]
        found.processes = [one for one in parts if one.calls or one.tools or one.agent.span_id in here]
        if any(not span.end_time_ns for span in found.spans):
            found.until_ns = whole.until_ns
    return found


def _asked_by(asking: Sequence[Span], answers: Sequence[Span]) -> list[Span]:
    below: dict[str, list[Span]] = {}
    for span in answers:
        below.setdefault(span.parent_span_id[-_W3C:], []).append(span)
    waiting, found = [span.span_id[-_W3C:] for span in asking], []
    while waiting:
        children = below.pop(waiting.pop(), [])
        found += children
        waiting += [child.span_id[-_W3C:] for child in children]
    return found


def together(recorded: RecordedTrace, answers: RecordedTrace, extra: list[Span], prices: Prices) -> list[Span]:
    """The spans of a trace, each hung where it belongs. `recorded` gets the processes of `answers` too.

    Args:
        extra: spans that came in from outside.
    """
    recorded.processes += answers.processes
    recorded.until_ns = max(recorded.until_ns, answers.until_ns)
    price_spans(extra, prices)
    spans = join_outside([*recorded.spans, *answers.spans], extra)
    if extra or answers.spans:
        hang_below_remote(spans)
    return spans
