"""`metadata.json`: who made a recording, of what, and how it ended. Written atomically; read with every doubt."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from unspool.errors import CorruptRecording, UnsupportedFormat
from unspool.events import RecordMetadata, RecordStatus
from unspool.recording.lines import decode_json, to_wire
from unspool.store import FORMAT_VERSION, boot_id, host_name, new_hex_id, os_process_start

__all__ = ["METADATA_NAME", "metadata_to_json", "new_metadata", "read_metadata", "write_metadata"]

METADATA_NAME = "metadata.json"
UNSET_TIME = "0001-01-01T00:00:00Z"  # how the reference writes a time that is not set
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def new_metadata(pid: int, intent: str, fields: dict[str, Any]) -> RecordMetadata:
    """Metadata of a recording that starts now in this OS process; `record_id` is still empty.

    Args:
        fields: more fields, also in place of what this process and this moment would say: a run that is imported
            happened elsewhere and at another time.
    """
    os_pid = os.getpid()
    here: dict[str, Any] = {
        "start_time": datetime.now(UTC),
        "span_base": new_hex_id()[:24],
        "host": host_name(),
        "boot_id": boot_id(),
        "os_pid": os_pid,
        "os_start": os_process_start(os_pid),
    }
    return RecordMetadata(record_id="", pid=pid, intent=intent, **{**here, **fields})


def metadata_to_json(metadata: RecordMetadata) -> bytes:
    """The wire form, indented: unset times in the reference's way, fields without a value left out."""
    wire: dict[str, Any] = {}
    for name in metadata.__struct_fields__:
        value = getattr(metadata, name)
        if name in ("start_time", "end_time"):
            wire[name] = UNSET_TIME if value is None else to_wire(value)
        elif value is not None and value != {}:
            wire[name] = to_wire(value)
    try:
        return (json.dumps(wire, indent=2, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:  # an undecodable byte in a path or an argument
        return (json.dumps(wire, indent=2) + "\n").encode()


def write_metadata(record_dir: Path, metadata: RecordMetadata, *, durable: bool = False) -> None:
    """Replace the file in one step, so that a crash leaves the old one or the new one.

    On a full disk an existing file is overwritten in place, if it fits: how a recording ended and what it lost is
    worth more than the small risk.

    Args:
        durable: wait until the disk has it (power loss); costs milliseconds.

    Raises:
        OSError: it cannot be written.
    """
    data = metadata_to_json(metadata)
    path = record_dir / METADATA_NAME
    temporary = record_dir / f".{METADATA_NAME}.{os.getpid()}"
    try:
        _write_file(temporary, data, durable)
        os.replace(temporary, path)
    except OSError as exc:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if exc.errno not in _FULL or not _overwrite(path, data):
            raise
    if durable:
        folder = os.open(record_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)  # the rename
        finally:
            os.close(folder)


def _write_file(path: Path, data: bytes, durable: bool) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        if os.write(fd, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)


def _overwrite(path: Path, data: bytes) -> bool:
    """Write into the blocks the file has already; whether that worked."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        before = os.fstat(fd)
        padded = data.ljust(before.st_size)  # white space after the JSON
        return len(padded) <= before.st_blocks * 512 and os.pwrite(fd, padded, 0) == len(padded)
    except OSError:
        return False
    finally:
        os.close(fd)


def read_metadata(record_dir: Path) -> RecordMetadata:
    """What the file says, as it says it (a status `recording` is not checked against the writer here).

    Raises:
        OSError: it cannot be read; FileNotFoundError if there is none.
        UnsupportedFormat: a newer unspool wrote it.
        CorruptRecording: it is no metadata.
    """
    path = record_dir / METADATA_NAME
    try:
        raw = decode_json(path.read_bytes())
    except ValueError as exc:
        raise CorruptRecording(record_dir, f"{METADATA_NAME} is not JSON ({exc})") from exc
    if not isinstance(raw, dict):
        raise CorruptRecording(record_dir, f"{METADATA_NAME} is not a JSON object")
    # The reference writes no version: its recordings are format 0, read by the same rules.
    version = raw["format_version"] = _major(raw.get("format_version", 0))
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise UnsupportedFormat(record_dir, version, FORMAT_VERSION)
    status = raw.get("status")
    if status not in RecordStatus.__members__.values():
        import logging  # only readers say anything; a program being recorded shall not wait for this import

        logging.getLogger("unspool").warning("%s: unknown status %r, taken for interrupted", path, status)
        raw["status"] = RecordStatus.INTERRUPTED.value
    for key in ("start_time", "end_time"):
        if raw.get(key) == UNSET_TIME:
            raw[key] = None
    raw.setdefault("intent", "")
    try:
        metadata = msgspec.convert(raw, RecordMetadata)
        return msgspec.structs.replace(metadata, start_time=_utc(metadata.start_time), end_time=_utc(metadata.end_time))
    except (ValueError, OverflowError) as exc:
        raise CorruptRecording(record_dir, f"{METADATA_NAME}: {exc}") from exc


def _major(version: Any) -> Any:
    """The whole number in `2`, `2.1` and `"2.1"`; what has none as it is."""
    if isinstance(version, str) and (head := version.partition(".")[0]).isdecimal() and len(head) < 10:
        return int(head)
    return int(version) if isinstance(version, float) and math.isfinite(version) else version


def _utc(value: datetime | None) -> datetime | None:
    if value is None or value.year <= 1:
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
