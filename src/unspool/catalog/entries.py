"""One recording as lists know it: its metadata without what no list shows, its sums, and the files both are from."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from unspool.catalog.sums import Counter, PriceBook, Sums
from unspool.errors import CorruptRecording, StoreError
from unspool.events import RecordMetadata, RecordStatus
from unspool.recording.eventlog import EVENTS_NAME
from unspool.recording.manager import RecordManager
from unspool.recording.metadata import METADATA_NAME
from unspool.recording.pool import POOL_NAME
from unspool.recording.reader import RecordReader
from unspool.store import writer_is_alive

__all__ = ["Entry", "can_go_on", "have_grown", "is_fresh", "pool_signature", "read_entry", "signature_of"]

_FILE: Final = struct.Struct("<QQQ")
_NOTHING: Final = _FILE.pack(0, 0, 0)
_MAX: Final = (1 << 64) - 1
_KEPT_EXTRA: Final = ("edits", "bisect")


@dataclass(eq=False)
class Entry:
    """What lists know of a recording.

    Attributes:
        signature: of the files it was made from, taken before they were read.
        prices: version of the public prices in the sums.
        metadata: `status` is what it was then; environment and packages are left out, and `extra` but for its edits
            and its place in a bisection.
        ended: nobody writes it any more: it says so itself, or its writer was found dead.
        readable: its events could be read, and not only its metadata.
    """

    signature: bytes
    prices: str
    metadata: RecordMetadata
    sums: Sums
    ended: bool
    readable: bool = True

    @property
    def name(self) -> str:
        """The record id."""
        return self.metadata.record_id


def _of_file(path: str) -> bytes:
    try:
        found = os.stat(path)
    except OSError:
        return _NOTHING
    # Every write, rename and touch sets the time of the last change, and nobody can set it back.
    return _FILE.pack(found.st_ino & _MAX, found.st_size, found.st_ctime_ns & _MAX)


def signature_of(folder: str) -> bytes:
    """Equal as long as nothing was written to a recording's events and metadata, and it is the same recording."""
    return _of_file(f"{folder}/{METADATA_NAME}") + _of_file(f"{folder}/{EVENTS_NAME}")


def pool_signature(folder: str) -> bytes:
    """The same for its messages, which count when its texts are searched."""
    return _of_file(f"{folder}/{POOL_NAME}")


def is_fresh(entry: Entry, folder: str) -> bool:
    """Whether an entry still says what the files do, and its writer is as it was."""
    # First the lock: a writer that ends writes its last metadata before it lets go of it.
    if not entry.ended and not writer_is_alive(folder):
        return False
    return signature_of(folder) == entry.signature


def read_entry(folder: Path, book: PriceBook, before: Entry | None = None) -> Entry | None:
    """Read a recording; None if the folder is none.

    Args:
        before: what was known of it; events counted there are not read again if the file only grew.
    """
    signature = signature_of(os.fspath(folder))
    metadata = RecordManager(folder.parent).describe(folder)
    if metadata is None:
        return None
    metadata = _slim(metadata)
    ended = metadata.status is not RecordStatus.RECORDING
    try:
        with RecordReader(folder, live=True) as reader:
            sums = _go_on(reader, before, signature)
            if sums is None:
                sums = Sums()
            counter = Counter(book, metadata.start_time, sums)
            for event in reader.bare_events(sums.events):
                counter.add(event)
    except (CorruptRecording, StoreError):
        lost = Sums(lost=metadata.lost_events)
        return Entry(signature, book.public_version, metadata, lost, ended, readable=False)
    # Of one that has ended its metadata says how many there were; what cannot be read now is lost too.
    sums.lost = metadata.lost_events + (max(metadata.event_count - sums.events, 0) if ended else 0)
    return Entry(signature, book.public_version, metadata, sums, ended)


def _go_on(reader: RecordReader, before: Entry | None, signature: bytes) -> Sums | None:
    """The counts to go on with, if the file was being written and has grown, undamaged, since.

    Files of a recording that has ended are not written any more: where they were, anything may have been changed.
    """
    if before is None or before.ended or not before.readable:
        return None
    if not have_grown(before.signature, signature):
        return None
    sums = before.sums
    if not can_go_on(reader, sums.events, sums.last):
        return None
    return msgspec.msgpack.decode(msgspec.msgpack.encode(sums), type=Sums)  # the entry before may be in use


def can_go_on(reader: RecordReader, events: int, last: int) -> bool:
    """Whether the first so many events are those that were read before, as far as the last of them tells."""
    if not 0 < events <= reader.event_count or reader.last_seq != reader.event_count:
        return False
    try:
        event = reader.events().bare(events - 1)
    except IndexError:
        return False
    return event.seq_num == events and event.timestamp == last and reader.last_seq == reader.event_count


def have_grown(before: bytes, now: bytes) -> bool:
    """Whether two signatures are of the same files, none of which got shorter, whatever the metadata is."""
    files = list(zip(_FILE.iter_unpack(before), _FILE.iter_unpack(now), strict=False))[1:]
    return len(before) == len(now) and all(old[0] == new[0] and old[1] <= new[1] for old, new in files)


def _slim(metadata: RecordMetadata) -> RecordMetadata:
    extra = {name: metadata.extra[name] for name in _KEPT_EXTRA if metadata.extra.get(name) is not None}
    return msgspec.structs.replace(metadata, env=None, env_names=None, packages=None, extra=extra)
