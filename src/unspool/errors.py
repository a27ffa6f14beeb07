"""Every exception unspool raises on purpose.

    UnspoolError
    ├── StoreError              the store cannot be read or written
    ├── RecordingNotFound       no recording has this id, PID or prefix
    │   └── NoRecordings        the store holds no recording at all
    ├── AmbiguousRecordID       a prefix that fits several recordings
    ├── InvalidID               an id that could leave the store's folder
    ├── RecordingActive         still being written by a live process
    ├── CorruptRecording        damaged beyond use, or damaged at all with strict=True
    ├── UnsupportedFormat       written by a newer unspool
    ├── AlreadyRecording        this PID has a recorder
    ├── NotRecording            this PID has none
    ├── RecorderClosed          write_event after close
    ├── SeqNotFound             no event with this number
    ├── NoSnapshot              no context_snapshot at or before this point
    ├── ReplayBoundary          next at the end, prev at the start, no current event
    ├── Divergence              a rerun asked for something the recording does not hold
    ├── Cancelled               the caller's stop event was set
    └── UsageError              a command got arguments that do not fit together

Messages say what happened, where, and what to do next; attributes carry the same for programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath

__all__ = [
    "AlreadyRecording",
    "AmbiguousRecordID",
    "Cancelled",
    "CorruptRecording",
    "Divergence",
    "InvalidID",
    "NoRecordings",
    "NoSnapshot",
    "NotRecording",
    "RecorderClosed",
    "RecordingActive",
    "RecordingNotFound",
    "ReplayBoundary",
    "SeqNotFound",
    "StoreError",
    "UnspoolError",
    "UnsupportedFormat",
    "UsageError",
]


class UnspoolError(Exception):
    """Base of every error unspool raises on purpose."""


class StoreError(UnspoolError):
    """The store could not be read or written."""


class RecordingNotFound(UnspoolError):
    """No recording answers to this address."""

    def __init__(self, address: str, base_dir: str | PathLike[str] | None = None) -> None:
        self.address = address
        where = f" in {fspath(base_dir)}" if base_dir is not None else ""
        super().__init__(f'recording "{address}" not found{where}. List what there is with: unspool ls')


class NoRecordings(RecordingNotFound):
    """The store holds no recording yet."""

    def __init__(self, base_dir: str | PathLike[str]) -> None:
        UnspoolError.__init__(
            self, f"no recordings in {fspath(base_dir)}. Make one with: unspool run -- python agent.py"
        )
        self.address = "last"


class AmbiguousRecordID(UnspoolError):
    """A prefix that several recordings share."""

    def __init__(self, prefix: str, candidates: Sequence[str]) -> None:
        self.prefix, self.candidates = prefix, list(candidates)
        shown = ", ".join(self.candidates[:5]) + (", …" if len(self.candidates) > 5 else "")
        super().__init__(f'"{prefix}" fits {len(self.candidates)} recordings: {shown}. Give more characters.')


class InvalidID(UnspoolError):
    """An id with characters that ids do not have."""

    def __init__(self, kind: str, value: str) -> None:
        self.kind, self.value = kind, value
        super().__init__(
            f"{value!r} is no {kind} id: ids start with a letter or digit and hold only letters, digits, "
            f"'.', '_' and '-', up to 128 characters."
        )


class RecordingActive(UnspoolError):
    """The recording is still being written by a live process."""

    def __init__(self, record_id: str, os_pid: int | None = None) -> None:
        self.record_id, self.os_pid = record_id, os_pid
        who = f" by OS process {os_pid}" if os_pid else ""
        super().__init__(
            f"{record_id} is still being written{who}. Read it as it is with live=True, "
            f"or follow it with: unspool strace {record_id}"
        )


class CorruptRecording(UnspoolError):
    """The recording cannot be read, or is damaged and strict reading was asked for."""

    def __init__(self, record_dir: str | PathLike[str], reason: str) -> None:
        self.record_dir, self.reason = fspath(record_dir), reason
        super().__init__(f"{self.record_dir}: {reason}")


class UnsupportedFormat(CorruptRecording):
    """The recording was written in a newer format than this unspool reads."""

    def __init__(self, record_dir: str | PathLike[str], found: int, supported: int) -> None:
        self.found, self.supported = found, supported
        super().__init__(
            record_dir,
            f"format version {found} is newer than this unspool reads ({supported}). Upgrade: pip install -U unspool",
        )


class AlreadyRecording(UnspoolError):
    """The PID already has an active recording."""

    def __init__(self, pid: int, record_id: str | None = None) -> None:
        self.pid, self.record_id = pid, record_id
        into = f" into {record_id}" if record_id else ""
        super().__init__(f"PID {pid} is already being recorded{into}. Stop it first, or use another PID.")


class NotRecording(UnspoolError):
    """The PID has no active recording."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        super().__init__(f"PID {pid} is not being recorded. Start it with start_recording({pid}, intent).")


class RecorderClosed(UnspoolError):
    """An event came after the recorder was closed."""

    def __init__(self, record_id: str) -> None:
        self.record_id = record_id
        super().__init__(f"{record_id} is closed: the event was not written. Start a new recording.")


class SeqNotFound(UnspoolError):
    """The recording has no event with this number."""

    def __init__(self, record_id: str, seq_num: int, last: int) -> None:
        self.record_id, self.seq_num, self.last = record_id, seq_num, last
        have = f"its events are 1 to {last}" if last else "it has no events"
        super().__init__(
            f"event with SeqNum {seq_num} not found in {record_id}: {have}. List them with: unspool strace {record_id}"
        )


class NoSnapshot(UnspoolError):
    """No context_snapshot exists at or before the point asked for."""

    def __init__(self, message: str, *, seq_num: int | None = None) -> None:
        self.seq_num = seq_num
        super().__init__(message)


class ReplayBoundary(UnspoolError):
    """The cursor cannot move further, or points at no event yet."""


class Divergence(UnspoolError):
    """A rerun asked for something the recording does not hold at that point."""


class Cancelled(UnspoolError):
    """The caller asked to stop before the work was done."""


class UsageError(UnspoolError):
    """Arguments that do not fit together; the command line exits with code 2."""
