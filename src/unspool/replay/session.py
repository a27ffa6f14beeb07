"""A cursor over a recording."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from unspool.errors import NoSnapshot, ReplayBoundary
from unspool.events import ContextSnapshotData, RecordEvent, RecordEventType
from unspool.replay.diff import ContextDiff, compute_context_diff
from unspool.replay.fork import ForkContext
from unspool.replay.reader import Reader
from unspool.replay.restore import SnapshotRestorer
from unspool.replay.search import mentions
from unspool.replay.snapshots import SnapshotFinder, peek

__all__ = ["Reader", "ReplayListItem", "ReplaySession"]


class ReplayListItem(Struct):
    """An event in a list, and whether the cursor is on it."""

    event: RecordEvent
    is_cursor: bool = False


ListItems: TypeAlias = list[ReplayListItem]


class ReplaySession:
    """Moves a cursor over the events of a recording.

    The cursor is a position from 0; -1 means not started. A move that fails leaves it where it was. Events are read
    one at a time, so opening costs nothing and `goto` does not depend on the length. For one user at a time.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._cursor = -1

    @property
    def _events(self) -> Sequence[RecordEvent]:
        # Asked for each time: it is only a view, and a live recording grows.
        return self._reader.events()

    # --- where we are ------------------------------------------------------------------------------------------------

    def position(self) -> tuple[int, int]:
        """The cursor (from 0, -1 before the start) and the number of events."""
        return self._cursor, self._reader.event_count

    def current(self) -> RecordEvent:
        """The event under the cursor.

        Raises:
            ReplayBoundary: not started.
        """
        if self._cursor < 0:
            raise ReplayBoundary("no current event (not started). Start with: next")
        return self._events[self._cursor]

    def list(self, context: int) -> ListItems:
        """The events up to `context` places before and after the cursor; empty if not started."""
        if context < 0:
            raise ValueError(f"context must not be negative, got {context}")
        if self._cursor < 0:
            return []
        events = self._events
        first, last = max(self._cursor - context, 0), min(self._cursor + context, len(events) - 1)
        return [ReplayListItem(events[index], index == self._cursor) for index in range(first, last + 1)]

    # --- single steps ------------------------------------------------------------------------------------------------

    def next(self) -> RecordEvent:
        """Move to the next event.

        Raises:
            ReplayBoundary: the cursor is on the last event, or there are none.
        """
        events = self._events
        if self._cursor + 1 >= len(events):
            raise ReplayBoundary(f"already at end ({_counted(len(events))})")
        return self._move_to(self._cursor + 1)

    def prev(self) -> RecordEvent:
        """Move to the previous event.

        Raises:
            ReplayBoundary: the cursor is on the first event, or not started.
        """
        if self._cursor <= 0:
            raise ReplayBoundary("already at beginning")
        return self._move_to(self._cursor - 1)

    def goto(self, seq: int) -> RecordEvent:
        """Move to the event numbered `seq`.

        Raises:
            SeqNotFound: the recording has no such event.
        """
        return self._move_to(self._reader.index_of(seq))

    # --- steps of the agent ------------------------------------------------------------------------------------------

    def next_step(self) -> RecordEvent:
        """Move to the next context snapshot. Looks at each event on the way.

        Raises:
            ReplayBoundary: there is none after the cursor.
        """
        found = self._scan(range(self._cursor + 1, len(self._events)), _is_snapshot)
        if found is None:
            raise ReplayBoundary("already at end: no context snapshot after this point")
        return self._move_to(found)

    def prev_step(self) -> RecordEvent:
        """Move to the previous context snapshot. Looks at each event on the way.

        Raises:
            ReplayBoundary: there is none before the cursor.
        """
        found = self._scan(range(self._cursor - 1, -1, -1), _is_snapshot)
        if found is None:
            raise ReplayBoundary("already at beginning: no context snapshot before this point")
        return self._move_to(found)

    def goto_call(self, number: int) -> RecordEvent:
        """Move to the first event of the `number`-th model call, from 1: its context snapshot, where there is one.

        Raises:
            ReplayBoundary: the recording has no such call.
        """
        return self._move_to(self._index_of_call(number))

    def goto_step(self, number: int) -> RecordEvent:
        """Move to the `number`-th context snapshot that is not a retry, from 1.

        Raises:
            ReplayBoundary: the recording has no such step.
        """
        return self._move_to(self._index_of_step(number))

    def seq_of_call(self, number: int) -> int:
        """The seq_num that `goto_call` goes to; the cursor stays.

        Raises:
            ReplayBoundary: the recording has no such call.
        """
        return peek(self._events, self._index_of_call(number)).seq_num

    def seq_of_step(self, number: int) -> int:
        """The seq_num that `goto_step` goes to; the cursor stays.

        Raises:
            ReplayBoundary: the recording has no such step.
        """
        return peek(self._events, self._index_of_step(number)).seq_num

    # --- searches ----------------------------------------------------------------------------------------------------

    def find(self, text: str, start: int | None = None) -> RecordEvent:
        """Move to the next event that mentions `text`, in any case, going round to the beginning after the end.

        All that an event says is searched: names, arguments, results, errors, model answers. Of a context only what
        was added since the snapshot it extends, so that one message is found once and not in every later call.

        Args:
            start: the position to look at first; the one after the cursor if None.

        Raises:
            ReplayBoundary: no event mentions it.
        """
        if not text:
            raise ValueError("text to find must not be empty")
        events = self._events
        first = self._cursor + 1 if start is None else start
        if first < 0:
            raise ValueError(f"start must not be negative, got {first}")
        first = min(first, len(events))
        for index in chain(range(first, len(events)), range(first)):
            if mentions(events[index], text):
                return self._move_to(index)
        raise ReplayBoundary(f"no event mentions {text!r}")

    def next_error(self) -> RecordEvent:
        """Move to the next event that records a failed call or a failed model answer.

        Raises:
            ReplayBoundary: nothing failed after the cursor.
        """
        found = self._scan(range(self._cursor + 1, len(self._events)), is_error)
        if found is None:
            raise ReplayBoundary("no error after this point")
        return self._move_to(found)

    # --- contexts ----------------------------------------------------------------------------------------------------

    def diff(self, seq1: int, seq2: int) -> ContextDiff:
        """How the context in force at one event became that at another; the cursor stays.

        Each side is the last snapshot at or before the event; the result says which one that was. The order is kept:
        `seq1` may be the later one.

        Raises:
            SeqNotFound: the recording has no such event.
            NoSnapshot: no context was recorded at or before one of them.
        """
        return self.diff_with(self, seq1, seq2)

    def diff_with(self, other: ReplaySession, seq: int, other_seq: int) -> ContextDiff:
        """How the context in force at an event here differs from that at an event of another recording.

        Args:
            other: the session of the other recording; this one is "from", that one "to".

        Raises:
            SeqNotFound, NoSnapshot: as `diff`.
        """
        self._reader.index_of(seq)
        other._reader.index_of(other_seq)
        before, old = self._snapshot(seq)
        after, new = other._snapshot(other_seq)
        diff = compute_context_diff(
            old, new, before, after, from_tokens=self._request_tokens(before), to_tokens=other._request_tokens(after)
        )
        return replace(diff, requested_from=seq, requested_to=other_seq)

    def diff_from_cursor(self, seq: int) -> ContextDiff:
        """`diff` from the event under the cursor to another; the cursor stays.

        Raises:
            ReplayBoundary: not started.
            SeqNotFound, NoSnapshot: as `diff`.
        """
        return self.diff(self.current().seq_num, seq)

    def fork(self) -> ForkContext:
        """The context in force at the cursor, to be changed; the cursor stays.

        Raises:
            ReplayBoundary: not started.
            NoSnapshot: no context was recorded at or before it.
        """
        return self.fork_at(self.current().seq_num)

    def fork_at(self, seq: int) -> ForkContext:
        """The context in force at an event, to be changed; the cursor stays.

        Raises:
            SeqNotFound: the recording has no such event.
            NoSnapshot: no context was recorded at or before it.
        """
        return SnapshotRestorer(self._reader).restore_context(seq)

    def _snapshot(self, seq: int) -> tuple[RecordEvent, ContextSnapshotData]:
        finder = SnapshotFinder(self._events)
        try:
            event = finder.find_nearest_before(seq)
        except NoSnapshot as exc:
            if not finder.has_snapshots():
                raise NoSnapshot("no context snapshots available in this recording", seq_num=seq) from exc
            raise NoSnapshot(f"diff: {exc}", seq_num=seq) from exc
        if event.context is None:
            raise NoSnapshot(f"diff: the context snapshot #{event.seq_num:03d} is empty", seq_num=seq)
        return event, event.context

    def _request_tokens(self, snapshot: RecordEvent) -> int | None:
        """The provider's count of a snapshot, which its answer brought; None if unknown.

        The answer is the one of the same call; where calls have no numbers, the first before the next snapshot. Zero is
        how the reference writes that it does not know.
        """
        events = self._events
        for index in range(self._reader.index_of(snapshot.seq_num) + 1, len(events)):
            event = peek(events, index)
            if snapshot.call is None and _is_snapshot(event):
                return None
            if event.llm is not None and event.call == snapshot.call:
                return event.llm.request_tokens or None
        return None

    # --- how ---------------------------------------------------------------------------------------------------------

    def _move_to(self, index: int) -> RecordEvent:
        event = self._events[index]
        self._cursor = index
        return event

    def _scan(self, positions: Iterable[int], wanted: Callable[[RecordEvent], bool]) -> int | None:
        events = self._events
        return next((index for index in positions if wanted(peek(events, index))), None)

    def _index_of_call(self, number: int) -> int:
        return self._index_of_numbered("call", number, lambda event: event.call, _is_snapshot)

    def _index_of_step(self, number: int) -> int:
        return self._index_of_numbered(
            "step", number, lambda event: event.step if _begins_step(event) else None, _begins_step
        )

    def _index_of_numbered(
        self,
        noun: str,
        number: int,
        number_of: Callable[[RecordEvent], int | None],
        counts: Callable[[RecordEvent], bool],
    ) -> int:
        """The position of the first event that `number_of` gives `number`.

        Recordings by others number nothing; there it is the `number`-th event that `counts`.
        """
        events = self._events
        numbered, seen = False, 0
        by_count: int | None = None
        for index in range(len(events)):
            event = peek(events, index)
            own = number_of(event)
            if own == number:
                return index
            numbered = numbered or own is not None
            if counts(event):
                seen += 1
                if seen == number:
                    by_count = index
        if by_count is not None and not numbered:
            return by_count
        raise ReplayBoundary(f"the recording has no {noun} {number}")


def is_error(event: RecordEvent) -> bool:
    """Whether the event records something that failed."""
    if event.syscall is not None:
        return bool(event.syscall.err) or event.syscall.error is not None
    return event.llm is not None and event.llm.error is not None


def _is_snapshot(event: RecordEvent) -> bool:
    return event.type == RecordEventType.CONTEXT_SNAPSHOT


def _begins_step(event: RecordEvent) -> bool:
    return _is_snapshot(event) and not (event.context is not None and event.context.retry)


def _counted(count: int) -> str:
    return "1 event" if count == 1 else f"{count} events"
