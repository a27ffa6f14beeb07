"""Open readers of recordings, lent to one thread at a time: opening one reads its whole list of events."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

from unspool.errors import UnspoolError
from unspool.events import RecordStatus
from unspool.recording.eventlog import EVENTS_NAME
from unspool.recording.metadata import METADATA_NAME
from unspool.recording.pool import POOL_NAME
from unspool.recording.reader import RecordReader
from unspool.store import Store

__all__ = ["ReaderPool", "Readers"]

_IDLE_MOST: Final = 12  # readers kept open for later; each holds two files
_FILES: Final = (EVENTS_NAME, METADATA_NAME, POOL_NAME)
_State: TypeAlias = tuple[tuple[int, int, int], ...]  # inode, size and time of change of each file


class _Idle(NamedTuple):
    reader: RecordReader
    state: _State


class ReaderPool:
    """Readers of the recordings of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._idle: OrderedDict[tuple[str, int], _Idle] = OrderedDict()
        self._number = 0
        self._mine = threading.local()  # what this thread has borrowed, by record id, and how many times

    @contextlib.contextmanager
    def lend(self, record_id: str) -> Iterator[RecordReader]:
        """A reader that sees what is in the files now. The same one again for a thread that has it already.

        Raises:
            CorruptRecording, UnsupportedFormat, StoreError: as `RecordReader`.
        """
        held: dict[str, RecordReader] = self._mine.__dict__.setdefault("held", {})
        if record_id in held:
            yield held[record_id]
            return
        # Looked at before reading: what is written meanwhile makes the next borrower look again.
        state = self._state(record_id)
        reader = held[record_id] = self._take(record_id, state) or RecordReader(
            self._store.records / record_id, live=True
        )
        try:
            yield reader
        finally:
            del held[record_id]
            self._put_back(record_id, reader, state)

    def _take(self, record_id: str, state: _State) -> RecordReader | None:
        with self._lock:
            key = next((one for one in reversed(self._idle) if one[0] == record_id), None)
            idle = self._idle.pop(key) if key is not None else None
        if idle is None:
            return None
        # The files of a run that was going on are the same when its writer was killed: only the reader notices that.
        if idle.state == state and idle.reader.metadata.status is not RecordStatus.RECORDING:
            return idle.reader
        if _has_only_grown(idle, state):
            try:
                idle.reader.refresh()
            except UnspoolError:
                idle.reader.close()
                return None
            return idle.reader
        idle.reader.close()
        return None

    def _put_back(self, record_id: str, reader: RecordReader, state: _State) -> None:
        with self._lock:
            self._number += 1
            self._idle[record_id, self._number] = _Idle(reader, state)
            over = [self._idle.popitem(last=False)[1] for _ in range(len(self._idle) - _IDLE_MOST)]
        for one in over:
            one.reader.close()

    def _state(self, record_id: str) -> _State:
        found = []
        for name in _FILES:
            try:
                entry = os.stat(self._store.records / record_id / name)
                found.append((entry.st_ino, entry.st_size, entry.st_mtime_ns))
            except OSError:
                found.append((0, 0, 0))
        return tuple(found)


def _has_only_grown(idle: _Idle, state: _State) -> bool:
    """Whether a reader can go on with the files as they are: of a run that was going on, and nothing was replaced."""
    if idle.reader.metadata.status is not RecordStatus.RECORDING:
        return False
    return all(
        before[0] in (0, now[0]) and before[1] <= now[1]
        for name, before, now in zip(_FILES, idle.state, state, strict=True)
        if name != METADATA_NAME  # replaced whole each time it is written
    )


class Readers:
    """Readers of a run's recordings for one page, borrowed when asked for and given back together."""

    def __init__(self, pool: ReaderPool) -> None:
        self._pool = pool
        self._stack = contextlib.ExitStack()
        self._open: dict[str, RecordReader | None] = {}

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def get(self, record_id: str) -> RecordReader | None:
        """The reader of one recording; None if it cannot be read."""
        if record_id not in self._open:
            try:
                reader: RecordReader | None = self._stack.enter_context(self._pool.lend(record_id))
            except UnspoolError:
                reader = None
            self._open[record_id] = reader
        return self._open[record_id]
