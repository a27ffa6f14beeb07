"""The reader of one recording: lazy, tolerant of damage, and able to follow one that is still being written."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, overload

import msgspec

from unspool.errors import (
    Cancelled,
    CorruptRecording,
    NoSnapshot,
    RecordingActive,
    SeqNotFound,
    StoreError,
    UnsupportedFormat,
)
from unspool.events import (
    Body,
    Context,
    ContextSnapshotData,
    HttpRequest,
    HttpResponse,
    LLMResponse,
    RecordEvent,
    RecordEventType,
    RecordMetadata,
    RecordStatus,
)
from unspool.recording.contents import Contents
from unspool.recording.damage import Damage
from unspool.recording.eventlog import EVENTS_NAME, EventLog, missing_events
from unspool.recording.metadata import METADATA_NAME, read_metadata
from unspool.recording.pool import POOL_NAME, PoolReader
from unspool.recording.rebuilt import rebuilt_metadata
from unspool.recording.shorthand import expand
from unspool.store import writer_is_alive

if TYPE_CHECKING:
    from unspool.recording.sent import SentReader
    from unspool.tokens import Count

__all__ = ["Damage", "EventSequence", "RecordReader"]

logger = logging.getLogger("unspool")
Message = TypeVar("Message", HttpRequest, HttpResponse)
_POLL_S = 0.01  # a follower sees an event this soon after it was written


class RecordReader:
    """Access to the events, contexts and bodies of a recording. For one thread at a time.

    Args:
        record_dir: the recording's folder.
        live: read a recording whose writer is alive too, as far as it goes.
        strict: refuse a damaged recording instead of reading around the damage.

    Raises:
        RecordingActive: its writer is alive and `live` is not set.
        CorruptRecording: there is no events file, or anything is damaged and `strict` is set.
        UnsupportedFormat: a newer unspool wrote it.
        StoreError: the files may not be read.
    """

    def __init__(self, record_dir: str | os.PathLike[str], *, live: bool = False, strict: bool = False) -> None:
        self.record_dir = Path(record_dir)
        # Asked before reading anything: a writer that ends in between has written its last metadata by then.
        alive = writer_is_alive(self.record_dir)
        if alive and not live:
            raise RecordingActive(self.record_dir.name, _os_pid(self.record_dir))
        self._metadata_damage: Damage | None = None
        metadata = self._read_metadata()
        self._log = _open_log(self.record_dir)
        self._pool = PoolReader(self.record_dir / POOL_NAME)
        self._contents = Contents(self._log, self._pool)
        self._metadata = self._judged(metadata, alive)
        self._checked = 0  # events whose references were looked up
        self._dangling: list[Damage] = []
        known = self.damage if strict else [*filter(None, [self._metadata_damage]), *self._log_damage()]
        if strict and known:
            self.close()
            more = f" and {len(known) - 1} more" if len(known) > 1 else ""
            raise CorruptRecording(self.record_dir, f"{known[0]}{more}")
        for item in known:
            logger.warning("%s: %s", self.record_dir.name, item)

    def close(self) -> None:
        """Close the files."""
        self._log.close()
        self._pool.close()

    def __enter__(self) -> RecordReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- metadata ----------------------------------------------------------------------------------------------------

    def _read_metadata(self) -> RecordMetadata | None:
        self._metadata_damage = None
        try:
            return read_metadata(self.record_dir)
        except UnsupportedFormat:
            raise
        except (OSError, CorruptRecording) as exc:
            reason = exc.reason if isinstance(exc, CorruptRecording) else (exc.strerror or str(exc))
            self._metadata_damage = Damage(METADATA_NAME, 0, 0, f"unreadable, rebuilt from the events: {reason}")
            return None

    def _judged(self, metadata: RecordMetadata | None, alive: bool) -> RecordMetadata:
        """Metadata as read, or rebuilt if that failed; a writer that died leaves an interrupted recording."""
        if metadata is None:
            metadata = rebuilt_metadata(self.record_dir, self._log)
            if alive:
                metadata = msgspec.structs.replace(metadata, status=RecordStatus.RECORDING)
        if metadata.status is RecordStatus.RECORDING and not alive:
            metadata = msgspec.structs.replace(metadata, status=RecordStatus.INTERRUPTED)
        return metadata

    @property
    def metadata(self) -> RecordMetadata:
        """Who and what was recorded. `event_count` is that of the events there are."""
        return msgspec.structs.replace(self._metadata, event_count=len(self._log))

    @property
    def record_id(self) -> str:
        """The recording's id."""
        return self._metadata.record_id

    @property
    def event_count(self) -> int:
        """How many events can be read. In a large file it may shrink when damage is met."""
        return len(self._log)

    @property
    def last_seq(self) -> int:
        """The highest event number, 0 without events."""
        return self._log.last_seq()

    # --- damage ------------------------------------------------------------------------------------------------------

    @property
    def damage(self) -> list[Damage]:
        """Everything in the files that could not be read, and events that refer to what is not there.

        Reads both files once; a later call looks only at what came since.
        """
        found = [*filter(None, [self._metadata_damage])]
        for position, event in self._log.scan(self._checked):
            if missing := self._contents.missing_references(event):
                line = self._log.line_number(position)
                reason = f"event {event.seq_num} refers to {missing[0]}, which {POOL_NAME} does not have"
                self._dangling.append(Damage(EVENTS_NAME, line, self._log.offset(line), reason))
        self._checked = len(self._log)
        found += self._log_damage()
        found += self._dangling
        found += self._pool.verify(growing=self._is_growing())
        found += self._contents.damage
        return found

    def _log_damage(self) -> list[Damage]:
        found = list(self._log.damage)
        if self._log.torn is not None and not self._is_growing():
            found.append(self._log.torn)
        if self._metadata.end_time is None:
            return found
        # Events of a finished recording that are missing at its end; others leave a gap, which the log has seen.
        last, expected = self._log.last_seq(), self._metadata.event_count
        last_line = self._log.line_number(len(self._log) - 1) if len(self._log) else 0
        explained = sum(item.line > last_line for item in found)
        if expected - last > explained:
            found.append(Damage(EVENTS_NAME, 0, 0, f"{missing_events(last + 1, expected)} at the end"))
        elif expected < len(self._log):
            reason = f"says {expected} events, {EVENTS_NAME} has {len(self._log)}"
            found.append(Damage(METADATA_NAME, 0, 0, reason))
        return found

    def _is_growing(self) -> bool:
        return self._metadata.status is RecordStatus.RECORDING

    # --- events ------------------------------------------------------------------------------------------------------

    def event(self, seq_num: int) -> RecordEvent:
        """The event with this number, whole: messages, texts and headers filled in from the pool.

        Raises:
            SeqNotFound: there is none.
        """
        return self.whole(self._log.at(self.index_of(seq_num)))

    def index_of(self, seq_num: int) -> int:
        """The position of an event, from 0.

        Raises:
            SeqNotFound: there is none with this number.
        """
        index = self._log.index_of(seq_num)
        if index is None:
            raise SeqNotFound(self.record_id, seq_num, self._log.last_seq())
        return index

    def events(self) -> EventSequence:
        """All events in order, decoded when asked for; it grows with the recording."""
        return EventSequence(self, None)

    def events_in_range(self, first: int, last: int) -> list[RecordEvent]:
        """The events numbered `first` to `last`, both included; empty if `first` is above `last`."""
        return [self.whole(event) for event in self._log.between(first, last)]

    def bare_events(self, start: int = 0) -> Iterator[RecordEvent]:
        """Events from a position on, as they are on disk: references into the pool are not followed.

        What counts, times and filters need; an order of magnitude cheaper than `events`.
        """
        for _, event in self._log.scan(start):
            yield self._expand(event)

    def snapshot_positions(self) -> Sequence[int] | None:
        """Positions of the context snapshots, found without decoding events; None if that cannot be done here."""
        return self._log.positions_of(RecordEventType.CONTEXT_SNAPSHOT)

    def refresh(self) -> int:
        """Look for events written since; gives how many there are more."""
        growing = self._is_growing()
        alive = growing and writer_is_alive(self.record_dir)
        found = self._log.refresh()
        if growing and not alive:
            self._metadata = self._judged(self._read_metadata(), alive=False)
        return found

    def follow(
        self,
        *,
        start: int = 0,
        poll_s: float = _POLL_S,
        stop: threading.Event | None = None,
        idle: Callable[[], None] | None = None,
    ) -> Iterator[RecordEvent]:
        """Give the events from position `start` on, then new ones as they are written, until the writer ends.

        Args:
            start: position of the first event to give; `event_count` for new ones only.
            poll_s: seconds between looks at the file.
            stop: ends the wait when set.
            idle: called at each look that found nothing.

        Raises:
            Cancelled: `stop` was set.
        """
        position = start
        while True:
            ended = not self._is_growing()
            self.refresh()
            for found, event in self._log.scan(position):
                if stop is not None and stop.is_set():
                    raise Cancelled(f"stopped following {self.record_id} at position {position}")
                yield self.whole(event)
                position = found + 1
            if ended:
                return
            if stop is not None and stop.is_set():
                raise Cancelled(f"stopped following {self.record_id} at position {position}")
            if idle is not None:
                idle()
            time.sleep(poll_s)

    def whole(self, event: RecordEvent) -> RecordEvent:
        """An event as it was written: references replaced by what they refer to."""
        self._expand(event)
        self._contents.fill(event)
        return event

    def _expand(self, event: RecordEvent) -> RecordEvent:
        expand(event, self._metadata.span_base, self._metadata.trace_id)
        return event

    # --- contexts and bodies -----------------------------------------------------------------------------------------

    def context_at(self, seq_num: int) -> Context:
        """What the model saw in the call at or before this event.

        Raises:
            SeqNotFound: there is no such event.
            NoSnapshot: no context was recorded at or before it.
        """
        for position in range(self.index_of(seq_num), -1, -1):
            event = self._log.at(position)
            if event.type is RecordEventType.CONTEXT_SNAPSHOT and event.context is not None:
                return self.context_of(event.context)
        raise NoSnapshot(f"no context snapshot found before SeqNum {seq_num} in {self.record_id}", seq_num=seq_num)

    def context_of(self, data: ContextSnapshotData) -> Context:
        """The context of one snapshot, as the provider's wire format gives it."""
        return self._contents.context(data)

    def emptied_request(self, data: ContextSnapshotData) -> bytes | None:
        """The request body of a snapshot with its messages left out; None if it is not there in pieces."""
        return self._contents.emptied_request(data)

    def response_of(self, event: RecordEvent) -> LLMResponse | None:
        """What the model answered, parsed from the recorded body; None if there is no body."""
        return self._contents.response(event)

    def snapshot_of_call(self, event: RecordEvent) -> RecordEvent | None:
        """The snapshot of the model call an event belongs to, its references into the pool not followed."""
        found = self._contents.snapshot_of_call(event)
        return self._expand(found) if found is not None else None

    def sent(self, counters: Callable[[str], Count | None] | None = None) -> SentReader:
        """Reads what model calls sent, message by message; each piece once, however often it was sent.

        Args:
            counters: gives the tokenizer of a model; None is what is installed.
        """
        from unspool.recording.sent import SentReader

        return SentReader(self._pool) if counters is None else SentReader(self._pool, counters)

    def with_head(self, message: Message) -> Message:
        """A request or response with its head, which many share, put back."""
        found: Message = self._contents.with_head(message)
        return found

    def body(self, body: Body) -> bytes | None:
        """The bytes of a body, checked against their hash; None if they are missing or damaged."""
        return self._contents.body(body)


class EventSequence(Sequence[RecordEvent]):
    """Events of a reader by position, decoded when asked for; a slice is another such sequence."""

    def __init__(self, reader: RecordReader, positions: range | None) -> None:
        self._reader = reader
        self._chosen = positions  # None: all there are

    @property
    def _positions(self) -> range:
        return range(self._reader.event_count) if self._chosen is None else self._chosen

    def __len__(self) -> int:
        return len(self._positions)

    def __iter__(self) -> Iterator[RecordEvent]:
        if self._chosen is None:
            return (self._reader.whole(event) for _, event in self._reader._log.scan())
        return super().__iter__()

    @overload
    def __getitem__(self, index: int) -> RecordEvent: ...
    @overload
    def __getitem__(self, index: slice) -> EventSequence: ...
    def __getitem__(self, index: int | slice) -> RecordEvent | EventSequence:
        if isinstance(index, slice):
            return EventSequence(self._reader, self._positions[index])
        return self._reader.whole(self._reader._log.at(self._positions[index]))

    def bare(self, index: int) -> RecordEvent:
        """The event at `index` as it is on disk."""
        return self._reader._expand(self._reader._log.at(self._positions[index]))


def _open_log(record_dir: Path) -> EventLog:
    try:
        return EventLog(record_dir / EVENTS_NAME)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as exc:
        if not record_dir.is_dir():
            what = "it is a file, and a recording is a folder" if record_dir.exists() else "no such folder"
        else:
            is_there = isinstance(exc, IsADirectoryError)
            what = f"{EVENTS_NAME} is a folder, not a file" if is_there else f"{EVENTS_NAME} is missing"
        raise CorruptRecording(record_dir, what) from exc
    except OSError as exc:
        raise StoreError(f"cannot read {record_dir / EVENTS_NAME}: {exc.strerror or exc}") from exc


def _os_pid(record_dir: Path) -> int | None:
    try:
        return read_metadata(record_dir).os_pid
    except (OSError, CorruptRecording):
        return None
