"""Readers that stay open: the same one again, and never one that has not seen what is in the files."""

from __future__ import annotations

import json
import threading

import pytest

from unspool.errors import UnspoolError
from unspool.events import RecordEvent, RecordEventType, StateChangeData
from unspool.recording.recorder import Recorder
from unspool.web.readers import ReaderPool, Readers


def state(at: int) -> RecordEvent:
    return RecordEvent(RecordEventType.STATE_CHANGE, 0, at, 1, state=StateChangeData("running", "waiting", f"at {at}"))


def test_the_same_reader_comes_again(store, record):
    pool, name = ReaderPool(store), record()
    with pool.lend(name) as first:
        with pool.lend(name) as nested:
            assert nested is first
    with pool.lend(name) as again:
        assert again is first


def test_two_threads_never_have_the_same_reader(store, record):
    pool, name = ReaderPool(store), record()
    found = []

    def other() -> None:
        with pool.lend(name) as reader:
            found.append(reader)

    with pool.lend(name) as mine:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert found[0] is not mine


def test_what_was_written_since_is_seen(store):
    pool = ReaderPool(store)
    with Recorder(store.records, store.next_pid(), "goes on") as recorder:
        recorder.write_event(state(1))
        with pool.lend(recorder.record_id) as reader:
            assert reader.event_count == 1
        recorder.write_event(state(2))
        with pool.lend(recorder.record_id) as again:
            assert again is reader
            assert again.event_count == 2
            assert str(again.metadata.status) == "recording"
    with pool.lend(recorder.record_id) as reader:
        assert str(reader.metadata.status) == "completed"


def test_a_recording_that_was_replaced_is_read_anew(store, record):
    pool, name = ReaderPool(store), record(calls=1)
    with pool.lend(name) as reader:
        count = reader.event_count
    path = store.records / name / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    with pool.lend(name) as again:
        assert again is not reader
        assert again.event_count == count - 1
    meta = store.records / name / "metadata.json"
    changed = json.loads(meta.read_text()) | {"intent": "another name"}
    meta.write_text(json.dumps(changed))
    with pool.lend(name) as again:
        assert again.metadata.intent == "another name"


def test_one_that_cannot_be_read_is_none_for_a_page(store):
    pool = ReaderPool(store)
    (store.records / "9-broken").mkdir(parents=True)
    with Readers(pool) as readers:
        assert readers.get("9-broken") is None
    with pytest.raises(UnspoolError), pool.lend("9-broken"):
        pass
