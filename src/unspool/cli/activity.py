"""What an agent process is doing right now: what it has begun and not ended."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from unspool.cli.listing import Tally, Totals
from unspool.cli.prices import prices_for
from unspool.events import RecordMetadata, RecordStatus
from unspool.recording.reader import RecordReader
from unspool.store import Store

__all__ = ["Activity", "Doing", "activity_of"]

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
    # Starts first: what ends between the two looks is then known to have ended.
    starts = _starts(store, metadata)
    sums = Tally(prices_for(store))
    state = "created"
    calls: dict[int, tuple[int, str]] = {}
    with RecordReader(store.records / metadata.record_id, live=True) as reader:
        one = sums.begin(reader.metadata)
        for event in reader.bare_events():
            sums.add(event, one)
            if event.state is not None:
                state = event.state.to_state
            elif event.syscall is not None and event.span_id is not None:
                starts.pop(_short(event.span_id), None)
            elif event.context is not None and event.call is not None:
                calls[event.call] = (event.timestamp, f"llm {event.context.model or '?'}")
            elif event.llm is not None and event.call is not None:
                calls.pop(event.call, None)
        sums.end(one)
        is_running = reader.metadata.status is RecordStatus.RECORDING
    if not is_running:
        return Activity("dead" if state in ("created", "running", "waiting") else state, sums.result(), [])
    begun: list[tuple[int, str, str | None]] = [(at, what, None) for at, what in calls.values()]
    begun += [(start.start, _what(start), start.path) for start in starts.values()]
    begun.sort(key=lambda item: item[0], reverse=True)
    doing = [Doing(what, path, None if age_s is None else max(age_s - at / 1e9, 0.0)) for at, what, path in begun]
    return Activity(state, sums.result(), doing)


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
