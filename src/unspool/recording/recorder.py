"""The writer of one recording: one `os.write` an event, in order, under one lock.

What `write_event` returned for is in the kernel and survives `kill -9`. Pool lines go before the event that refers
to them. A write that fails half way is cut back to the last whole line; its event is counted as lost and its number
is not used. After a fault the recorder tries the disk again at most once a second, so that a full disk costs the
agent nothing.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from unspool.errors import RecorderClosed, StoreError
from unspool.events import (
    Body,
    RecordEvent,
    RecordEventType,
    RecordMetadata,
    RecordStatus,
    StateChangeData,
)
from unspool.recording.bodies import BodyStore
from unspool.recording.heads import HeadWriter
from unspool.recording.lanes import CutBody, LaneTable
from unspool.recording.lines import encode_event, encode_message, error_data
from unspool.recording.metadata import new_metadata, write_metadata
from unspool.recording.poolwriter import PoolWriter
from unspool.recording.shorthand import shorten
from unspool.recording.templates import Templates
from unspool.recording.writerfiles import WriterFiles

__all__ = ["BodyStore", "Recorder"]

_REENTERED = "a signal handler or finalizer came in the middle of another event of its thread"
_LLM_COUNTS = ("request_tokens", "response_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")
_RETRY_NS = 1_000_000_000  # after a fault, and between checks that the folder is still there

_live: weakref.WeakSet[Recorder] = weakref.WeakSet()


class Recorder:
    """Writes the events of one agent process to `base_dir/<record-id>/`.

    Safe under any number of threads: sequence numbers and line order agree. After `fork()` the child's copy is
    closed: a recording has one writing OS process.

    Args:
        base_dir: the folder of recordings; created if missing.
        pid: the agent process, at least 1.
        intent: what it was asked to do.
        fields: more of `RecordMetadata`, for the metadata file. With `end_time` among them, also as None, the recording
            keeps that instead of the time it is closed at: a run that is imported ended when it ended.

    Raises:
        StoreError: the recording cannot be created.
        ValueError: pid is below 1.
    """

    def __init__(
        self, base_dir: str | os.PathLike[str], pid: int, intent: str, *, fields: dict[str, Any] | None = None
    ) -> None:
        if pid < 1:
            raise ValueError(f"pid must be at least 1, got {pid}")
        self._lock = threading.RLock()  # a signal handler may come in the middle of a write of the same thread
        self._writing = False
        self._closed = False
        self._ending: tuple[RecordStatus, int | None] | None = None
        self._created_ns = time.monotonic_ns()
        self._count = 0
        self._lost = 0
        self._calls = 0
        self._fault = ""
        self._fault_until = 0
        self._check_at = self._created_ns + _RETRY_NS
        self._pool = PoolWriter()
        self._lanes = LaneTable(self._pool)
        self._heads = HeadWriter(self._pool)
        self._templates = Templates(self._pool)
        self._metadata = new_metadata(pid, intent, fields or {})
        self._ends_as_given = fields is not None and "end_time" in fields
        try:
            self._files = WriterFiles(Path(base_dir), self._metadata)
        except OSError as exc:
            raise StoreError(f"cannot start a recording in {os.fspath(base_dir)}: {exc.strerror or exc}") from exc
        self._events, self._pool_file = self._files.events, self._files.pool
        _live.add(self)

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def record_id(self) -> str:
        """The recording's id, the name of its folder."""
        return self._metadata.record_id

    @property
    def record_dir(self) -> Path:
        """The recording's folder."""
        return self._files.folder

    @property
    def pid(self) -> int:
        """The agent process recorded here."""
        return self._metadata.pid

    @property
    def metadata(self) -> RecordMetadata:
        """The metadata as last written; `event_count` is current."""
        return msgspec.structs.replace(self._metadata, event_count=self._count, lost_events=self._lost)

    @property
    def event_count(self) -> int:
        """Events written so far."""
        return self._count

    @property
    def lost_events(self) -> int:
        """Events that could not be written."""
        return self._lost

    @property
    def closed(self) -> bool:
        """Whether the recording has ended."""
        return self._closed

    def elapsed(self, at_ns: int | None = None) -> int:
        """Nanoseconds since the recording began, now or at a `time.monotonic_ns()` reading."""
        return max((time.monotonic_ns() if at_ns is None else at_ns) - self._created_ns, 0)

    # --- writing -----------------------------------------------------------------------------------------------------

    def write_event(self, event: RecordEvent) -> int:
        """Write one event and give the number it got; whatever number it carried is ignored.

        When this returns, the event is in the kernel and survives the death of this process.

        Raises:
            RecorderClosed: the recording has ended.
            StoreError: the event could not be written; it is counted in `lost_events`.
            TypeError: a field of the event holds something its type does not allow.
            ValueError: a token count is below zero.
        """
        context = event.context
        if context is None and event.llm is None:
            return self._write(event, None)
        _refuse_negative_counts(event)
        by_hand = context is not None and context.messages is not None and context.request is None
        return self._write(event, self._refer_messages if by_hand else None)

    def write_request(
        self,
        event: RecordEvent,
        body: bytes | None,
        array_key: str | None,
        system_keys: tuple[str, ...] = (),
        describe: Callable[[CutBody], None] | None = None,
    ) -> tuple[RecordEvent, CutBody | None]:
        """Write the snapshot of a model call about to be sent: gives it its call, step, lane and origin.

        Args:
            event: a context_snapshot whose `context.request` has method, url and headers.
            body: the request's bytes, None if they are not known.
            array_key: the top-level array of messages in the body.
            system_keys: top-level keys that hold the system prompt.
            describe: called with the cut body before the event is written, to fill in what the body says.

        Raises:
            RecorderClosed, StoreError: as `write_event`.
        """
        context = event.context
        assert context is not None
        assert context.request is not None
        request = context.request
        placed: CutBody | None = None

        written = event

        def refer(numbered: RecordEvent) -> None:
            nonlocal placed, written
            written = numbered
            if body is None:
                request.body = Body(missing="sent as a stream")
                self._lanes.steps += 1
                numbered.step = self._lanes.steps
            else:
                placed = self._lanes.place(body, array_key, system_keys)
                request.body = placed.body
                context.prev, context.kept, context.retry = placed.prev, placed.kept, placed.retry
                numbered.lane, numbered.step = placed.lane, placed.conversation.step
                placed.conversation.seq = numbered.seq_num
                if describe is not None:
                    describe(placed)
            self._heads.store(request)
            self._calls += 1
            numbered.call = self._calls

        self._write(event, refer)
        return written, placed

    def write_with_bodies(self, event: RecordEvent, prepare: Callable[[BodyStore], None]) -> int:
        """Write an event whose bodies `prepare` stores first, under the same lock.

        Raises:
            RecorderClosed, StoreError: as `write_event`.
        """

        return self._write(event, lambda _: prepare(BodyStore(self._pool, self._heads, self._templates)))

    def note_lost(self) -> None:
        """Count an event that could not even be made."""
        with self._lock:
            self._lost += 1

    def _refer_messages(self, event: RecordEvent) -> None:
        """Replace the messages of a snapshot made by hand by references into the pool."""
        context = event.context
        assert context is not None
        assert context.messages is not None
        placed = self._lanes.place_messages([encode_message(message) for message in context.messages])
        placed.conversation.seq = event.seq_num
        if event.lane is None:
            event.lane = placed.lane
        stored = msgspec.structs.replace(context, messages=None, message_list=placed.conversation.list_key)
        if stored.prev is None:
            stored.prev, stored.kept = placed.prev, placed.kept
        event.context = stored

    def _write(self, event: RecordEvent, refer: Callable[[RecordEvent], None] | None) -> int:
        with self._lock:
            if self._closed:
                raise RecorderClosed(self._metadata.record_id)
            now = time.monotonic_ns()
            if now >= self._check_at:
                self._check_folder(now)
            if self._writing or now < self._fault_until:
                self._lost += 1
                fault = _REENTERED if self._writing else self._fault
                raise StoreError(f"{self._metadata.record_id}: event lost: {fault}")
            events = self._events
            size = events.size
            number = self._count + 1
            event = msgspec.structs.replace(event, seq_num=number)
            self._writing = True
            try:
                if refer is not None:
                    refer(event)
                if event.span_id is not None or refer is not None:
                    shorten(event)
                line = encode_event(event, self._pool.put_string)
                if self._pool.lines:
                    self._pool_file.append(b"".join(self._pool.lines))
                    self._pool.written()
                events.append(line)
                self._count = number
            except BaseException as exc:
                if events.size > size:  # KeyboardInterrupt after the write: the event is there, its number is used
                    self._count = number
                    raise
                self._lost += 1
                self._forget()
                if isinstance(exc, OSError):
                    raise self._refused(exc, now) from exc
                raise
            finally:
                self._writing = False
                if self._ending is not None:
                    self._finish_late()
            return number

    def _forget(self) -> None:
        """An event is lost: let later ones refer to nothing that was made for it."""
        self._pool.forget()
        self._lanes.forget()
        self._heads.forget()
        self._templates.forget()

    def _refused(self, exc: OSError, now: int) -> StoreError:
        self._fault_until = now + _RETRY_NS
        self._fault = (
            f"{exc.strerror or exc} ({self._files.folder}). Free some space or choose another place with --store DIR."
        )
        return StoreError(f"{self._metadata.record_id}: event lost: {self._fault}")

    def _check_folder(self, now: int) -> None:
        """Writes to a removed file succeed and are gone; look once a second."""
        self._check_at = now + _RETRY_NS
        if self._events.is_removed():
            self._fault_until = self._check_at + 1  # until the next look
            self._fault = f"its folder was removed ({self._files.folder})"

    # --- ending ------------------------------------------------------------------------------------------------------

    def close(self, *, exit_code: int | None = None) -> None:
        """End the recording with status `completed`. Only the first of `close` and `stop` acts.

        Raises:
            StoreError: the final metadata could not be written; the events are on disk all the same.
        """
        self._finish(RecordStatus.COMPLETED, exit_code)

    def stop(self) -> None:
        """End the recording with status `stopped`: the user ended it. Only the first of `close` and `stop` acts.

        Raises:
            StoreError: as `close`.
        """
        self._finish(RecordStatus.STOPPED, None)

    def note_packages(self, packages: dict[str, str]) -> None:
        """Versions of the libraries the program used, for the metadata written at the end."""
        self._metadata = msgspec.structs.replace(self._metadata, packages=packages)

    def _finish(self, status: RecordStatus, exit_code: int | None) -> None:
        with self._lock:
            if self._closed:
                return
            if self._writing:  # called by a signal handler in the middle of a write, which will end it
                self._ending = status, exit_code
                return
            self._closed = True
            self._metadata = msgspec.structs.replace(
                self._metadata,
                status=status,
                end_time=self._metadata.end_time if self._ends_as_given else datetime.now(UTC),
                event_count=self._count,
                lost_events=self._lost,
                exit_code=exit_code if exit_code is not None else self._metadata.exit_code,
            )
            try:
                write_metadata(self._files.folder, self._metadata)
            except OSError as exc:
                raise StoreError(
                    f"{self.record_id}: the final metadata could not be written: {exc.strerror or exc}. "
                    f"The recording shows as interrupted; its events are readable."
                ) from exc
            finally:
                self._files.close()

    def _finish_late(self) -> None:
        assert self._ending is not None
        try:
            self._finish(*self._ending)
        except StoreError as exc:  # the event is written, and the caller of `close` has been told nothing is wrong
            _warn(exc)

    def sync(self) -> None:
        """Wait until the disk has what was written so far (power loss).

        Raises:
            StoreError: the disk reports a fault.
        """
        with self._lock:
            if self._closed:
                return
            try:
                self._files.sync()
            except OSError as exc:
                raise StoreError(f"{self.record_id}: the disk may not have everything: {exc.strerror or exc}") from exc

    def abandon(self) -> None:
        """Give up the files without ending the recording: another OS process owns it (after fork)."""
        self._lock = threading.RLock()  # the old one may be held by a thread that does not exist here
        self._closed = True
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exc is None:
            self.close()
            return
        try:
            if not self._closed:
                self.write_event(self._failure(exc))
        except (StoreError, RecorderClosed) as fault:
            _warn(fault)
        try:
            self.close()
        except StoreError as fault:  # the program's own exception must come through
            _warn(fault)

    def _failure(self, exc: BaseException) -> RecordEvent:
        data = error_data(exc)
        name = type(exc).__name__
        return RecordEvent(
            type=RecordEventType.STATE_CHANGE,
            seq_num=0,
            timestamp=self.elapsed(),
            pid=self.pid,
            state=StateChangeData("running", "dead", f"{name}: {data.message}" if data.message else name),
        )


def _refuse_negative_counts(event: RecordEvent) -> None:
    counts: list[tuple[str, int | None]] = []
    if event.llm is not None:
        counts += [(name, getattr(event.llm, name)) for name in _LLM_COUNTS]
    if event.context is not None:
        counts.append(("tokens", event.context.tokens))
    for name, count in counts:
        if isinstance(count, int) and count < 0:
            raise ValueError(f"{name} must not be negative, got {count}")


def _after_fork_in_child() -> None:
    for recorder in list(_live):
        recorder.abandon()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _warn(fault: Exception) -> None:
    import logging  # slow to import for a program being recorded, and rarely needed

    logging.getLogger("unspool").warning("%s", fault)
