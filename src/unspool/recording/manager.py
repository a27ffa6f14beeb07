"""Recordings of many agent processes in one folder: start, write, stop, list, find, load."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from unspool.errors import (
    AlreadyRecording,
    AmbiguousRecordID,
    CorruptRecording,
    NotRecording,
    RecorderClosed,
    RecordingNotFound,
    StoreError,
)
from unspool.events import RecordEvent, RecordMetadata, RecordStatus
from unspool.recording.eventlog import EVENTS_NAME
from unspool.recording.metadata import METADATA_NAME, read_metadata
from unspool.recording.reader import RecordReader
from unspool.recording.recorder import Recorder
from unspool.recording.tail import last_seq_of
from unspool.store import check_id, writer_is_alive

__all__ = ["RecordManager"]

logger = logging.getLogger("unspool")
_managers: weakref.WeakSet[RecordManager] = weakref.WeakSet()


class RecordManager:
    """Recorders by PID, and the recordings in a folder. Safe to use from many threads.

    Args:
        base_dir: the folder of recordings. Nothing is touched until the first recording starts.
    """

    def __init__(self, base_dir: str | os.PathLike[str]) -> None:
        self._base = Path(base_dir)
        self._reset()
        _managers.add(self)

    def _reset(self) -> None:
        """Nothing is recorded; after fork this holds for the child, whatever its parent records."""
        self._lock = threading.RLock()
        self._active: dict[int, Recorder | None] = {}  # None while a recorder is being made

    @property
    def base_dir(self) -> Path:
        """The folder of recordings."""
        return self._base

    # --- writing -----------------------------------------------------------------------------------------------------

    def start_recording(self, pid: int, intent: str) -> str:
        """Start a recording for `pid` and give its id.

        Raises:
            AlreadyRecording: the PID has an active one.
            StoreError: it cannot be created.
            ValueError: pid is below 1.
        """
        with self._lock:
            if pid in self._active:
                current = self._active[pid]
                raise AlreadyRecording(pid, current.record_id if current is not None else None)
            # The place is taken before the disk is touched, so that two starts cannot share a folder.
            self._active[pid] = None
        try:
            recorder = Recorder(self._base, pid, intent)
        except BaseException:
            with self._lock:
                self._active.pop(pid, None)
            raise
        with self._lock:
            self._active[pid] = recorder
        return recorder.record_id

    def stop_recording(self, pid: int) -> None:
        """End the recording of `pid` with status `stopped`.

        Raises:
            NotRecording: there is none.
            StoreError: its final metadata could not be written.
        """
        with self._lock:
            recorder = self._active.get(pid)
            if recorder is None:
                raise NotRecording(pid)
            del self._active[pid]
        recorder.stop()

    def record_event(self, pid: int, event: RecordEvent) -> None:
        """Write an event into the recording of `pid`; nothing happens if it is not recorded.

        Raises:
            StoreError: it could not be written.
        """
        recorder = self._active.get(pid)
        if recorder is not None:
            with contextlib.suppress(RecorderClosed):  # it was stopped since the line above
                recorder.write_event(event)

    def is_recording(self, pid: int) -> bool:
        """Whether `pid` has an active recording."""
        return self._active.get(pid) is not None

    def get_event_count(self, pid: int) -> int:
        """Events written for `pid` so far; 0 if it is not recorded."""
        recorder = self._active.get(pid)
        return recorder.event_count if recorder is not None else 0

    def close_all(self) -> None:
        """End every active recording with status `completed`. What fails is logged; none stays active."""
        with self._lock:
            ending = {pid: recorder for pid, recorder in self._active.items() if recorder is not None}
            for pid in ending:
                del self._active[pid]
        for recorder in ending.values():
            try:
                recorder.close()
            except StoreError as exc:
                logger.warning("%s", exc)

    # --- reading -----------------------------------------------------------------------------------------------------

    def list_records(self) -> list[RecordMetadata]:
        """Metadata of every recording, newest first; running ones included. Empty if the folder does not exist.

        A recording whose writer died is `interrupted`. Folders that are no recordings are skipped; damaged metadata
        is rebuilt, so that no recording disappears.

        Raises:
            StoreError: the folder cannot be read.
        """
        try:
            names = os.listdir(self._base)
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise StoreError(f"cannot list the recordings in {self._base}: {exc.strerror or exc}") from exc
        folders = [self._base / name for name in names if not name.startswith(".")]
        found = [metadata for folder in folders if (metadata := self.describe(folder)) is not None]
        oldest = datetime.min.replace(tzinfo=UTC)
        found.sort(key=lambda one: (one.start_time or oldest, one.record_id), reverse=True)
        return found

    def describe(self, folder: Path) -> RecordMetadata | None:
        """The metadata of one recording as it stands now; None if this is no recording, or none we can read.

        Where the events are gone, or their file was emptied, all of them are lost, whatever the metadata says.
        """
        alive = writer_is_alive(folder)  # before its metadata, which a writer that ends replaces first
        try:
            metadata = read_metadata(folder)
        except NotADirectoryError:
            return None
        except (OSError, CorruptRecording) as exc:
            if not (folder / EVENTS_NAME).is_file():
                return None
            try:
                with RecordReader(folder, live=True) as reader:
                    return reader.metadata
            except (CorruptRecording, StoreError):
                logger.warning("%s cannot be read: %s", folder, exc)
                return None
        if metadata.status is RecordStatus.RECORDING:
            status = RecordStatus.RECORDING if alive else RecordStatus.INTERRUPTED
            count = last_seq_of(folder / EVENTS_NAME)
            metadata = msgspec.structs.replace(metadata, status=status, event_count=count)
        elif _are_gone(folder / EVENTS_NAME, metadata.event_count):
            lost = metadata.lost_events + metadata.event_count
            metadata = msgspec.structs.replace(
                metadata, status=RecordStatus.INTERRUPTED, lost_events=lost, event_count=0
            )
        # A copied recording has its folder's name here: that is what finds it.
        return msgspec.structs.replace(metadata, record_id=folder.name)

    def find_record(self, record_id: str) -> Path:
        """The folder of a recording; a prefix of its id is enough if only one recording has it.

        Raises:
            RecordingNotFound: no recording has this id or prefix, or the id is empty.
            AmbiguousRecordID: several have it.
            InvalidID: ids do not look like this.
        """
        if not record_id:
            raise RecordingNotFound(record_id, self._base)
        check_id("recording", record_id)
        exact = self._base / record_id
        if _is_recording(exact):
            return exact
        try:
            names = sorted(name for name in os.listdir(self._base) if name.startswith(record_id))
        except OSError:
            names = []
        fits = [name for name in names if _is_recording(self._base / name)]
        if not fits:
            raise RecordingNotFound(record_id, self._base)
        if len(fits) > 1:
            raise AmbiguousRecordID(record_id, fits)
        return self._base / fits[0]

    def load_record(self, record_id: str, *, live: bool = False, strict: bool = False) -> RecordReader:
        """A reader of the recording with this id or unique prefix.

        Raises:
            RecordingNotFound, AmbiguousRecordID, InvalidID: as `find_record`.
            RecordingActive, CorruptRecording: as `RecordReader`.
        """
        return RecordReader(self.find_record(record_id), live=live, strict=strict)


def _is_recording(folder: Path) -> bool:
    return (folder / METADATA_NAME).is_file() or (folder / EVENTS_NAME).is_file()


def _are_gone(events: Path, count: int) -> bool:
    """Whether none of so many events is there any more. A process that had nothing to record leaves an empty file."""
    try:
        return events.stat().st_size == 0 and count > 0
    except FileNotFoundError:
        return True
    except OSError:  # it is there, and may not be looked at: whoever reads it says so
        return False


def _after_fork_in_child() -> None:
    for manager in list(_managers):
        manager._reset()


os.register_at_fork(after_in_child=_after_fork_in_child)
