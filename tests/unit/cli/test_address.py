"""How a person names a recording and a point in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from cli_events import answer, model_call, snapshot, state, tool

import unspool
from unspool.errors import (
    AmbiguousRecordID,
    InvalidID,
    NoRecordings,
    NoSnapshot,
    RecordingActive,
    RecordingNotFound,
    SeqNotFound,
    UsageError,
)
from unspool.recording.address import Point, load, newest_first, parse, resolve
from unspool.recording.reader import RecordReader


def test_a_record_id_and_a_unique_beginning_of_it(store, make):
    record_id = make().record_id
    assert resolve(store, record_id).record_id == record_id
    assert resolve(store, record_id[:-2]).record_dir == store.records / record_id


def test_a_beginning_that_several_have_lists_them(store, make):
    ids = {make().record_id for _ in range(3)} | {make(intent="x").record_id}
    for record_id in ids:
        (store.records / record_id).rename(store.records / f"7-{record_id}")
    with pytest.raises(AmbiguousRecordID, match="fits 4 recordings"):
        resolve(store, "7-")


def test_digits_are_a_pid_never_a_prefix(store, make):
    first = make().record_id
    for _ in range(10):
        make()
    assert resolve(store, "1").record_id == first
    assert resolve(store, "10").record_id.startswith("10-")
    with pytest.raises(RecordingNotFound, match="unspool ls"):
        resolve(store, "12")


def test_a_pid_that_was_used_twice_is_its_newest_recording(store):
    for name in ("4-1700000000", "4-1800000000", "4-1750000000"):
        (store.records / name).mkdir()
        (store.records / name / "events.jsonl").touch()
    assert resolve(store, "4").record_id == "4-1800000000"


def test_last_is_the_newest_root_that_is_no_fork(store, make):
    root = make().record_id
    make(parent=root, parent_pid=1)
    make(parent=root, parent_pid=1, role="worker")
    fork = make(parent=root, forked_at=3).record_id
    assert resolve(store, "last").record_id == root
    assert resolve(store, "last-fork").record_id == fork


def test_last_in_an_empty_store_says_how_to_make_a_recording(store):
    with pytest.raises(NoRecordings, match="unspool run"):
        resolve(store, "last")
    shutil.rmtree(store.path)
    with pytest.raises(NoRecordings):
        resolve(store, "last")


def test_last_fork_without_a_fork_is_not_found(store, make):
    make()
    with pytest.raises(RecordingNotFound, match="last-fork"):
        resolve(store, "last-fork")


def test_an_os_process_is_the_outermost_agent_in_it(store, make):
    outer = make()
    make(parent=outer.record_id, parent_pid=outer.pid)
    assert resolve(store, f"os:{os.getpid()}").record_id == outer.record_id
    with pytest.raises(RecordingNotFound):
        resolve(store, "os:999999999")
    with pytest.raises(UsageError, match="os:4711"):
        resolve(store, "os:me")


@pytest.mark.parametrize("text", ["../x", "a/b", "x y", "..", "-1"])
def test_what_could_leave_the_store_is_no_id(store, text):
    with pytest.raises((InvalidID, RecordingNotFound)):
        resolve(store, text)


def test_the_empty_address_is_nothing(store, make):
    make()
    with pytest.raises(RecordingNotFound):
        resolve(store, "")


def test_a_copied_recording_goes_by_its_folder_and_metadata_cannot_lead_out(store, make):
    folder = store.records / make().record_id
    (store.records / "copy").mkdir()
    shutil.copytree(folder, store.records / "copy", dirs_exist_ok=True)
    assert {one.record_id for one in newest_first(store)} == {folder.name, "copy"}


@pytest.mark.parametrize(
    ("text", "point"),
    [("x", None), ("x@3", Point("seq", 3)), ("x@step:2", Point("step", 2)), ("last@call:12", Point("call", 12))],
)
def test_points(text, point):
    assert parse(text)[1] == point


@pytest.mark.parametrize(
    "text", ["x@", "x@0", "x@-1", "x@a", "x@step:", "x@tool:1", "@3", "x@1@2", f"x@{'9' * 5000}", "x@²"]
)
def test_what_is_no_point_is_wrong_usage(text):
    with pytest.raises(UsageError, match="REC@call:N"):
        parse(text)


def reader_of(store, recorder) -> RecordReader:
    return RecordReader(store.records / recorder.record_id, live=True)


def test_a_point_is_an_event_number(store, make):
    recorder = make(state(), snapshot(1), answer(1), tool(), snapshot(2), snapshot(3, retry=True), answer(3))
    with reader_of(store, recorder) as reader:
        assert Point("seq", 4).seq_num(reader) == 4
        assert Point("call", 1).seq_num(reader) == 2
        assert Point("call", 3).seq_num(reader) == 6
        assert Point("step", 2).seq_num(reader) == 5
        with pytest.raises(SeqNotFound, match="its events are 1 to 7"):
            Point("seq", 8).seq_num(reader)
        with pytest.raises(NoSnapshot, match="has no model call 4: its model calls are 1 to 3"):
            Point("call", 4).seq_num(reader)


def test_recordings_that_number_nothing_are_counted(store, make):
    recorder = make(snapshot(), tool(), snapshot(), snapshot(retry=True), snapshot())
    with reader_of(store, recorder) as reader:
        assert Point("call", 3).seq_num(reader) == 4
        assert Point("step", 3).seq_num(reader) == 5
        with pytest.raises(NoSnapshot):
            Point("step", 4).seq_num(reader)


def test_a_recording_without_calls_says_so(store, make):
    with reader_of(store, make(tool())) as reader, pytest.raises(NoSnapshot, match="it has no model calls"):
        Point("call", 1).seq_num(reader)


def test_newest_first_reads_only_what_is_taken(store, make, monkeypatch):
    ids = [make().record_id for _ in range(5)]
    asked = []
    monkeypatch.setattr(
        "unspool.recording.address.RecordManager.describe",
        lambda _self, folder: asked.append(folder.name),
    )
    assert next(newest_first(store), None) is None
    assert asked == ids[::-1]


def test_load_opens_a_recording(store, make):
    recorder = make(state(), *model_call(1))
    with unspool.load() as reader:
        assert reader.event_count == 4
    with load(str(recorder.pid), store=store.path) as reader:
        assert reader.record_id == recorder.record_id


def test_load_of_a_running_recording_is_live_unless_refused(store, make):
    make(state(), running=True)
    with load(store=store) as reader:
        assert reader.event_count == 1
    with pytest.raises(RecordingActive):
        load(store=store, live=False)


def test_load_of_a_point_says_what_to_call(store, make):
    make(state())
    with pytest.raises(UsageError, match=r"event\(seq_num\)"):
        load("last@1")


def test_load_needs_no_package_but_msgspec():
    code = (
        "import sys, unspool; unspool.load; print(sorted({n.split('.')[0] for n in sys.modules} & {'click', 'rich'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
