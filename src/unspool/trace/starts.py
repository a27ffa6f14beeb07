"""What a recording says has begun: the lines of its `open.jsonl`."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from unspool.recording.reader import RecordReader

__all__ = ["Start", "recorded_starts"]

OPEN_NAME: Final = "open.jsonl"


class Start(msgspec.Struct):
    """Something that has begun and will end in an event; `start` is ns since the recording's, ids may be short."""

    span_id: str = ""
    parent_span_id: str | None = None
    name: str = ""
    path: str = ""
    start: int = 0
    call: int | None = None
    at: str | None = None
    attributes: Any = None
    traceparent: Any = None


_decoder = msgspec.json.Decoder(Start)


def recorded_starts(reader: RecordReader) -> list[Start]:
    """The starts a recording has written down; lines that are none are left out, as the last one may be torn."""
    try:
        data = (reader.record_dir / OPEN_NAME).read_bytes()
    except OSError:  # nothing has begun, or it may not be read: the ended calls are there all the same
        return []
    found = []
    for line in data.splitlines():
        try:
            found.append(_decoder.decode(line))
        except (ValueError, RecursionError):
            continue
    return found
