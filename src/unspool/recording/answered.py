"""Which recordings answered requests of a trace that was begun elsewhere: `answered.jsonl` of each, a trace a line.

Only a finding aid, so that a trace is put together without a look into every event of the store: what belongs where
stands in the events (`traceparent` of a `Span`). It lies in the recording's own folder: it goes where that goes, and
with it. Most recordings answer nobody and have no such file, so a look-up costs a `stat` for each of these.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from unspool.events import TraceID
from unspool.store import Store, time_of_record_id

__all__ = ["ANSWERED_NAME", "answered_by", "answered_line", "answered_traces"]

ANSWERED_NAME: Final = "answered.jsonl"
_LINE: Final = re.compile(
    rb'\{"trace_id":"([0-9a-f]{32})"\}(?:\n|\Z)'
)  # behind whatever a full disk left of one before
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


def answered_line(trace_id: TraceID) -> bytes:
    """The line by which a recording says that it holds the answer to a request of this trace."""
    return b'{"trace_id":"%s"}\n' % trace_id.encode("utf-8", "replace")


def answered_by(store: Store, trace_id: TraceID) -> list[str]:
    """Ids of the recordings in the store that answered requests of a trace, the one that was started first first."""
    line = answered_line(trace_id).rstrip()
    return [record_id for record_id, data in _files(store) if line in data]


def answered_traces(store: Store) -> dict[TraceID, list[str]]:
    """All traces of which requests were answered, each with what `answered_by` says of it."""
    found: dict[TraceID, dict[str, None]] = {}
    for record_id, data in _files(store):
        for trace_id in _LINE.findall(data):
            found.setdefault(trace_id.decode(), {})[record_id] = None
    return {trace_id: list(records) for trace_id, records in found.items()}


def _files(store: Store) -> Iterator[tuple[str, bytes]]:
    """What each recording has noted, by its id, the one that was started first first."""
    base = os.fspath(store.records)
    try:
        names = os.listdir(base)
    except OSError:  # no store yet
        return
    # Whatever else has that name, a pipe or a folder, is none of ours and is not opened.
    answering = [name for name in names if name[0] != "." and os.path.isfile(f"{base}/{name}/{ANSWERED_NAME}")]
    for name in sorted(answering, key=lambda name: (time_of_record_id(name) or _LONG_AGO, name)):
        try:
            with open(f"{base}/{name}/{ANSWERED_NAME}", "rb") as file:
                data = file.read()
        except OSError:  # removed meanwhile
            continue
        yield name, data
