"""Who answered requests of a trace: a line each in the recording's own folder, read whatever else is in the file."""

from __future__ import annotations

import os

import pytest

from unspool.recording.answered import ANSWERED_NAME, answered_by, answered_line, answered_traces
from unspool.store import Store

TRACE = "ab" * 16
OTHER = "cd" * 16
NAMES = ["2-20260101T000000-aaaa", "1-20260102T000000-bbbb", "3-20260103T000000-cccc"]


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "store").ensure()
    for name in NAMES:
        (store.records / name).mkdir()
    return store


def note(store, name, *lines):
    with open(store.records / name / ANSWERED_NAME, "ab") as file:
        file.write(b"".join(lines))


def test_the_recordings_that_noted_a_trace_in_order_of_their_start(store):
    note(store, NAMES[2], answered_line(TRACE))
    note(store, NAMES[0], answered_line(OTHER), answered_line(TRACE), answered_line(TRACE))
    note(store, NAMES[1], answered_line(OTHER))
    assert answered_by(store, TRACE) == [NAMES[0], NAMES[2]]
    assert answered_traces(store) == {TRACE: [NAMES[0], NAMES[2]], OTHER: [NAMES[0], NAMES[1]]}


def test_lines_that_are_none_are_passed_over(store):
    torn = answered_line(TRACE)[:20]
    note(store, NAMES[0], b"\n\xff\xfe\n", torn, answered_line(OTHER), answered_line("../../records"), torn)
    note(store, NAMES[1], answered_line(TRACE).rstrip())  # only the newline is missing
    assert answered_traces(store) == {OTHER: [NAMES[0]], TRACE: [NAMES[1]]}
    assert (answered_by(store, TRACE), answered_by(store, OTHER)) == ([NAMES[1]], [NAMES[0]])


def test_what_is_no_file_or_no_recording_is_not_opened(store):
    os.mkfifo(store.records / NAMES[0] / ANSWERED_NAME)  # to open it would wait forever
    (store.records / NAMES[1] / ANSWERED_NAME).mkdir()
    (store.records / ".new-4-20260104T000000-dddd").mkdir()
    note(store, ".new-4-20260104T000000-dddd", answered_line(TRACE))
    (store.records / "a file").write_bytes(answered_line(TRACE))
    assert answered_by(store, TRACE) == []
    assert answered_traces(store) == {}


def test_nobody_answered(store, tmp_path):
    assert answered_by(store, TRACE) == answered_by(Store(tmp_path / "none"), TRACE) == []
    assert answered_by(store, "\ud800") == []
