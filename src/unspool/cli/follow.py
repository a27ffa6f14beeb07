"""Events of several recordings in one stream, in the order they were written, while new ones come."""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TypeAlias

from unspool.errors import CorruptRecording
from unspool.events import RecordEvent, RecordMetadata, RecordStatus
from unspool.recording.manager import RecordManager
from unspool.recording.reader import RecordReader
from unspool.store import Store

__all__ = ["Follower", "Joins", "pid_in"]

_POLL_S = 0.01
_LOOK_S = 0.2  # a folder's time is too coarse to tell that nothing was made since the last look
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Joins: TypeAlias = Callable[[RecordMetadata, set[str]], bool]
"""Whether a recording that appeared belongs to those that have been followed so far, which are given by id."""


class Follower:
    """Follows recordings, and those that join them.

    Args:
        joins: asked of each recording that appears; None: none joins.
        on_attach: called with the reader of each recording when it is followed from now on.
        on_detach: called when the last event of an ended recording has been given.
        first_pid: recordings of lower PIDs are not asked about.
    """

    def __init__(
        self,
        store: Store,
        *,
        joins: Joins | None = None,
        on_attach: Callable[[RecordReader], None] = lambda _reader: None,
        on_detach: Callable[[RecordReader], None] = lambda _reader: None,
        first_pid: int = 0,
    ) -> None:
        self._store = store
        self._joins = joins
        self._on_attach, self._on_detach = on_attach, on_detach
        self._first_pid = first_pid
        self._following: dict[str, _Followed] = {}
        self._followed: set[str] = set()
        self._strangers: set[str] = set()
        self._looked_at = float("-inf")
        self._folder_time = 0

    def attach(self, record_id: str, *, since_now: bool = False) -> None:
        """Follow one more recording, from its start or from now on.

        Raises:
            CorruptRecording: it cannot be read.
        """
        reader = RecordReader(self._store.records / record_id, live=True)
        self._followed.add(record_id)
        self._following[record_id] = _Followed(reader, start=reader.event_count if since_now else 0)
        self._on_attach(reader)

    def events(self, stop: threading.Event | None = None) -> Iterator[tuple[RecordReader, RecordEvent] | None]:
        """Events, as they are on disk, each with its reader; None whenever all there is has been given.

        Ends when every recording has ended; with `stop`, once that is set and what was written by then has been given.
        """
        while True:
            is_last = stop is not None and stop.is_set()
            self._look(at_once=is_last)
            for one in self._following.values():
                one.refresh()
            streams = [one.take() for one in self._following.values()]
            for _time, _pid, reader, event in heapq.merge(*streams, key=lambda item: item[:2]):
                yield reader, event
            yield None
            self._close_ended()
            if is_last or (stop is None and not self._following and not self._look(at_once=True)):
                return
            time.sleep(_POLL_S)

    def close(self) -> list[RecordReader]:
        """Stop following; the readers, closed, of the recordings that had not ended."""
        readers = [one.reader for one in self._following.values()]
        self._following.clear()
        for reader in readers:
            reader.close()
        return readers

    def _close_ended(self) -> None:
        for record_id, one in list(self._following.items()):
            if one.has_ended:
                del self._following[record_id]
                self._on_detach(one.reader)
                one.reader.close()

    # --- who joins ---------------------------------------------------------------------------------------------------

    def _look(self, *, at_once: bool) -> bool:
        """Attach recordings that appeared and belong here; whether there were any."""
        if self._joins is None or not (self._is_time() or at_once):
            return False
        attached = False
        for name in sorted(self._new_names(), key=pid_in):  # parents before their children
            metadata = RecordManager(self._store.records).describe(self._store.records / name)
            if metadata is None:
                continue  # being made; asked again
            if self._joins(metadata, self._followed):
                try:
                    self.attach(name)
                except CorruptRecording:  # removed between the two looks
                    self._strangers.add(name)
                else:
                    attached = True
            else:
                self._strangers.add(name)
        return attached

    def _is_time(self) -> bool:
        now, folder_time = time.monotonic(), 0
        try:
            folder_time = os.stat(self._store.records).st_mtime_ns
        except OSError:  # not made yet
            return False
        if folder_time == self._folder_time and now < self._looked_at + _LOOK_S:
            return False
        self._folder_time, self._looked_at = folder_time, now
        return True

    def _new_names(self) -> list[str]:
        try:
            names = os.listdir(self._store.records)
        except OSError:  # not made yet
            return []
        seen = self._followed | self._strangers
        return [name for name in names if name not in seen and pid_in(name) >= self._first_pid]


class _Followed:
    """One recording being followed."""

    def __init__(self, reader: RecordReader, *, start: int) -> None:
        self.reader = reader
        self.has_ended = False
        self._position = start
        self._pid = reader.metadata.pid
        started = reader.metadata.start_time
        self._start_ns = 0 if started is None else int((started - _EPOCH).total_seconds() * 1e9)
        self._latest_ns = 0

    def refresh(self) -> None:
        """Look for new events. Whether it has ended is asked first, so that its last events are not missed."""
        self.has_ended = self.reader.metadata.status is not RecordStatus.RECORDING
        self.reader.refresh()

    def take(self) -> Iterator[tuple[int, int, RecordReader, RecordEvent]]:
        """The new events, each with the time it was written (Unix epoch, ns) and its PID."""
        count = self.reader.event_count - self._position
        for event in self.reader.bare_events(self._position):
            if count <= 0:
                return  # written meanwhile; another recording may have older ones
            count -= 1
            self._position += 1
            written = event.timestamp + (event.syscall.duration if event.syscall is not None else 0)
            # Never back: within a recording the order is that of its numbers.
            self._latest_ns = max(self._latest_ns, self._start_ns + written)
            yield self._latest_ns, self._pid, self.reader, event


def pid_in(name: str) -> int:
    """The PID at the start of a record id, 0 without one."""
    head = name.partition("-")[0]
    return int(head) if head.isascii() and head.isdigit() else 0
