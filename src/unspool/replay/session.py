"""A cursor over a recording."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Protocol, TypeAlias

from msgspec import Struct

from unspool.errors import ReplayBoundary
from unspool.events import Body, Context, RecordEvent, RecordEventType, RecordMetadata
from unspool.replay.search import mentions
from unspool.replay.snapshots import peek

__all__ = ["Reader", "ReplayListItem", "ReplaySession"]


class Reader(Protocol):
    """What replay asks of a recording; `unspool.recording.RecordReader` is one."""

    @property
    def metadata(self) -> RecordMetadata:
        """Who and what was recorded."""

    @property
    def event_count(self) -> int:
        """How many events there are."""

    def event(self, seq_num: int) -> RecordEvent:
        """The event with this number; raises SeqNotFound."""

    def events(self) -> Sequence[RecordEvent]:
        """All events in order, loaded when asked for."""

    def index_of(self, seq_num: int) -> int:
        """The position of an event, from 0; raises SeqNotFound."""

    def context_at(self, seq_num: int) -> Context:
        """What the model saw at or before an event; raises NoSnapshot."""

    def body(self, body: Body) -> bytes | None:
        """The bytes of a request or response; None if they are missing."""


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
        return self._goto_numbered("call", number, lambda event: event.call, _is_snapshot)

    def goto_step(self, number: int) -> RecordEvent:
        """Move to the `number`-th context snapshot that is not a retry, from 1.

        Raises:
            ReplayBoundary: the recording has no such step.
        """

        def begins_step(event: RecordEvent) -> bool:
            return _is_snapshot(event) and not (event.context is not None and event.context.retry)

        return self._goto_numbered(
            "step", number, lambda event: event.step if begins_step(event) else None, begins_step
        )

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

    # --- how ---------------------------------------------------------------------------------------------------------

    def _move_to(self, index: int) -> RecordEvent:
        event = self._events[index]
        self._cursor = index
        return event

    def _scan(self, positions: Iterable[int], wanted: Callable[[RecordEvent], bool]) -> int | None:
        events = self._events
        return next((index for index in positions if wanted(peek(events, index))), None)

    def _goto_numbered(
        self,
        noun: str,
        number: int,
        number_of: Callable[[RecordEvent], int | None],
        counts: Callable[[RecordEvent], bool],
    ) -> RecordEvent:
        """Move to the first event that `number_of` gives `number`.

        Recordings by others number nothing; there it is the `number`-th event that `counts`.
        """
        events = self._events
        numbered, seen = False, 0
        by_count: int | None = None
        for index in range(len(events)):
            event = peek(events, index)
            own = number_of(event)
            if own == number:
                return self._move_to(index)
            numbered = numbered or own is not None
            if counts(event):
                seen += 1
                if seen == number:
                    by_count = index
        if by_count is not None and not numbered:
            return self._move_to(by_count)
        raise ReplayBoundary(f"the recording has no {noun} {number}")


def is_error(event: RecordEvent) -> bool:
    """Whether the event records something that failed."""
    if event.syscall is not None:
        return bool(event.syscall.err) or event.syscall.error is not None
    return event.llm is not None and event.llm.error is not None


def _is_snapshot(event: RecordEvent) -> bool:
    return event.type == RecordEventType.CONTEXT_SNAPSHOT


def _counted(count: int) -> str:
    return "1 event" if count == 1 else f"{count} events"
