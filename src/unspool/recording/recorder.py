"""The writer of one recording: one `os.write` an event, in order, under one lock.

What `write_event` returned for is in the kernel and survives `kill -9`. Pool lines go before the event that refers
to them. A write that fails half way is cut back to the last whole line; its event is counted as lost and its number
is not used. After a fault the recorder tries the disk again at most once a second, so that a full disk costs the
agent nothing.
"""

from __future__ import annotations

import fcntl
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
    ContextSnapshotData,
    CtxMessage,
    RecordEvent,
    RecordEventType,
    RecordMetadata,
    RecordStatus,
    StateChangeData,
)
from unspool.recording.heads import HeadWriter
from unspool.recording.lanes import CutBody, LaneTable
from unspool.recording.lines import encode_event
from unspool.recording.metadata import write_metadata
from unspool.recording.pool import PoolWriter
from unspool.store import LOCK_NAME, boot_id, host_name, new_hex_id, new_record_id, os_process_start

__all__ = ["EVENTS_NAME", "POOL_NAME", "Recorder"]

EVENTS_NAME = "events.jsonl"
POOL_NAME = "messages.jsonl"
_RETRY_NS = 1_000_000_000  # after a fault, and between checks that the folder is still there
_WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC

_live: weakref.WeakSet[Recorder] = weakref.WeakSet()


class Recorder:
    """Writes the events of one agent process to `base_dir/<record-id>/`.

    Safe under any number of threads: sequence numbers and line order agree. After `fork()` the child's copy is
    closed: a recording has one writing OS process.

    Args:
        base_dir: the folder of recordings; created if missing.
        pid: the agent process, at least 1.
        intent: what it was asked to do.
        fields: more of `RecordMetadata`, for the metadata file.

    Raises:
        StoreError: the recording cannot be created.
        ValueError: pid is below 1.
    """

    def __init__(
        self, base_dir: str | os.PathLike[str], pid: int, intent: str, *, fields: dict[str, Any] | None = None
    ) -> None:
        if pid < 1:
            raise ValueError(f"pid must be at least 1, got {pid}")
        self._lock = threading.Lock()
        self._closed = False
        self._created_ns = time.monotonic_ns()
        self._count = 0
        self._lost = 0
        self._calls = 0
        self._fault_until = 0
        self._check_at = self._created_ns + _RETRY_NS
        base = Path(base_dir)
        try:
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._dir = _new_folder(base, pid)
            # The lock comes first: whoever sees the metadata may already ask whether the writer is alive.
            self._lock_fd = os.open(self._dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
            self._events = _Appender(self._dir / EVENTS_NAME)
            self._pool_file = _Appender(self._dir / POOL_NAME)
            self._pool = PoolWriter()
            self._lanes = LaneTable(self._pool)
            self._heads = HeadWriter(self._pool)
            self._metadata = RecordMetadata(
                record_id=self._dir.name,
                pid=pid,
                intent=intent,
                start_time=datetime.now(UTC),
                span_base=new_hex_id()[:24],
                host=host_name(),
                boot_id=boot_id(),
                os_pid=os.getpid(),
                os_start=os_process_start(os.getpid()),
                **(fields or {}),
            )
            write_metadata(self._dir, self._metadata)
        except OSError as exc:
            raise StoreError(f"cannot start a recording in {base}: {exc.strerror or exc}") from exc
        _live.add(self)

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def record_id(self) -> str:
        """The recording's id, the name of its folder."""
        return self._metadata.record_id

    @property
    def record_dir(self) -> Path:
        """The recording's folder."""
        return self._dir

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
        """
        context = event.context
        if context is not None and context.messages is not None and context.request is None:
            return self._write(event, lambda numbered: self._refer_messages(numbered, context))
        return self._write(event)

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

        def refer(numbered: RecordEvent) -> RecordEvent:
            nonlocal placed
            self._heads.store(request)
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
            self._calls += 1
            numbered.call = self._calls
            return numbered

        event = msgspec.structs.replace(event)
        self._write(event, refer)
        return event, placed

    def write_with_bodies(self, event: RecordEvent, prepare: Callable[[BodyStore], None]) -> int:
        """Write an event whose bodies `prepare` stores first, under the same lock.

        Raises:
            RecorderClosed, StoreError: as `write_event`.
        """

        def refer(numbered: RecordEvent) -> RecordEvent:
            prepare(BodyStore(self._pool, self._heads))
            return numbered

        return self._write(event, refer)

    def _refer_messages(self, event: RecordEvent, context: ContextSnapshotData) -> RecordEvent:
        """Replace the messages of a snapshot made by hand by references into the pool."""
        assert context.messages is not None
        if any(not isinstance(message, CtxMessage) for message in context.messages):
            return event  # the reference's strings stay as they are: its tools can read them
        pieces = b",".join(msgspec.json.encode(message) for message in context.messages)
        placed = self._lanes.place(b'{"messages":[' + pieces + b"]}", "messages", ())
        placed.conversation.busy = False
        placed.conversation.seq = event.seq_num
        if event.lane is None:
            event.lane = placed.lane
        stored = msgspec.structs.replace(context, messages=None, message_list=placed.conversation.list_key)
        if stored.prev is None:
            stored.prev, stored.kept = placed.prev, placed.kept
        event.context = stored
        return event

    def _write(self, event: RecordEvent, refer: Callable[[RecordEvent], RecordEvent] | None = None) -> int:
        with self._lock:
            if self._closed:
                raise RecorderClosed(self.record_id)
            now = time.monotonic_ns()
            if now >= self._check_at:
                self._check_folder(now)
            if self._fault_until > now:
                self._lost += 1
                raise StoreError(f"{self.record_id}: the disk refused an event less than a second ago; not tried again yet")
            if refer is None:
                event = event.__copy__()
            number = self._count + 1
            event.seq_num = number
            pool_lines = b""
            try:
                if refer is not None:
                    event = refer(event)
                line = encode_event(event, self._pool.put_string)
                if self._pool.lines:
                    pool_lines = self._pool.take()
                    self._pool_file.append(pool_lines)
                self._events.append(line)
            except OSError as exc:
                self._fail(now, pool_lines)
                raise StoreError(
                    f"{self.record_id}: event lost: {exc.strerror or exc} ({self._dir}). "
                    f"Free some space or choose another place with --store DIR."
                ) from exc
            self._count = number
            return number

    def _check_folder(self, now: int) -> None:
        """Writes to a removed file succeed and are gone; look once a second."""
        self._check_at = now + _RETRY_NS
        if self._events.is_removed():
            self._fault_until = now + _RETRY_NS + 1

    def _fail(self, now: int, pool_lines: bytes) -> None:
        self._lost += 1
        self._fault_until = now + _RETRY_NS
        self._pool.forget(pool_lines + self._pool.take())
        self._lanes.forget()
        self._heads.forget()

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

    def _finish(self, status: RecordStatus, exit_code: int | None) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._metadata = msgspec.structs.replace(
                self._metadata,
                status=status,
                end_time=datetime.now(UTC),
                event_count=self._count,
                lost_events=self._lost,
                exit_code=exit_code if exit_code is not None else self._metadata.exit_code,
            )
            try:
                write_metadata(self._dir, self._metadata)
            except OSError as exc:
                raise StoreError(
                    f"{self.record_id}: the final metadata could not be written: {exc.strerror or exc}. "
                    f"The recording shows as interrupted; its events are readable."
                ) from exc
            finally:
                # Released last, so that nobody sees a dead writer and an unfinished status.
                self._events.close()
                self._pool_file.close()
                os.close(self._lock_fd)

    def sync(self) -> None:
        """Wait until the disk has what was written so far (power loss); pool before events."""
        with self._lock:
            if not self._closed:
                self._pool_file.sync()
                self._events.sync()

    def abandon(self) -> None:
        """Give up the files without ending the recording: another OS process owns it (after fork)."""
        self._lock = threading.Lock()  # the old one may be held by a thread that does not exist here
        if not self._closed:
            self._closed = True
            self._events.close()
            self._pool_file.close()
            os.close(self._lock_fd)  # closing does not release the parent's lock; unlocking would

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exc is not None and not self._closed:
            reason = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
            self.write_event(
                RecordEvent(
                    type=RecordEventType.STATE_CHANGE,
                    seq_num=0,
                    timestamp=self.elapsed(),
                    pid=self.pid,
                    state=StateChangeData(from_state="running", to_state="dead", reason=reason),
                )
            )
        self.close()


class BodyStore:
    """What `write_with_bodies` offers: places for the bodies and headers of one event."""

    def __init__(self, pool: PoolWriter, heads: HeadWriter) -> None:
        self._pool = pool
        self.heads = heads

    def put(self, data: bytes, *, is_json: bool = False, encoding: str | None = None) -> Body:
        """Store a body as one piece; a JSON body shares its long strings with messages."""
        import hashlib

        digest = hashlib.sha256(data).hexdigest()
        if is_json and data[:1] in (b"{", b"["):
            self._pool.put_json(data) if _is_one_json(data) else self._pool.put_bytes(data)
        elif data:
            self._pool.put_bytes(data)
        return Body(size=len(data), sha256=digest, encoding=encoding)


def _is_one_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
        data.decode("utf-8")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


class _Appender:
    """A file that only ever holds whole appends."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, _WRITE_FLAGS, 0o600)
        self._size = os.fstat(self._fd).st_size

    def append(self, data: bytes) -> None:
        """Write all of `data` or nothing.

        Raises:
            OSError: the disk took none of it, or only a part, which was cut off again.
        """
        written = os.write(self._fd, data)
        if written == len(data):
            self._size += written
            return
        # Large writes may be short without a fault (2 GiB limit, a signal): go on before giving up.
        try:
            view = memoryview(data)[written:]
            while view:
                more = os.write(self._fd, view)
                if more == 0:
                    raise OSError("disk full")
                view = view[more:]
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(data)

    def is_removed(self) -> bool:
        return os.fstat(self._fd).st_nlink == 0

    def sync(self) -> None:
        os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


def _new_folder(base: Path, pid: int) -> Path:
    for _ in range(100):
        folder = base / new_record_id(pid)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        return folder
    raise StoreError(f"no free record id for PID {pid} in {base} after 100 tries")


def _after_fork_in_child() -> None:
    for recorder in list(_live):
        recorder.abandon()


os.register_at_fork(after_in_child=_after_fork_in_child)
