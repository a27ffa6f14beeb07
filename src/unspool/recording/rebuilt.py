"""What can be said of a recording whose `metadata.json` is lost: what its name, its files and its events tell."""

from __future__ import annotations

import hashlib
import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from unspool.events import RecordEvent, RecordEventType, RecordMetadata, RecordStatus
from unspool.recording.eventlog import EVENTS_NAME, EventLog
from unspool.recording.shorthand import is_short
from unspool.store import FORMAT_VERSION, time_of_record_id

__all__ = ["rebuilt_metadata"]

_LOOKED_AT: Final = 16  # events, among which one with a span is looked for


def rebuilt_metadata(record_dir: Path, log: EventLog) -> RecordMetadata:
    """Metadata for a recording that has none which can be read.

    The status is `recording` unless the last event says that the process ended. Short span ids get something of this
    recording's own before them: what stood there is lost, and without it no two events could be tied together.
    """
    name = record_dir.name
    first = [event for _, event in itertools.islice(log.scan(), _LOOKED_AT)]
    last = _last(log)
    pid = first[0].pid if first else 0
    head = name.partition("-")[0]
    if not pid and head.isdecimal():
        pid = int(head[:20])
    base = (
        hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:24] if any(map(_has_short_span, first)) else None
    )
    return RecordMetadata(
        record_id=name,
        pid=pid,
        intent="",
        start_time=_start(record_dir, last),
        status=RecordStatus.COMPLETED if last is not None and _is_end(last) else RecordStatus.RECORDING,
        format_version=FORMAT_VERSION,
        span_base=base,
    )


def _last(log: EventLog) -> RecordEvent | None:
    """The last event, None without events. In a large file there are fewer than it seemed once damage is met."""
    known = len(log)
    while known:
        try:
            return log.at(known - 1)
        except IndexError:
            known = min(len(log), known - 1)
    return None


def _start(record_dir: Path, last: RecordEvent | None) -> datetime | None:
    """When it began: the last write less the time of the last event, unless the name says another second.

    A copy may have been written later than the recording; the name has the second and no more.
    """
    named = time_of_record_id(record_dir.name)
    try:
        changed = datetime.fromtimestamp((record_dir / EVENTS_NAME).stat().st_mtime, UTC)
        written = changed - timedelta(microseconds=(last.timestamp if last is not None else 0) // 1000)
    except (OSError, OverflowError):
        return named
    return written if named is None or named <= written < named + timedelta(seconds=1) else named


def _has_short_span(event: RecordEvent) -> bool:
    return event.span_id is not None and is_short(event.span_id)


def _is_end(event: RecordEvent) -> bool:
    return event.type is RecordEventType.STATE_CHANGE and event.state is not None and event.state.to_state == "dead"
