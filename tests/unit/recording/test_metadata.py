"""metadata.json: one file, replaced in one step, read with doubt."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime

import pytest

from unspool.errors import CorruptRecording
from unspool.events import RecordMetadata, RecordStatus
from unspool.recording.metadata import metadata_to_json, read_metadata, write_metadata

NOW = datetime(2026, 3, 1, 9, 45, 0, 123456, tzinfo=UTC)
METADATA = RecordMetadata(record_id="1-x", pid=1, intent="é\u2028", start_time=NOW)


def test_written_and_read_it_is_the_same(tmp_path):
    write_metadata(tmp_path, METADATA, durable=True)
    assert read_metadata(tmp_path) == METADATA
    assert os.listdir(tmp_path) == ["metadata.json"]


def test_the_seeds_keys_come_first_and_times_are_rfc_3339():
    wire = json.loads(metadata_to_json(METADATA))
    assert list(wire)[:7] == ["record_id", "pid", "intent", "start_time", "end_time", "event_count", "status"]
    assert wire["start_time"] == "2026-03-01T09:45:00.123456Z"
    assert wire["end_time"] == "0001-01-01T00:00:00Z"
    assert wire["format_version"] == 1
    assert "parent" not in wire


def test_it_is_indented():
    assert metadata_to_json(METADATA).startswith(b'{\n  "record_id": "1-x",\n')


def test_a_crash_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    write_metadata(tmp_path, METADATA)

    def crash(fd, data):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", crash)
        with pytest.raises(KeyboardInterrupt):
            write_metadata(tmp_path, RecordMetadata(record_id="1-x", pid=1, intent="new"))
    assert read_metadata(tmp_path) == METADATA


def test_an_error_other_than_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_metadata(tmp_path, METADATA)

    def fail(fd, data):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        with pytest.raises(OSError, match="Input/output"):
            write_metadata(tmp_path, RecordMetadata(record_id="1-x", pid=1, intent="new"))
    assert read_metadata(tmp_path) == METADATA
    assert os.listdir(tmp_path) == ["metadata.json"]


def test_on_a_full_disk_a_longer_and_a_shorter_text_replace_the_old_one_in_place(tmp_path, monkeypatch):
    write_metadata(tmp_path, METADATA)

    def full(fd, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        for intent in ("longer " * 50, "s"):
            changed = RecordMetadata(record_id="1-x", pid=1, intent=intent, status=RecordStatus.COMPLETED)
            write_metadata(tmp_path, changed)
            assert read_metadata(tmp_path) == changed
        with pytest.raises(OSError, match="No space"):
            write_metadata(tmp_path, RecordMetadata(record_id="1-x", pid=1, intent="much longer " * 5000))
    assert read_metadata(tmp_path).intent == "s"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+00:00", None),
        ("2026-03-01T17:45:00.123456789+08:00", NOW.replace(microsecond=123457)),
        ("2026-03-01T09:45:00Z", NOW.replace(microsecond=0)),
        ("2026-03-01T09:45:00", NOW.replace(microsecond=0)),
    ],
)
def test_times_of_other_writers(tmp_path, text, expected):
    wire = {"record_id": "1-x", "pid": 1, "intent": "", "status": "completed", "start_time": text, "end_time": text}
    (tmp_path / "metadata.json").write_text(json.dumps(wire))
    metadata = read_metadata(tmp_path)
    assert (metadata.start_time, metadata.end_time) == (expected, expected)
    assert metadata.format_version == 0


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-10:00", "yesterday", "2026-13-01T00:00:00Z"])
def test_impossible_times_are_corrupt(tmp_path, text):
    wire = {"record_id": "1-x", "pid": 1, "intent": "", "status": "completed", "start_time": text}
    (tmp_path / "metadata.json").write_text(json.dumps(wire))
    with pytest.raises(CorruptRecording):
        read_metadata(tmp_path)
