"""How the recordings of one run belong together: who started whom, also where the metadata of one is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from unspool.events import SpanID, TraceID
from unspool.recording.reader import RecordReader

if TYPE_CHECKING:
    from unspool.trace.from_recording import RecordedProcess

__all__ = ["join_processes", "lost_trace_ids"]

_SHORT: Final = 8  # of a span id, behind what all of a recording begin with


def lost_trace_ids(readers: Sequence[RecordReader]) -> dict[str, TraceID]:
    """Trace ids by recording: what those that it started say, for one whose own metadata is lost."""
    found: dict[str, TraceID] = {}
    for metadata in (reader.metadata for reader in readers):
        for above in (metadata.parent, metadata.root):
            if above is not None and metadata.trace_id is not None and metadata.forked_at is None:
                found.setdefault(above, metadata.trace_id)
    return found


def join_processes(processes: Sequence[RecordedProcess], known: set[SpanID]) -> None:
    """Hang each process where it was started; a parent that is not here is none."""
    agents = {one.reader.record_id: one.agent for one in processes}
    for one in processes:
        if one.agent.parent_span_id in known:
            continue
        metadata = one.reader.metadata
        above = agents.get(metadata.parent or "") if metadata.forked_at is None else None
        if above is None or above is one.agent:
            one.agent.parent_span_id = ""
            continue
        # Where the parent's metadata is lost, its span ids begin otherwise now and end as they did.
        started_by = above.span_id[:-_SHORT] + one.agent.parent_span_id[-_SHORT:]
        one.agent.parent_span_id = started_by if started_by in known else above.span_id
