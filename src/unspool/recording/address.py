"""Addresses: how a person names a recording and a point in it, and how a program opens one (`unspool.load`).

12-20260727T171921-ab3x     a record id, or a unique beginning of one
12                          all digits: a PID, its newest recording
os:4711                     the agent process that is, or was, the OS process 4711
last, last-fork             the newest root recording that is no fork and no rerun; the newest fork
…@17  …@step:3  …@call:5    an event; the N-th turn; the N-th model call
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from unspool.errors import NoRecordings, NoSnapshot, RecordingNotFound, StoreError, UsageError
from unspool.events import RecordEvent, RecordEventType, RecordMetadata
from unspool.recording.manager import RecordManager
from unspool.recording.reader import RecordReader
from unspool.store import Store, find_store

__all__ = [
    "Address",
    "Point",
    "is_fork",
    "is_rerun",
    "is_root",
    "load",
    "names_newest_first",
    "newest_first",
    "parse",
    "resolve",
]

_STAMPED = re.compile(r"(\d{1,20})-(\d{8}T\d{6})-[a-z0-9]+")
_UNIX_STAMPED = re.compile(r"(\d{1,20})-(\d{9,11})")  # the reference's ids
_NUMBER_MAX = 20  # digits; int() refuses very long numbers with an error about itself


class Point(msgspec.Struct, frozen=True):
    """A place in a recording: the event with this number, or the start of the N-th step or model call."""

    kind: Literal["seq", "step", "call"]
    number: int

    def __str__(self) -> str:
        return str(self.number) if self.kind == "seq" else f"{self.kind}:{self.number}"

    def seq_num(self, reader: RecordReader) -> int:
        """The number of the event meant; for a step or a call that of its context snapshot.

        Raises:
            SeqNotFound: there is no event with this number.
            NoSnapshot: there is no such step or call.
        """
        if self.kind == "seq":
            reader.index_of(self.number)
            return self.number
        if (found := self._by_bisection(reader)) is not None:
            return found
        # Recordings made by others number nothing: there the N-th snapshot counts.
        numbered, seen, by_count = 0, 0, None
        for event in reader.bare_events():
            if event.type is not RecordEventType.CONTEXT_SNAPSHOT or (self.kind == "step" and _is_retry(event)):
                continue
            seen += 1
            own = event.call if self.kind == "call" else event.step
            if own == self.number:
                return event.seq_num
            if own is not None:
                numbered = max(numbered, own)
            elif seen == self.number:
                by_count = event.seq_num
        if by_count is not None and not numbered:
            return by_count
        noun = "model call" if self.kind == "call" else "step"
        last = numbered or seen
        have = f"its {noun}s are 1 to {last}" if last else f"it has no {noun}s"
        raise NoSnapshot(
            f"{reader.record_id} has no {noun} {self.number}: {have}. "
            f"List them with: unspool strace {reader.record_id} -e context"
        )

    def _by_bisection(self, reader: RecordReader) -> int | None:
        """The same without reading all events: calls and steps count up. None if it is not found so."""
        positions = reader.snapshot_positions()
        events = reader.events()

        def own(position: int) -> int:
            event = events.bare(position)
            return (event.call if self.kind == "call" else event.step) or 0

        try:
            place = bisect_left(positions or (), self.number, key=own)
            event = events.bare(positions[place]) if positions and place < len(positions) else None
        except IndexError:  # damage was met, and there are fewer events than there seemed to be
            return None
        if event is None or event.type is not RecordEventType.CONTEXT_SNAPSHOT or _is_retry(event):
            return None
        return event.seq_num if (event.call if self.kind == "call" else event.step) == self.number else None


class Address(msgspec.Struct, frozen=True):
    """A recording that exists, and the point in it that was named, if one was."""

    record_id: str
    record_dir: Path
    point: Point | None = None


def load(
    address: str = "last", *, store: Store | str | os.PathLike[str] | None = None, live: bool = True
) -> RecordReader:
    """Open a recording for reading.

        reader = unspool.load("last")
        for event in reader.events(): ...

    Args:
        address: as on the command line, without a point.
        store: a store or its folder; found as the command line finds it by default.
        live: open a recording that is still being written too, as far as it goes.

    Raises:
        RecordingNotFound, AmbiguousRecordID, InvalidID: nothing, or more than one thing, has this address.
        RecordingActive: its writer is alive and `live` is false.
        CorruptRecording: it cannot be read.
        UsageError: the address names a point.
    """
    found = resolve(store if isinstance(store, Store) else find_store(store), address)
    if found.point is not None:
        raise UsageError(
            f"load opens a whole recording, {address!r} names a point in one. "
            f"Leave @{found.point} away and ask the reader: event(seq_num), context_at(seq_num)"
        )
    return RecordReader(found.record_dir, live=live)


def parse(text: str) -> tuple[str, Point | None]:
    """The two halves of an address, nothing looked up.

    Raises:
        UsageError: what follows the @ is no point.
    """
    name, at, place = text.partition("@")
    if not at:
        return name, None
    kind, colon, number = place.rpartition(":")
    is_number = number.isascii() and number.isdigit() and len(number) <= _NUMBER_MAX and int(number) > 0
    if name and is_number:
        if not colon:
            return name, Point("seq", int(number))
        if kind == "step":
            return name, Point("step", int(number))
        if kind == "call":
            return name, Point("call", int(number))
    raise UsageError(f"{text!r} names no point: write REC@SEQ, REC@step:N or REC@call:N, counted from 1")


def resolve(store: Store, text: str) -> Address:
    """The recording, and the point, that an address names. Whether the point exists is asked of a reader.

    Raises:
        RecordingNotFound, AmbiguousRecordID, InvalidID: nothing, or more than one thing, has this address.
        UsageError: the point is malformed.
        StoreError: the store cannot be read.
    """
    name, point = parse(text)
    if name == "last":
        record_id = _newest(store, name, lambda one: is_root(one) and not is_fork(one) and not is_rerun(one))
    elif name == "last-fork":
        record_id = _newest(store, name, is_fork)
    elif name.startswith("os:"):
        record_id = _of_os_process(store, name)
    elif name.isascii() and name.isdigit():
        record_id = next(names_newest_first(store, f"{name}-"), "")
        if not record_id:
            raise RecordingNotFound(name, store.records)
    else:
        record_id = RecordManager(store.records).find_record(name).name
    return Address(record_id, store.records / record_id, point)


def is_fork(metadata: RecordMetadata) -> bool:
    """Whether this recording is a run from a point of another one on."""
    return metadata.forked_at is not None


def is_rerun(metadata: RecordMetadata) -> bool:
    """Whether this recording was made by running another one again."""
    return metadata.rerun_of is not None


def is_root(metadata: RecordMetadata) -> bool:
    """Whether no other recorded process started this one."""
    return metadata.parent is None or is_fork(metadata)


def newest_first(store: Store) -> Iterator[RecordMetadata]:
    """Metadata of every recording, the newest first, read only as far as asked for.

    The order is that of the times in the ids. A recording whose writer died is `interrupted`; damaged metadata is
    rebuilt; folders that are no recordings are skipped.

    Raises:
        StoreError: the folder cannot be read.
    """
    manager = RecordManager(store.records)
    for name in names_newest_first(store):
        metadata = manager.describe(store.records / name)
        if metadata is not None:
            # A copied recording has its folder's name here; what its file says must not lead out of the store.
            yield metadata if metadata.record_id == name else msgspec.structs.replace(metadata, record_id=name)


def _newest(store: Store, name: str, wanted: Callable[[RecordMetadata], bool]) -> str:
    empty = True
    for metadata in newest_first(store):
        empty = False
        if wanted(metadata):
            return metadata.record_id
    raise NoRecordings(store.records) if empty else RecordingNotFound(name, store.records)


def _of_os_process(store: Store, name: str) -> str:
    """The outermost agent process of an OS process: sub-agents inside it have recordings of their own."""
    number = name.removeprefix("os:")
    if not (number.isascii() and number.isdigit()):
        raise UsageError(f"{name!r}: os: takes the number of an OS process, for example os:4711")
    found: RecordMetadata | None = None
    for metadata in newest_first(store):
        if str(metadata.os_pid) != number:
            continue
        if found is not None and _life(metadata) != _life(found):
            break  # an earlier process with the same number
        found = metadata
    if found is None:
        raise RecordingNotFound(name, store.records)
    return found.record_id


def _life(metadata: RecordMetadata) -> tuple[str | None, str | None, int | None]:
    return metadata.host, metadata.boot_id, metadata.os_start


def names_newest_first(store: Store, prefix: str = "") -> Iterator[str]:
    """Names of the folders that may be recordings and begin so, the newest first; nothing in them is read.

    Raises:
        StoreError: the folder of recordings cannot be read.
    """
    try:
        names = [name for name in os.listdir(store.records) if name.startswith(prefix)]
    except FileNotFoundError:
        return iter(())
    except OSError as exc:
        raise StoreError(f"cannot list the recordings in {store.records}: {exc.strerror or exc}") from exc
    return iter(sorted(names, key=lambda name: _stamp(store, name), reverse=True))


def _stamp(store: Store, name: str) -> tuple[str, int]:
    """When a recording began, as far as its name tells (else its folder), and its PID: children come after parents."""
    if match := _STAMPED.fullmatch(name):
        return match[2], int(match[1])
    seconds, pid = 0.0, 0
    if match := _UNIX_STAMPED.fullmatch(name):
        pid, seconds = int(match[1]), float(match[2])
    else:
        try:
            seconds = (store.records / name).stat().st_mtime
        except OSError:  # removed meanwhile; reading it will find out
            seconds = 0.0
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%S"), pid


def _is_retry(event: RecordEvent) -> bool:
    return event.context is not None and event.context.retry
