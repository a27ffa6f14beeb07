"""`metadata.json`: who made a recording, of what, and how it ended. Written atomically; read with every doubt."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from unspool.errors import CorruptRecording, UnsupportedFormat
from unspool.events import RecordMetadata, RecordStatus
from unspool.store import FORMAT_VERSION

__all__ = ["METADATA_NAME", "metadata_to_json", "read_metadata", "write_metadata"]

METADATA_NAME = "metadata.json"
UNSET_TIME = "0001-01-01T00:00:00Z"  # how the reference writes a time that is not set

logger = logging.getLogger("unspool")


def metadata_to_json(metadata: RecordMetadata) -> bytes:
    """The wire form, indented: unset times in the reference's way, fields without a value left out."""
    wire: dict[str, Any] = {}
    for key, value in msgspec.to_builtins(metadata).items():
        if key in ("start_time", "end_time"):
            wire[key] = UNSET_TIME if value is None else value
        elif value is not None and value != {}:
            wire[key] = value
    return msgspec.json.format(msgspec.json.encode(wire), indent=2) + b"\n"


def write_metadata(record_dir: Path, metadata: RecordMetadata, *, durable: bool = False) -> None:
    """Replace the file in one step, so that a crash leaves the old one or the new one.

    Args:
        durable: wait until the disk has it (power loss); costs milliseconds.
    """
    path = record_dir / METADATA_NAME
    temporary = record_dir / f".{METADATA_NAME}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        data = metadata_to_json(metadata)
        if os.write(fd, data) != len(data):
            raise OSError("disk full")
        if durable:
            os.fsync(fd)
    except OSError:
        os.close(fd)
        os.unlink(temporary)
        raise
    os.close(fd)
    os.replace(temporary, path)


def read_metadata(record_dir: Path) -> RecordMetadata:
    """What the file says, as it says it (a status `recording` is not checked against the writer here).

    Raises:
        FileNotFoundError: there is none.
        UnsupportedFormat: a newer unspool wrote it.
        CorruptRecording: it is no metadata.
    """
    path = record_dir / METADATA_NAME
    data = path.read_bytes()
    try:
        raw = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise CorruptRecording(record_dir, f"{METADATA_NAME} is not JSON ({exc})") from exc
    if not isinstance(raw, dict):
        raise CorruptRecording(record_dir, f"{METADATA_NAME} is not a JSON object")
    version = raw.get("format_version", 0)
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise UnsupportedFormat(record_dir, version, FORMAT_VERSION)
    status = raw.get("status")
    if status not in RecordStatus.__members__.values():
        logger.warning("%s: unknown status %r, taken for interrupted", path, status)
        raw["status"] = RecordStatus.INTERRUPTED.value
    for key in ("start_time", "end_time"):
        if raw.get(key) == UNSET_TIME:
            raw[key] = None
    # The reference has no version: its recordings are format 0, read by the same rules.
    raw.setdefault("format_version", 0)
    raw.setdefault("intent", "")
    try:
        metadata = msgspec.convert(raw, RecordMetadata, strict=False)
    except msgspec.ValidationError as exc:
        raise CorruptRecording(record_dir, f"{METADATA_NAME}: {exc}") from exc
    return msgspec.structs.replace(
        metadata, start_time=_utc(metadata.start_time), end_time=_utc(metadata.end_time)
    )


def _utc(value: datetime | None) -> datetime | None:
    if value is None or value.year <= 1:
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
