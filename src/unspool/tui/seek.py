"""Finding the next event of some kind, in either direction."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from itertools import chain

from unspool.context.uses import find_uses
from unspool.errors import Cancelled, NoSnapshot
from unspool.events import CtxMessage, RecordEvent, RecordEventType
from unspool.recording.reader import RecordReader
from unspool.replay.search import mentions
from unspool.replay.session import is_error

__all__ = ["find_error", "find_next_use", "find_step", "find_text"]


def find_text(reader: RecordReader, stop: threading.Event, start: int, text: str, direction: int) -> int | None:
    """The position of the nearest event that mentions `text`, round the end; None if none does."""
    count = reader.event_count
    events = reader.events()
    positions: Iterable[int] = chain(range(start + 1, count), range(min(start + 1, count)))
    if direction < 0:
        positions = chain(range(min(start, count) - 1, -1, -1), range(count - 1, max(start - 1, -1), -1))
    return _first(positions, lambda position: mentions(events[position], text), stop)


def find_error(reader: RecordReader, stop: threading.Event, start: int, direction: int) -> int | None:
    """The position of the nearest event that failed; None if there is none on that side."""
    events = reader.events()
    return _first(_from(reader, start, direction), lambda position: is_error(events.bare(position)), stop)


def find_step(reader: RecordReader, stop: threading.Event, start: int, direction: int) -> int | None:
    """The position of the nearest context snapshot; None if there is none on that side."""
    events = reader.events()
    return _first(_from(reader, start, direction), lambda position: _is_snapshot(events.bare(position)), stop)


def find_next_use(reader: RecordReader, stop: threading.Event, start: int, index: int | None) -> int | None:
    """The position of the nearest later answer that refers to a message of the context at `start`.

    The outputs of the model are read in the last context of the same conversation that still holds the message.

    Args:
        index: place of the message in that context; None, the system prompt, is used by every answer.
    """
    events = reader.events()
    here = events.bare(start)
    origin = next((p for p in range(start, -1, -1) if _is_snapshot(events.bare(p))), None)
    if origin is None:
        raise NoSnapshot(f"no context snapshot found before SeqNum {here.seq_num}", seq_num=here.seq_num)
    lane = events.bare(origin).lane
    answers = [
        position
        for position in _from(reader, origin, 1)
        if not _called_off(stop) and _answers(events.bare(position)) and events.bare(position).lane in (lane, None)
    ]
    if index is None:
        return next((position for position in answers if position > start), None)
    context = reader.context_at(here.seq_num)
    messages = list(context.messages)
    if index >= len(messages):
        return None
    position_of: dict[int, int] = {}  # of outputs after the context: where in the list → event
    for position in answers:
        if _called_off(stop):
            break
        data = events[position].llm
        assert data is not None, "only answers were collected"
        position_of[len(messages)] = position
        messages.append(CtxMessage("assistant", data.text or "", tool_calls=data.tool_calls))
    uses = find_uses(context.system_prompt or "", messages)[index]
    return next((position_of[use.by] for use in uses if position_of.get(use.by, -1) > start), None)


def _from(reader: RecordReader, start: int, direction: int) -> range:
    return range(start + 1, reader.event_count) if direction > 0 else range(start - 1, -1, -1)


def _first(positions: Iterable[int], wanted: Callable[[int], bool], stop: threading.Event) -> int | None:
    return next((position for position in positions if not _called_off(stop) and wanted(position)), None)


def _called_off(stop: threading.Event) -> bool:
    if stop.is_set():
        raise Cancelled("the search was called off")
    return False


def _is_snapshot(event: RecordEvent) -> bool:
    return event.type is RecordEventType.CONTEXT_SNAPSHOT


def _answers(event: RecordEvent) -> bool:
    return event.llm is not None and event.llm.error is None
