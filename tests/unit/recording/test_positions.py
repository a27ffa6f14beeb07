"""Finding snapshots in large recordings without decoding what lies between."""

from __future__ import annotations

import random

import pytest

from unspool.errors import NoSnapshot
from unspool.events import ContextSnapshotData, RecordEvent, RecordEventType
from unspool.recording import Recorder, RecordReader, eventlog
from unspool.recording.address import Point


def call(number: int, step: int, retry: bool = False) -> RecordEvent:
    data = ContextSnapshotData(model='{"type":"context_snapshot"', retry=retry)
    return RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, 1, 1, context=data, call=number, step=step)


@pytest.fixture
def recording(recorder, syscall):
    """Forty calls, every fifth of them a retry of the one before, with other events between."""
    rng = random.Random(5)
    step = 0
    for number in range(1, 41):
        step += number % 5 != 0
        for _ in range(rng.randint(0, 4)):
            recorder.write_event(syscall({"n": "x" * rng.randint(0, 300), "like": '\n{"type":"context_snapshot"'}))
        recorder.write_event(call(number, step, retry=number % 5 == 0))
    return recorder


def is_snapshot(event: RecordEvent) -> bool:
    return event.type is RecordEventType.CONTEXT_SNAPSHOT


@pytest.mark.parametrize("chunk", [7, 30, 100, 1 << 20])
def test_positions_are_those_of_the_snapshots(recording, monkeypatch, chunk):
    monkeypatch.setattr(eventlog, "_CHUNK", chunk)
    with RecordReader(recording.record_dir, live=True) as reader:
        wanted = [index for index, event in enumerate(reader.bare_events()) if is_snapshot(event)]
        assert list(reader.snapshot_positions()) == wanted


def test_points_are_the_same_as_found_one_by_one(recording, monkeypatch):
    with RecordReader(recording.record_dir, live=True) as reader:
        fast = [Point(kind, number).seq_num(reader) for kind in ("call", "step") for number in range(1, 33)]
        monkeypatch.setattr(RecordReader, "snapshot_positions", lambda self: None)
        slow = [Point(kind, number).seq_num(reader) for kind in ("call", "step") for number in range(1, 33)]
        assert fast == slow
        with pytest.raises(NoSnapshot, match="its steps are 1 to 32"):
            Point("step", 33).seq_num(reader)


def test_numbers_out_of_order_and_damaged_lines_are_found_too(tmp_path, recording):
    with Recorder(tmp_path / "odd", 1, "x") as recorder:
        for number in (3, 1, 2, 5, 4):
            recorder.write_event(call(number, number))
    with RecordReader(recorder.record_dir) as reader:
        assert [Point("call", number).seq_num(reader) for number in range(1, 6)] == [2, 3, 1, 5, 4]
    recording.close()
    path = recording.record_dir / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    with RecordReader(recording.record_dir) as reader:
        wanted = Point("call", 40).seq_num(reader)
    lines[3] = b"junk\n"
    path.write_bytes(b"".join(lines))
    with RecordReader(recording.record_dir) as reader:
        assert reader.snapshot_positions() is None
        assert Point("call", 40).seq_num(reader) == wanted
