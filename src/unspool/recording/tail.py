"""The end of an event file without reading the rest of it."""

from __future__ import annotations

import os
from pathlib import Path

from unspool.events import RecordEvent
from unspool.recording.lines import decode_event

__all__ = ["last_event_of", "last_seq_of"]

_WINDOW = 1 << 14


def last_event_of(path: Path) -> RecordEvent | None:
    """The last whole, undamaged event of a file, as it is on disk; None if there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _last_event(fd, os.fstat(fd).st_size)
        finally:
            os.close(fd)
    except OSError:
        return None


def _last_event(fd: int, size: int) -> RecordEvent | None:
    window = _WINDOW
    while True:
        start = max(size - window, 0)
        block = os.pread(fd, size - start, start)
        lines = block[: block.rfind(b"\n") + 1].split(b"\n")
        # The first line of the block is cut unless the block is the whole file.
        for line in reversed(lines if start == 0 else lines[1:]):
            if line.strip():
                try:
                    return decode_event(line)
                except ValueError:
                    continue
        if start == 0:
            return None
        window *= 8


def last_seq_of(path: Path) -> int:
    """The number of the last event of a file, 0 if it has none."""
    event = last_event_of(path)
    return event.seq_num if event is not None else 0
