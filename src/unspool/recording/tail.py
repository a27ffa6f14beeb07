"""Whole lines of files that grow: from a place on, and the last one without reading the rest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from unspool.events import RecordEvent
from unspool.recording.lines import decode_event

__all__ = ["last_event_of", "last_seq_of", "whole_lines"]

_CHUNK = 1 << 20
_WINDOW = 1 << 14


def last_event_of(path: Path) -> RecordEvent | None:
    """The last undamaged event of a file, as it is on disk; None if there is none."""
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
        lines = block.split(b"\n")
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


def whole_lines(fd: int, start: int) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of each whole line from `start`, a line's beginning; without the newlines."""
    offset = cursor = start
    begun: list[bytes] = []  # parts of a line longer than what was read so far
    while chunk := os.pread(fd, _CHUNK, cursor):
        cursor += len(chunk)
        first, *others = chunk.split(b"\n")
        begun.append(first)
        if not others:
            continue
        last = others.pop()
        for line in (b"".join(begun), *others):
            yield offset, line
            offset += len(line) + 1
        begun = [last]
