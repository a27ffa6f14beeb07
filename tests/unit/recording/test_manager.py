"""Recordings by PID: start, stop, list, find, load, and what many threads may do at once."""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from unspool.errors import (
    AlreadyRecording,
    AmbiguousRecordID,
    InvalidID,
    NotRecording,
    RecordingActive,
    RecordingNotFound,
    StoreError,
    UnspoolError,
)
from unspool.events import RecordStatus
from unspool.recording import Recorder, RecordManager
from unspool.recording.metadata import read_metadata, write_metadata


@pytest.fixture
def manager(tmp_path):
    made = RecordManager(tmp_path / "records")
    yield made
    made.close_all()


def set_metadata(folder: Path, **changes) -> None:
    write_metadata(folder, msgspec.structs.replace(read_metadata(folder), **changes))


# --- recording -------------------------------------------------------------------------------------------------------


def test_making_a_manager_touches_nothing(manager):
    assert manager.list_records() == []
    assert not manager.base_dir.exists()


def test_start_write_stop(manager, syscall):
    record_id = manager.start_recording(4, "look")
    assert manager.is_recording(4)
    for _ in range(3):
        manager.record_event(4, syscall())
    assert manager.get_event_count(4) == 3
    manager.stop_recording(4)
    assert not manager.is_recording(4)
    assert manager.get_event_count(4) == 0
    metadata = manager.load_record(record_id).metadata
    assert (metadata.pid, metadata.intent, metadata.event_count, metadata.status) == (4, "look", 3, "stopped")


def test_a_pid_has_one_recording_at_a_time(manager):
    record_id = manager.start_recording(4, "a")
    with pytest.raises(AlreadyRecording, match=record_id):
        manager.start_recording(4, "b")
    assert manager.start_recording(5, "other") != record_id
    manager.stop_recording(4)
    assert manager.start_recording(4, "again") != record_id


def test_what_is_not_recorded_cannot_be_stopped(manager):
    with pytest.raises(NotRecording, match="PID 4"):
        manager.stop_recording(4)
    manager.start_recording(4, "a")
    manager.stop_recording(4)
    with pytest.raises(NotRecording):
        manager.stop_recording(4)


def test_events_of_a_pid_that_is_not_recorded_are_ignored(manager, syscall):
    manager.record_event(9, syscall())
    manager.start_recording(9, "a")
    manager.stop_recording(9)
    manager.record_event(9, syscall())
    assert manager.list_records()[0].event_count == 0


def test_an_event_that_races_with_the_stop_is_ignored(manager, syscall):
    manager.start_recording(9, "a")
    recorder = manager._active[9]
    recorder.stop()
    manager.record_event(9, syscall())


def test_the_pid_of_the_call_decides_not_that_of_the_event(manager, syscall):
    record_id = manager.start_recording(9, "a")
    event = syscall()
    event.pid = 1234
    manager.record_event(9, event)
    manager.stop_recording(9)
    assert manager.load_record(record_id).event(1).pid == 1234


def test_close_all_completes_every_recording(manager):
    ids = {manager.start_recording(pid, "x") for pid in range(1, 6)}
    manager.close_all()
    manager.close_all()
    assert not any(manager.is_recording(pid) for pid in range(1, 6))
    assert {metadata.record_id for metadata in manager.list_records()} == ids
    assert {metadata.status for metadata in manager.list_records()} == {RecordStatus.COMPLETED}


def test_close_all_logs_what_fails_and_goes_on(manager, caplog):
    manager.start_recording(1, "x")
    gone = manager._active[1].record_dir
    other = manager.start_recording(2, "x")
    shutil.rmtree(gone)
    with caplog.at_level(logging.WARNING, "unspool"):
        manager.close_all()
    assert gone.name in caplog.text
    assert [metadata.record_id for metadata in manager.list_records()] == [other]
    assert not manager.is_recording(1)


def test_a_start_that_fails_leaves_the_pid_free(tmp_path):
    (tmp_path / "records").write_text("a file")
    manager = RecordManager(tmp_path / "records")
    with pytest.raises(StoreError):
        manager.start_recording(1, "x")
    (tmp_path / "records").unlink()
    manager.start_recording(1, "x")
    manager.close_all()


def test_pids_below_one_are_value_errors(manager):
    for pid in (0, -5):
        with pytest.raises(ValueError, match="pid"):
            manager.start_recording(pid, "x")
        assert not manager.is_recording(pid)


def test_of_many_starts_at_once_exactly_one_wins_and_its_data_is_whole(manager, syscall):
    for pid in range(1, 21):
        barrier = threading.Barrier(16)
        won, lost = [], []

        def start(pid=pid, barrier=barrier, won=won, lost=lost):
            barrier.wait()
            try:
                won.append(manager.start_recording(pid, "race"))
                for number in range(5):
                    manager.record_event(pid, syscall({"n": number}))
            except AlreadyRecording as exc:
                lost.append(exc)

        threads = [threading.Thread(target=start) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(won), len(lost)) == (1, 15)
        manager.stop_recording(pid)
        reader = manager.load_record(won[0], strict=True)
        assert [event.syscall.args["n"] for event in reader.events()] == list(range(5))
        assert reader.metadata.status is RecordStatus.STOPPED
    assert len(manager.list_records()) == 20


def test_threads_may_start_write_and_stop_as_they_like(manager, syscall):
    written = []

    def work(seed: int) -> None:
        for turn in range(30):
            pid = 1 + (seed + turn) % 3
            try:
                manager.start_recording(pid, "x")
            except AlreadyRecording:
                manager.record_event(pid, syscall({"from": [seed, turn]}))
            written.append(manager.get_event_count(pid))
            try:
                manager.stop_recording(pid)
            except NotRecording:
                manager.is_recording(pid)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    manager.close_all()
    for metadata in manager.list_records():
        reader = manager.load_record(metadata.record_id, strict=True)
        assert reader.event_count == metadata.event_count
        assert metadata.status in ("stopped", "completed")


# --- listing ---------------------------------------------------------------------------------------------------------


def test_the_list_is_newest_first_with_running_ones(manager):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for pid in (2, 10, 1):
        manager.start_recording(pid, "x")
    folders = {pid: manager._active[pid].record_dir for pid in (2, 10, 1)}
    manager.stop_recording(10)
    for pid, hours in ((2, 3), (10, 1), (1, 2)):
        set_metadata(folders[pid], start_time=start + timedelta(hours=hours))
    listed = manager.list_records()
    assert [(metadata.pid, metadata.status) for metadata in listed] == [
        (2, "recording"),
        (1, "recording"),
        (10, "stopped"),
    ]


def test_the_list_shows_how_far_a_running_or_interrupted_recording_is(manager, syscall):
    manager.start_recording(1, "x")
    for _ in range(4):
        manager.record_event(1, syscall({"text": "long " * 10_000}))
    (running,) = manager.list_records()
    assert (running.status, running.event_count) == (RecordStatus.RECORDING, 4)
    manager._active.pop(1).abandon()
    (dead,) = manager.list_records()
    assert (dead.status, dead.event_count, dead.end_time) == (RecordStatus.INTERRUPTED, 4, None)


def test_the_list_keeps_recordings_with_damaged_metadata_in_their_place(manager, syscall, caplog):
    ids = []
    for pid in (1, 2, 3):
        ids.append(manager.start_recording(pid, "x"))
        manager.record_event(pid, syscall())
        manager.stop_recording(pid)
    folder = manager.base_dir / ids[1]
    newer = manager.base_dir / f"2-{datetime.now(UTC) + timedelta(hours=1):%Y%m%dT%H%M%S}-abcd"
    folder.rename(newer)
    (newer / "metadata.json").write_text("{")
    first, *others = manager.list_records()
    assert (first.record_id, first.pid, first.event_count) == (newer.name, 1, 1)  # the event says PID 1
    assert {metadata.record_id for metadata in others} == {ids[0], ids[2]}


def test_the_list_skips_what_is_no_recording(manager):
    record_id = manager.start_recording(1, "x")
    manager.close_all()
    base = manager.base_dir
    (base / "file").write_text("x")
    (base / "empty").mkdir()
    shutil.copytree(base / record_id, base / ".new-1-20260101T000000-abcd")
    (base / "dangling").symlink_to(base / "nowhere")
    assert [metadata.record_id for metadata in manager.list_records()] == [record_id]


def test_a_copied_recording_is_listed_under_the_name_that_finds_it(manager):
    record_id = manager.start_recording(1, "x")
    manager.close_all()
    shutil.copytree(manager.base_dir / record_id, manager.base_dir / "copy")
    for metadata in manager.list_records():
        assert manager.find_record(metadata.record_id).name == metadata.record_id


def test_a_base_that_cannot_be_listed_is_store_error(tmp_path):
    (tmp_path / "records").write_text("a file")
    with pytest.raises(StoreError):
        RecordManager(tmp_path / "records").list_records()


def test_a_newer_recording_is_left_out_with_a_warning(manager, caplog):
    record_id = manager.start_recording(1, "x")
    manager.close_all()
    path = manager.base_dir / record_id / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 9}))
    with caplog.at_level(logging.WARNING, "unspool"):
        assert manager.list_records() == []
    assert "pip install -U unspool" in caplog.text


def test_a_recording_that_ends_while_it_is_listed_is_not_interrupted(manager, monkeypatch):
    """Its metadata is read after asking for the lock: the other way round it would look dead."""
    manager.start_recording(1, "x")
    from unspool.recording import manager as module

    def ask_and_end(folder):
        alive = os.path.exists(folder)
        manager.stop_recording(1)
        return alive

    monkeypatch.setattr(module, "writer_is_alive", ask_and_end)
    assert manager.list_records()[0].status is RecordStatus.STOPPED


# --- finding ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def three(manager):
    for name in ("12-20260101T000000-aaaa", "12-20260101T000000-abbb", "3-1772358300"):
        with Recorder(manager.base_dir, 1, "x") as recorder:
            pass
        recorder.record_dir.rename(manager.base_dir / name)
    return manager


def test_a_whole_id_or_a_unique_prefix_finds_a_recording(three):
    for wanted, name in (
        ("12-20260101T000000-aaaa", "12-20260101T000000-aaaa"),
        ("12-20260101T000000-ab", "12-20260101T000000-abbb"),
        ("3", "3-1772358300"),
    ):
        found = three.find_record(wanted)
        assert found == three.base_dir / name
        with three.load_record(wanted) as reader:
            assert reader.record_dir == found


def test_a_whole_id_wins_over_longer_ones(three):
    shutil.copytree(three.base_dir / "3-1772358300", three.base_dir / "3-17723583")
    assert three.find_record("3-17723583").name == "3-17723583"


def test_a_prefix_of_several_is_ambiguous_and_names_them(three):
    with pytest.raises(AmbiguousRecordID) as caught:
        three.find_record("12-2026")
    assert caught.value.candidates == ["12-20260101T000000-aaaa", "12-20260101T000000-abbb"]


def test_what_is_not_there_is_recording_not_found(three, tmp_path):
    for wanted in ("4", "12-20260101T000000-aaaaa", "aaaa"):
        with pytest.raises(RecordingNotFound, match=wanted):
            three.find_record(wanted)
    with pytest.raises(RecordingNotFound):
        RecordManager(tmp_path / "nowhere").load_record("1")


def test_the_empty_id_finds_nothing_even_if_there_is_only_one(manager):
    manager.start_recording(1, "x")
    with pytest.raises(UnspoolError):
        manager.find_record("")


@pytest.mark.parametrize(
    "wanted", ["../x", "..", ".", "/etc", "a/b", "-x", "a..b", "a\x00", "é", "x" * 200, " ", "a\n"]
)
def test_ids_cannot_leave_the_folder(three, wanted):
    (three.base_dir.parent / "x").mkdir()
    (three.base_dir.parent / "x" / "metadata.json").write_text("{}")
    with pytest.raises(InvalidID):
        three.find_record(wanted)
    with pytest.raises(InvalidID):
        three.load_record(wanted)


def test_loading_a_running_recording_needs_live(manager):
    record_id = manager.start_recording(1, "x")
    with pytest.raises(RecordingActive, match=record_id):
        manager.load_record(record_id)
    assert manager.load_record(record_id, live=True).metadata.status is RecordStatus.RECORDING
