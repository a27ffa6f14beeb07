"""What `trace`, `blame` and `flame` look at: a recorded run, or a trace, given by REC or by a trace id."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from unspool.cli.joined import answers_for, together
from unspool.cli.prices import Prices
from unspool.cli.runs import descendants
from unspool.errors import AmbiguousRecordID, CorruptRecording, RecordingNotFound, UsageError
from unspool.events import RecordMetadata, TraceID
from unspool.recording.address import newest_first, resolve
from unspool.recording.answered import answered_traces
from unspool.recording.reader import RecordReader
from unspool.store import Store
from unspool.trace.carried import CarriedCost, carried_cost
from unspool.trace.from_recording import RecordedTrace, recorded_trace
from unspool.trace.report import TraceReport, report_on
from unspool.trace.spans import Span
from unspool.trace.storage import SpanReader
from unspool.trace.tree import SpanTree, build_span_tree

__all__ = ["Subject", "matching_traces", "subject_of"]

Lender: TypeAlias = Callable[[str], contextlib.AbstractContextManager[RecordReader]]
_TRACE_ID = re.compile(r"[0-9a-f]{4,32}")


@dataclass
class Subject:
    """One trace, and the recordings it is made of (none for one that came in as spans)."""

    name: str
    tree: SpanTree
    recorded: RecordedTrace
    carried: CarriedCost | None = None
    record_ids: dict[int, str] = field(default_factory=dict)  # by PID
    skipped: list[str] = field(default_factory=list)

    def report(self, top: int = 3) -> TraceReport:
        """What explains it."""
        return report_on(self.tree, carried=self.carried, top=top)

    def place_of(self, span: Span) -> str:
        """`REC@SEQ`, where a person looks at it; "" if it is in no recording."""
        record_id = self.record_ids.get(span.pid)
        seq = span.attributes.get("unspool.seq_num")
        return f"{record_id}@{seq}" if record_id and isinstance(seq, int) else record_id or ""

    def short_place_of(self, span: Span) -> str:
        """The same with the PID for the record id, where that is an address too."""
        place = self.place_of(span)
        record_id, at, seq = place.partition("@")
        return f"{span.pid}{at}{seq}" if record_id.startswith(f"{span.pid}-") else place


@contextlib.contextmanager
def subject_of(
    store: Store, text: str, prices: Prices, *, messages: bool = True, lend: Lender | None = None
) -> Iterator[Subject]:
    """Open what `text` names.

    Args:
        messages: read what was sent too, for the carried cost and the proven sequence.
        lend: gives readers of recordings by id, where some are open already.

    Raises:
        RecordingNotFound, AmbiguousRecordID, InvalidID: nothing, or more than one thing, has this name.
        CorruptRecording: none of its recordings can be read.
        UsageError: it names a point in a recording.
    """
    lend = lend or (lambda record_id: RecordReader(store.records / record_id, live=True))
    name, trace_id, records, extra = _records(store, text, lend)
    with contextlib.ExitStack() as stack:
        readers, skipped = [], []
        for metadata in records:
            try:
                reader = stack.enter_context(lend(metadata.record_id))
            except CorruptRecording as exc:
                if len(records) == 1:
                    raise
                skipped.append(str(exc))
                continue
            readers.append(reader)
        recorded = recorded_trace(readers, prices=prices, now_ns=time.time_ns())
        own = [one.record_id for one in records]
        asking = None if name == trace_id else recorded.spans
        answers = answers_for(store, trace_id, own, prices=prices, lend=lend, stack=stack, asking=asking)
        spans = together(recorded, answers, extra, prices)
        tree = build_span_tree(spans, until_ns=recorded.until_ns or time.time_ns())
        if tree is None:
            raise RecordingNotFound(text, store.records)
        carried = carried_cost(recorded, prices) if messages and recorded.processes else None
        ids = {one.agent.pid: one.reader.record_id for one in recorded.processes}
        yield Subject(name, tree, recorded, carried, ids, skipped)


def _records(store: Store, text: str, lend: Lender) -> tuple[str, TraceID, list[RecordMetadata], list[Span]]:
    """The name of what is meant, its trace ("" if it has none), its recordings (the first one first), and spans that
    are in none of them.
    """
    try:
        address = resolve(store, text)
    except RecordingNotFound:
        found = matching_traces(store, text)
        if not found:
            raise
        if len(found) > 1:
            raise AmbiguousRecordID(text, sorted(found)) from None
        trace_id = found[0]
        records = [one for one in newest_first(store) if one.trace_id == trace_id][::-1]
        return trace_id, trace_id, records, SpanReader(store.traces).read_trace(trace_id)
    if address.point is not None:
        raise UsageError(f"{text} is a point in a recording; give the recording alone: {address.record_id}")
    with lend(address.record_id) as reader:
        root = reader.metadata
    root.record_id = address.record_id  # a copied recording has its folder's name
    return root.record_id, root.trace_id or "", [root, *descendants(store, root.record_id)], []


def matching_traces(store: Store, text: str) -> list[str]:
    """Ids of the traces in the store that begin with `text`."""
    if not _TRACE_ID.fullmatch(text):
        return []
    recorded = {one.trace_id for one in newest_first(store) if one.trace_id and one.trace_id.startswith(text)}
    with contextlib.suppress(FileNotFoundError):
        recorded |= {entry.name for entry in store.traces.iterdir() if entry.name.startswith(text)}
    recorded |= {trace_id for trace_id in answered_traces(store) if trace_id.startswith(text)}
    return sorted(recorded)
