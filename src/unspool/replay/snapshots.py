"""Find the context snapshot in force at a point of a recording."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from unspool.errors import NoSnapshot
from unspool.events import RecordEvent, RecordEventType

__all__ = ["SnapshotFinder", "peek"]


def peek(events: Sequence[RecordEvent], index: int) -> RecordEvent:
    """The event at `index` for looking at its kind and numbers; its texts may be missing.

    A recording's sequence gives events as they are on disk much faster than whole ones, and a scan may cross many.
    """
    bare = getattr(events, "bare", None)
    event: RecordEvent = events[index] if bare is None else bare(index)
    return event


class SnapshotFinder:
    """Looks for context snapshots in events sorted by `seq_num`. Keeps the sequence as given, copies nothing."""

    def __init__(self, events: Sequence[RecordEvent]) -> None:
        self._events = events

    def has_snapshots(self) -> bool:
        """Whether there is any snapshot. Stops at the first one; without any it looks at all events."""
        return any(self._is_snapshot(index) for index in range(len(self._events)))

    def find_nearest_before(self, seq: int) -> RecordEvent:
        """The last snapshot numbered `seq` or less; no event needs to have that number.

        Binary search for the place, then a scan backwards over the events since the snapshot.

        Raises:
            NoSnapshot: there is none.
        """
        positions = range(len(self._events))
        end = bisect_right(positions, seq, key=lambda index: peek(self._events, index).seq_num)
        for index in range(end - 1, -1, -1):
            if self._is_snapshot(index):
                return self._events[index]
        raise NoSnapshot(f"no context snapshot found before SeqNum {seq}", seq_num=seq)

    def _is_snapshot(self, index: int) -> bool:
        return peek(self._events, index).type == RecordEventType.CONTEXT_SNAPSHOT
