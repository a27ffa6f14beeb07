"""The reader of one recording: lazy, tolerant of damage, and able to follow one that is still being written."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import overload

import msgspec

from unspool.errors import Cancelled, CorruptRecording, NoSnapshot, RecordingActive, SeqNotFound, UnsupportedFormat
from unspool.events import (
    Body,
    Context,
    ContextSnapshotData,
    CtxMessage,
    HttpRequest,
    HttpResponse,
    LLMResponse,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    RecordMetadata,
    RecordStatus,
)
from unspool.providers import PROVIDERS
from unspool.recording.eventlog import Damage, EventLog
from unspool.recording.heads import restore_head
from unspool.recording.lines import revive
from unspool.recording.metadata import METADATA_NAME, read_metadata
from unspool.recording.pool import KEY_LENGTH, PoolReader
from unspool.recording.recorder import EVENTS_NAME, POOL_NAME
from unspool.store import FORMAT_VERSION, writer_is_alive

__all__ = ["Damage", "EventSequence", "RecordReader"]

logger = logging.getLogger("unspool")
_POLL_S = 0.01  # a follower sees an event this soon after it was written


class RecordReader:
    """Access to the events, contexts and bodies of a recording.

    Args:
        record_dir: the recording's folder.
        live: read a recording whose writer is alive too, as far as it goes.
        strict: refuse a damaged recording instead of reading around the damage.

    Raises:
        RecordingActive: its writer is alive and `live` is not set.
        CorruptRecording: there is no events file, or anything is damaged and `strict` is set.
        UnsupportedFormat: a newer unspool wrote it.
    """

    def __init__(self, record_dir: str | os.PathLike[str], *, live: bool = False, strict: bool = False) -> None:
        self.record_dir = Path(record_dir)
        self._damage: list[Damage] = []
        self._body_damage: dict[str, Damage] = {}
        alive = writer_is_alive(self.record_dir)
        if alive and not live:
            raise RecordingActive(self.record_dir.name, _os_pid(self.record_dir))
        try:
            self._log = EventLog(self.record_dir / EVENTS_NAME)
        except OSError as exc:
            if not self.record_dir.is_dir():
                raise CorruptRecording(self.record_dir, "no such folder") from exc
            raise CorruptRecording(self.record_dir, f"{EVENTS_NAME} is missing ({exc.strerror})") from exc
        self._pool = PoolReader(self.record_dir / POOL_NAME)
        self._metadata = self._load_metadata(alive)
        if strict and self.damage:
            first = self.damage[0]
            more = f" and {len(self.damage) - 1} more" if len(self.damage) > 1 else ""
            raise CorruptRecording(self.record_dir, f"{first}{more}")
        for item in self._log.damage:
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

    def _load_metadata(self, alive: bool) -> RecordMetadata:
        try:
            metadata = read_metadata(self.record_dir)
        except UnsupportedFormat:
            raise
        except (OSError, CorruptRecording) as exc:
            reason = exc.reason if isinstance(exc, CorruptRecording) else (exc.strerror or str(exc))
            self._damage.append(Damage(METADATA_NAME, 0, 0, f"unreadable, rebuilt from the events: {reason}"))
            metadata = self._rebuild_metadata()
        if metadata.status is RecordStatus.RECORDING and not alive:
            metadata = msgspec.structs.replace(metadata, status=RecordStatus.INTERRUPTED)
        return metadata

    def _rebuild_metadata(self) -> RecordMetadata:
        first = self._log.at(0) if len(self._log) else None
        pid = first.pid if first is not None else 0
        if not pid:
            head = self.record_dir.name.split("-", 1)[0]
            pid = int(head) if head.isdigit() else 0
        try:
            started = datetime.fromtimestamp((self.record_dir / EVENTS_NAME).stat().st_mtime, UTC)
        except OSError:
            started = None
        return RecordMetadata(
            record_id=self.record_dir.name,
            pid=pid,
            intent="",
            start_time=started,
            status=RecordStatus.INTERRUPTED,
            event_count=len(self._log),
            format_version=FORMAT_VERSION,
        )

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
        """How many events can be read."""
        return len(self._log)

    @property
    def last_seq(self) -> int:
        """The highest event number, 0 without events."""
        return self._log.last_seq()

    @property
    def damage(self) -> list[Damage]:
        """Everything in the files that could not be read. Decodes each event once, if that was not done yet."""
        found = [*self._damage, *self._log.verify()]
        if self._log.torn_tail and self._metadata.status is not RecordStatus.RECORDING:
            found.append(Damage(EVENTS_NAME, 0, 0, "the last line is torn; it was dropped"))
        expected = self._metadata.event_count
        gone = expected - len(self._log) - len(self._log.damage)
        if self._metadata.end_time is not None and gone > 0:
            found.append(Damage(EVENTS_NAME, 0, 0, f"{gone} of {expected} events that were written are missing"))
        found.extend(Damage(POOL_NAME, *where) for where in self._pool.verify())
        found.extend(self._body_damage.values())
        return found

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

    def events(self) -> Sequence[RecordEvent]:
        """All events in order, decoded when asked for."""
        return EventSequence(self, range(len(self._log)))

    def events_in_range(self, first: int, last: int) -> list[RecordEvent]:
        """The events numbered `first` to `last`, both included; empty if `first` is above `last`."""
        return [self.whole(self._log.at(position)) for position in self._log.range(first, last)]

    def bare_events(self, start: int = 0) -> Iterator[RecordEvent]:
        """Events from a position on, as they are on disk: references into the pool are not followed.

        What counts, times and filters need; an order of magnitude cheaper than `events`.
        """
        position = start
        while position < len(self._log):
            yield self._expand(self._log.at(position))
            position += 1

    def refresh(self) -> int:
        """Look for events written since; gives how many there are more."""
        if self._metadata.status is RecordStatus.RECORDING:
            alive = writer_is_alive(self.record_dir)
            found = self._log.refresh()
            if not alive:
                self._metadata = self._load_metadata(alive=False)
            return found
        return self._log.refresh()

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
            # Asked before reading: a writer that ends in between is seen as alive and read once more.
            ended = self._metadata.status is not RecordStatus.RECORDING
            self.refresh()
            while position < len(self._log):
                if stop is not None and stop.is_set():
                    raise Cancelled(f"stopped following {self.record_id} at position {position}")
                yield self.whole(self._log.at(position))
                position += 1
            if ended:
                return
            if stop is not None and stop.is_set():
                raise Cancelled(f"stopped following {self.record_id} at position {position}")
            if idle is not None:
                idle()
            time.sleep(poll_s)

    # --- contexts and bodies -----------------------------------------------------------------------------------------

    def context_at(self, seq_num: int) -> Context:
        """What the model saw in the call at or before this event.

        Raises:
            SeqNotFound: there is no such event.
            NoSnapshot: no context was recorded at or before it.
        """
        position = self.index_of(seq_num)
        while position >= 0:
            event = self._log.at(position)
            if event.type is RecordEventType.CONTEXT_SNAPSHOT and event.context is not None:
                return self.context_of(event.context)
            position -= 1
        raise NoSnapshot(f"no context snapshot found before SeqNum {seq_num} in {self.record_id}", seq_num=seq_num)

    def context_of(self, data: ContextSnapshotData) -> Context:
        """The context of one snapshot, as the provider's wire format gives it."""
        if data.request is not None and data.messages is None:
            request = self._whole_request(data.request)
            provider = PROVIDERS.get(data.provider or "")
            body = self.body(request.body) if request.body is not None else None
            if provider is None or body is None:
                why = (request.body.missing if request.body is not None else None) or "the request body is missing"
                return Context(messages=[], model=data.model, provider=data.provider, partial=why)
            context = provider.parse_request(request.url or "", body)
            if context.partial is None and data.partial is not None:
                context.partial = data.partial
            return context
        messages, missing = self._messages_of(data)
        system = data.system_prompt
        if system is None:
            system = next((m.content for m in messages if m.role == "system"), None)
        return Context(
            messages=messages,
            system_prompt=system,
            tools=data.tools or [],
            params=data.params or {},
            model=data.model,
            provider=data.provider,
            partial=data.partial or (f"{missing} messages are missing from the pool" if missing else None),
        )

    def _messages_of(self, data: ContextSnapshotData) -> tuple[list[CtxMessage], int]:
        if data.messages is not None:
            return [message if isinstance(message, CtxMessage) else parse_summary(message) for message in data.messages], 0
        if data.message_list is None:
            return [], 0
        elements = self._pool.elements(data.message_list)
        if elements is None:
            return [CtxMessage(role="unknown", content="(the list of messages is damaged)")], 1
        messages: list[CtxMessage] = []
        missing = 0
        for key in elements[0]:
            piece = self._pool.get(key)
            try:
                if piece is None:
                    raise ValueError
                messages.append(msgspec.json.decode(piece, type=CtxMessage))
            except (ValueError, msgspec.DecodeError):
                messages.append(CtxMessage(role="unknown", content="(missing message)"))
                missing += 1
        return messages, missing

    def response_of(self, event: RecordEvent) -> LLMResponse | None:
        """What the model answered, parsed from the recorded body; None if there is no body."""
        data = event.llm
        if data is None or data.response is None or data.response.body is None:
            return None
        snapshot = self.snapshot_of_call(event)
        provider = PROVIDERS.get((snapshot.context.provider or "") if snapshot and snapshot.context else "")
        body = self.body(data.response.body)
        if provider is None or body is None:
            return None
        restore_head(data.response, self._pool)
        content_type = next((v for k, v in data.response.headers or [] if k.lower() == "content-type"), None)
        url = ""
        if snapshot is not None and snapshot.context is not None and snapshot.context.request is not None:
            url = self._whole_request(snapshot.context.request).url or ""
        return provider.parse_response(url, body, content_type, data.response.status, data.response.complete)

    def snapshot_of_call(self, event: RecordEvent) -> RecordEvent | None:
        """The snapshot (as on disk) of the call an event belongs to."""
        if event.call is None:
            return None
        position = self._log.index_of(event.seq_num)
        while position is not None and position >= 0:
            candidate = self._log.at(position)
            if candidate.type is RecordEventType.CONTEXT_SNAPSHOT and candidate.call == event.call:
                return candidate
            position -= 1
        return None

    def body(self, body: Body) -> bytes | None:
        """The bytes of a body, checked against their hash; None if they are missing or damaged."""
        if body.sha256 is None:
            return None
        if body.size == 0 and body.rope is None:
            return b""
        data = self._pool.get(body.sha256[:KEY_LENGTH]) if body.rope is None else self._pool.join(body.rope)
        if data is None:
            self._note_body(body, "a piece of this body is missing")
            return None
        if hashlib.sha256(data).hexdigest() != body.sha256:
            self._note_body(body, "bytes do not fit their hash")
            return None
        return data

    def _note_body(self, body: Body, reason: str) -> None:
        key = body.sha256 or ""
        self._body_damage.setdefault(key, Damage(POOL_NAME, 0, 0, f"body {key[:12]}…: {reason}"))

    def _whole_request(self, request: HttpRequest) -> HttpRequest:
        whole = msgspec.structs.replace(request)
        restore_head(whole, self._pool)
        return whole

    def _whole_response(self, response: HttpResponse) -> HttpResponse:
        whole = msgspec.structs.replace(response)
        restore_head(whole, self._pool)
        return whole

    # --- making events whole -----------------------------------------------------------------------------------------

    def _expand(self, event: RecordEvent) -> RecordEvent:
        base = self._metadata.span_base
        if base is not None:
            if event.span_id is not None and len(event.span_id) == 8:
                event.span_id = base + event.span_id
            if event.parent_span_id is not None and len(event.parent_span_id) == 8:
                event.parent_span_id = base + event.parent_span_id
        if event.trace_id is None and event.span_id is not None:
            event.trace_id = self._metadata.trace_id
        return event

    def whole(self, event: RecordEvent) -> RecordEvent:
        """An event as it was written: references replaced by what they refer to."""
        event = self._expand(event)
        if event.syscall is not None:
            data = event.syscall
            data.args = revive(data.args, self._pool.get_string)
            data.result = revive(data.result, self._pool.get_string)
            if data.request is not None:
                data.request = self._whole_request(data.request)
            if data.response is not None:
                data.response = self._whole_response(data.response)
        elif event.context is not None:
            self._fill_context(event.context)
        elif event.llm is not None:
            self._fill_llm(event, event.llm)
        return event

    def _fill_context(self, data: ContextSnapshotData) -> None:
        if data.request is not None:
            context = self.context_of(data)
            data.request = self._whole_request(data.request)
            data.messages = list(context.messages)
            data.system_prompt = context.system_prompt
            data.tools, data.params = context.tools, context.params
            data.partial = context.partial
        elif data.messages is None:
            messages, missing = self._messages_of(data)
            data.messages = list(messages)
            if missing and data.partial is None:
                data.partial = f"{missing} messages are missing from the pool"

    def _fill_llm(self, event: RecordEvent, data: LLMResponseData) -> None:
        if data.response is None:
            return
        if data.text is None:
            answer = self.response_of(event)
            if answer is not None:
                data.text, data.tool_calls, data.reasoning = answer.text, answer.tool_calls, answer.reasoning
        data.response = self._whole_response(data.response)


class EventSequence(Sequence[RecordEvent]):
    """Events of a reader by position, decoded when asked for; a slice is another such sequence."""

    def __init__(self, reader: RecordReader, positions: range) -> None:
        self._reader = reader
        self._positions = positions

    def __len__(self) -> int:
        return len(self._positions)

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


def parse_summary(text: str) -> CtxMessage:
    """A message from the reference's string `[role] text`; text in another form is a user's.

    A role is one word: a user's text that starts with "[1, 2] " is not taken for a message of role "1, 2".
    """
    if text.startswith("["):
        role, found, content = text[1:].partition("] ")
        if found and role and role.replace("_", "").replace("-", "").isalpha():
            return CtxMessage(role=role, content=content)
    return CtxMessage(role="user", content=text)


def _os_pid(record_dir: Path) -> int | None:
    try:
        return read_metadata(record_dir).os_pid
    except (OSError, CorruptRecording):
        return None
