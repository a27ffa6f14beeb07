"""Who answered requests of a trace: noted once a line, read whatever else is in the file."""

from __future__ import annotations

import stat

import pytest

from unspool.errors import InvalidID
from unspool.recording.answered import answered_by, note_answered
from unspool.store import Store

TRACE = "ab" * 16


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "store").ensure()
    for name in ("1-a", "2-b"):
        (store.records / name).mkdir(parents=True)
    return store


def test_each_recording_once_in_the_order_in_which_they_answered(store):
    for name in ("2-b", "1-a", "2-b"):
        note_answered(store, TRACE, name)
    assert answered_by(store, TRACE) == ["2-b", "1-a"]
    assert stat.S_IMODE((store.traces / TRACE).stat().st_mode) == 0o700


def test_recordings_that_are_gone_and_lines_that_are_none_are_passed_over(store):
    note_answered(store, TRACE, "9-gone")
    note_answered(store, TRACE, "1-a")
    with open(store.traces / TRACE / "answered", "ab") as file:
        file.write(b"../../etc\n\n\xff\xfe\n2-b")  # the last line is torn, and right all the same
    assert answered_by(store, TRACE) == ["1-a", "2-b"]


def test_nobody_answered(store):
    assert answered_by(store, TRACE) == []


def test_a_trace_id_cannot_leave_the_folder(store):
    for use in (lambda: note_answered(store, "../x", "1-a"), lambda: answered_by(store, "../x")):
        with pytest.raises(InvalidID):
            use()
