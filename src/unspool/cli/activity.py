"""What an agent process is doing right now: what it has begun and not ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import msgspec

from unspool.cli.listing import Tally, Totals
from unspool.cli.ls import state_text
from unspool.cli.prices import prices_for
from unspool.events import RecordEvent, RecordMetadata, RecordStatus
from unspool.recording.reader import RecordReader
from unspool.store import Store

__all__ = ["Activity", "ActivityWatch", "Doing", "activity_of"]

OPEN_NAME = "open.jsonl"


@dataclass(frozen=True)
class Doing:
    """Something begun and not ended. `since_s` is None where the start is not known."""

    what: str
    path: str | None
    since_s: float | None


@dataclass
class Activity:
    """An agent process as it is now; `doing` holds what was begun last first, and nothing once it has ended."""

    state: str
    totals: Totals
    doing: list[Doing]


class _Start(msgspec.Struct):
    """A line of `open.jsonl`."""

    span_id: str
    name: str = ""
    path: str | None = None
    start: int = 0


def activity_of(store: Store, metadata: RecordMetadata, age_s: float | None) -> Activity:
    """What one recording says, in one pass over its events.

    Args:
        age_s: seconds since it began.

    Raises:
        CorruptRecording: it cannot be read.
    """
    with ActivityWatch(store, metadata) as watch:
        return watch.look(age_s)


class ActivityWatch:
    """Says again and again what an agent process is doing, and reads each event once.

    Args:
        metadata: of its recording, which is kept open.

    Raises:
        CorruptRecording: it cannot be read.
    """

    def __init__(self, store: Store, metadata: RecordMetadata) -> None:
        self._store = store
        self.reader = RecordReader(store.records / metadata.record_id, live=True)
        self._sums = Tally(prices_for(store))
        self._one = self._sums.begin(self.reader.metadata)
        self._position = 0
        self._state = "created"
        self._calls: dict[int, tuple[int, str]] = {}
        self._ended: set[str] = set()  # spans, whose starts stay in the file of starts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self.reader.close()

    def look(self, age_s: float | None) -> Activity:
        """How it is now.

        Args:
            age_s: seconds since it began.
        """
        # Starts first: what ends between the two looks is then known to have ended.
        starts = _starts(self._store, self.reader.metadata)
        self.reader.refresh()
        for event in self.reader.bare_events(self._position):
            self._position += 1
            self.see(event)
        for span_id in self._ended & starts.keys():
            del starts[span_id]
        totals = self._sums.so_far(self._one)
        if self.reader.metadata.status is not RecordStatus.RECORDING:
            return Activity(state_text(self.reader.metadata), totals, [])
        begun: list[tuple[int, str, str | None]] = [(at, what, None) for at, what in self._calls.values()]
        begun += [(start.start, _what(start), start.path) for start in starts.values()]
        begun.sort(key=lambda item: item[0], reverse=True)
        doing = [Doing(what, path, None if age_s is None else max(age_s - at / 1e9, 0.0)) for at, what, path in begun]
        return Activity(self._state, totals, doing)

    @property
    def totals(self) -> Totals:
        """The sums over the events seen so far."""
        return self._sums.so_far(self._one)

    def see(self, event: RecordEvent) -> None:
        """Take one event into account."""
        self._sums.add(event, self._one)
        if event.state is not None:
            self._state = event.state.to_state
        elif event.syscall is not None and event.span_id is not None:
            self._ended.add(_short(event.span_id))
        elif event.context is not None and event.call is not None:
            self._calls[event.call] = (event.timestamp, f"llm {event.context.model or '?'}")
        elif event.llm is not None and event.call is not None:
            self._calls.pop(event.call, None)


def _starts(store: Store, metadata: RecordMetadata) -> dict[str, _Start]:
    try:
        data = (store.records / metadata.record_id / OPEN_NAME).read_bytes()
    except OSError:  # nothing was begun yet
        return {}
    starts: dict[str, _Start] = {}
    for line in data.splitlines():
        try:
            start = msgspec.json.decode(line, type=_Start)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # being written, or damaged: it is a view of the moment
        starts[_short(start.span_id)] = start
    return starts


def _short(span_id: str) -> str:
    return span_id[-8:]


def _what(start: _Start) -> str:
    """`tool search`, `proc git`, `net api.example.com:443`."""
    kind, _, name = (start.path or "").removeprefix("/dev/").partition("/")
    return f"{kind} {name}" if name else start.name or "?"
