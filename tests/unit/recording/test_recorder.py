"""The writer: numbers, lines, ends, and what it must not do to the program."""

from __future__ import annotations

import json
import os
import signal
import stat
import threading
from datetime import UTC, datetime

import pytest

from unspool.errors import RecorderClosed, StoreError
from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    RecordEvent,
    RecordEventType,
    RecordStatus,
    StateChangeData,
)
from unspool.recording import Recorder, RecordReader
from unspool.recording.metadata import read_metadata
from unspool.recording.recorder import BodyStore
from unspool.store import writer_is_alive


def test_numbers_count_from_one_and_ignore_what_the_event_carried(recorder, syscall, lines):
    event = syscall()
    event.seq_num = 77
    assert [recorder.write_event(event) for _ in range(3)] == [1, 2, 3]
    assert event.seq_num == 77, "the caller's event is not changed"
    assert [line["seq_num"] for line in lines(recorder.record_dir / "events.jsonl")] == [1, 2, 3]
    assert recorder.event_count == 3


def test_type_is_the_first_key_of_every_line(recorder, syscall):
    recorder.write_event(syscall())
    recorder.write_event(syscall({"odd": float("nan"), "more": "\ud800"}))
    recorder.write_event(snapshot([CtxMessage("user", "hi")]))
    for line in (recorder.record_dir / "events.jsonl").read_bytes().splitlines():
        assert line.startswith(b'{"type":"')


def test_what_write_event_returned_for_is_in_the_file(recorder, syscall):
    for number in range(1, 20):
        recorder.write_event(syscall({"n": number}))
        assert (recorder.record_dir / "events.jsonl").read_bytes().count(b"\n") == number


def test_an_event_is_one_write(recorder, syscall, monkeypatch):
    writes = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: writes.append(bytes(data)) or real(fd, data))
    recorder.write_event(syscall())
    assert len(writes) == 1
    assert writes[0].endswith(b"\n")


def test_close_gives_completed_and_stop_gives_stopped(tmp_path, syscall):
    for end, status in (("close", RecordStatus.COMPLETED), ("stop", RecordStatus.STOPPED)):
        recorder = Recorder(tmp_path, 1, "x")
        recorder.write_event(syscall())
        getattr(recorder, end)()
        metadata = read_metadata(recorder.record_dir)
        assert (metadata.status, metadata.event_count) == (status, 1)
        assert metadata.start_time <= metadata.end_time <= datetime.now(UTC)


def test_only_the_first_of_close_and_stop_acts(tmp_path):
    recorder = Recorder(tmp_path, 1, "x")
    recorder.stop()
    before = (recorder.record_dir / "metadata.json").read_bytes()
    recorder.close()
    recorder.stop()
    assert (recorder.record_dir / "metadata.json").read_bytes() == before
    assert recorder.closed


def test_writing_after_the_end_is_recorder_closed(tmp_path, syscall):
    recorder = Recorder(tmp_path, 1, "x")
    recorder.close()
    with pytest.raises(RecorderClosed, match=recorder.record_id):
        recorder.write_event(syscall())
    assert recorder.lost_events == 0


def test_leaving_with_by_an_exception_is_completed_after_a_state_change_that_names_it(tmp_path):
    with pytest.raises(KeyError), Recorder(tmp_path, 1, "x") as recorder:
        raise KeyError("the door")
    reader = RecordReader(recorder.record_dir)
    assert reader.metadata.status is RecordStatus.COMPLETED
    (event,) = reader.events()
    assert event.state == StateChangeData("running", "dead", "KeyError: 'the door'")


def test_leaving_with_by_an_exception_that_cannot_be_printed(tmp_path):
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    with pytest.raises(Mute), Recorder(tmp_path, 1, "x") as recorder:
        raise Mute
    assert "Mute" in RecordReader(recorder.record_dir).events()[0].state.reason


def test_the_programs_own_exception_comes_through_when_the_disk_fails_too(tmp_path, monkeypatch):
    recorder = Recorder(tmp_path, 1, "x")
    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(KeyError), recorder:
        raise KeyError("mine")


def test_leaving_with_after_an_own_close_changes_nothing(tmp_path):
    with Recorder(tmp_path, 1, "x") as recorder:
        recorder.stop()
    assert read_metadata(recorder.record_dir).status is RecordStatus.STOPPED


def test_two_recordings_of_one_pid_in_one_second_have_two_folders(tmp_path, syscall):
    recorders = [Recorder(tmp_path, 7, "x") for _ in range(20)]
    assert len({recorder.record_id for recorder in recorders}) == 20
    for recorder in recorders:
        recorder.write_event(syscall({"me": recorder.record_id}))
        recorder.close()
    for recorder in recorders:
        assert RecordReader(recorder.record_dir).event(1).syscall.args == {"me": recorder.record_id}


def test_files_are_0600_and_folders_0700(tmp_path, syscall):
    previous = os.umask(0)
    try:
        recorder = Recorder(tmp_path / "new" / "records", 1, "x")
        recorder.write_event(snapshot([CtxMessage("user", "hi")]))
        recorder.close()
    finally:
        os.umask(previous)
    assert stat.S_IMODE(recorder.record_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(recorder.record_dir.parent.stat().st_mode) == 0o700
    for file in recorder.record_dir.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_a_recording_appears_whole(tmp_path, monkeypatch):
    """Nobody sees a folder without metadata, or one that fails half way."""
    seen = []
    real = os.rename

    def rename(old, new):
        seen.append((sorted(os.listdir(old)), os.path.exists(new)))
        real(old, new)

    monkeypatch.setattr(os, "rename", rename)
    with Recorder(tmp_path, 1, "x"):
        assert seen == [(["events.jsonl", "messages.jsonl", "metadata.json", "writer.lock"], False)]


def test_a_start_that_fails_is_store_error_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(StoreError, match="No space left"):
        Recorder(tmp_path, 1, "x")
    assert list(tmp_path.iterdir()) == []


def test_a_base_that_is_a_file_is_store_error(tmp_path):
    (tmp_path / "base").write_text("x")
    with pytest.raises(StoreError):
        Recorder(tmp_path / "base", 1, "x")


@pytest.mark.parametrize("pid", [0, -1])
def test_a_pid_below_one_is_value_error(tmp_path, pid):
    with pytest.raises(ValueError, match="pid"):
        Recorder(tmp_path, pid, "x")


def test_the_lock_tells_that_the_writer_is_alive(tmp_path):
    recorder = Recorder(tmp_path, 1, "x")
    assert writer_is_alive(recorder.record_dir)
    recorder.close()
    assert not writer_is_alive(recorder.record_dir)


def test_a_recorder_nobody_holds_any_more_does_not_look_alive(tmp_path):
    folder = Recorder(tmp_path, 1, "x").record_dir
    assert not writer_is_alive(folder)
    assert RecordReader(folder).metadata.status is RecordStatus.INTERRUPTED


def test_metadata_says_what_is_known_while_it_records(tmp_path, syscall):
    with Recorder(tmp_path, 3, "find it", fields={"trace_id": "ab" * 16}) as recorder:
        recorder.write_event(syscall())
        wire = json.loads((recorder.record_dir / "metadata.json").read_text())
        assert wire["record_id"] == recorder.record_id
        assert (wire["pid"], wire["intent"], wire["status"]) == (3, "find it", "recording")
        assert wire["end_time"] == "0001-01-01T00:00:00Z"
        assert wire["event_count"] == 0
        assert wire["os_pid"] == os.getpid()
        assert recorder.metadata.event_count == 1
        assert recorder.metadata.trace_id == "ab" * 16


def test_odd_metadata_is_written_and_read(tmp_path):
    fields = {"cwd": "/a/\udcff", "command": ["x\ud800"], "extra": {"n": float("inf"), "b": b"x"}}
    with Recorder(tmp_path, 1, "in\udcfftent", fields=fields) as recorder:
        pass
    metadata = RecordReader(recorder.record_dir).metadata
    assert (metadata.intent, metadata.cwd, metadata.command) == ("in\udcfftent", "/a/\udcff", ["x\ud800"])


# --- faults ----------------------------------------------------------------------------------------------------------


def refuse(fd, data):
    raise OSError(28, "No space left on device")


def test_a_refused_event_is_store_error_counted_and_its_number_not_used(tmp_path, syscall, monkeypatch):
    clock = Clock(monkeypatch)
    recorder = Recorder(tmp_path, 1, "x")
    recorder.write_event(syscall())
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        with pytest.raises(StoreError, match="No space left"):
            recorder.write_event(syscall())
    with pytest.raises(StoreError, match="No space left"):
        recorder.write_event(syscall())  # not tried again within a second
    clock.pass_s(1.1)
    assert recorder.write_event(syscall()) == 2
    recorder.close()
    metadata = RecordReader(recorder.record_dir, strict=True).metadata
    assert (metadata.event_count, metadata.lost_events) == (2, 2)


def test_a_write_that_fails_half_way_is_cut_back_to_whole_lines(tmp_path, syscall, monkeypatch):
    recorder = Recorder(tmp_path, 1, "x")
    recorder.write_event(syscall())
    real = os.write
    with monkeypatch.context() as patch:
        left = [10]

        def write(fd, data):
            if not left[0]:
                refuse(fd, data)
            part = bytes(data)[: left[0]]
            left[0] -= len(part)
            return real(fd, part)

        patch.setattr(os, "write", write)
        with pytest.raises(StoreError):
            recorder.write_event(syscall())
    recorder.close()
    assert RecordReader(recorder.record_dir, strict=True).event_count == 1


def test_a_short_write_goes_on(tmp_path, syscall, monkeypatch):
    recorder = Recorder(tmp_path, 1, "x")
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:7]))
        recorder.write_event(syscall({"text": "y" * 100}))
    recorder.close()
    assert RecordReader(recorder.record_dir, strict=True).event(1).syscall.args == {"text": "y" * 100}


def test_messages_are_written_again_after_the_pool_lost_them(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    recorder = Recorder(tmp_path, 1, "x")
    messages = [CtxMessage("user", "hello " * 100)]
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        with pytest.raises(StoreError):
            recorder.write_event(snapshot(messages))
    clock.pass_s(1.1)
    recorder.write_event(snapshot(messages))
    recorder.close()
    reader = RecordReader(recorder.record_dir, strict=True)
    assert reader.event(1).context.messages == messages
    assert reader.event(1).context.prev is None, "the lost snapshot is nobody's origin"


def test_keyboard_interrupt_after_the_write_uses_the_number(tmp_path, syscall, monkeypatch):
    """A number given twice would make the reader drop one of two events."""
    recorder = Recorder(tmp_path, 1, "x")
    real = os.write

    def write(fd, data):
        real(fd, data)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(KeyboardInterrupt):
            recorder.write_event(syscall({"n": 1}))
    assert recorder.write_event(syscall({"n": 2})) == 2
    recorder.close()
    reader = RecordReader(recorder.record_dir, strict=True)
    assert [event.syscall.args["n"] for event in reader.events()] == [1, 2]


def test_keyboard_interrupt_before_the_write_loses_the_event_only(tmp_path, syscall, monkeypatch):
    recorder = Recorder(tmp_path, 1, "x")

    def write(fd, data):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(KeyboardInterrupt):
            recorder.write_event(syscall())
    assert recorder.write_event(syscall()) == 1
    recorder.close()
    assert RecordReader(recorder.record_dir, strict=True).metadata.lost_events == 1


def test_a_signal_handler_in_the_middle_of_a_write_neither_hangs_nor_breaks_it(tmp_path, syscall, monkeypatch):
    recorder = Recorder(tmp_path, 1, "x")
    real = os.write
    met = []

    def handler(*_):
        try:
            recorder.write_event(syscall({"from": "handler"}))
        except StoreError as exc:
            met.append(exc)
        recorder.close()

    def write(fd, data):
        if not met:
            signal.raise_signal(signal.SIGUSR1)
        return real(fd, data)

    previous = signal.signal(signal.SIGUSR1, handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write)
            recorder.write_event(syscall({"n": 1}))
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert len(met) == 1
    assert recorder.closed, "the close was done when the write was"
    reader = RecordReader(recorder.record_dir, strict=True)
    assert [event.syscall.args for event in reader.events()] == [{"n": 1}]
    assert (reader.metadata.status, reader.metadata.lost_events) == (RecordStatus.COMPLETED, 1)


def test_a_removed_folder_is_noticed_within_a_second_and_never_made_again(tmp_path, syscall, monkeypatch):
    clock = Clock(monkeypatch)
    recorder = Recorder(tmp_path / "records", 1, "x")
    recorder.write_event(syscall())
    for file in recorder.record_dir.iterdir():
        file.unlink()
    recorder.record_dir.rmdir()
    (tmp_path / "records").rmdir()
    clock.pass_s(1.1)
    for _ in range(3):
        with pytest.raises(StoreError, match="removed"):
            recorder.write_event(syscall())
        clock.pass_s(1.1)
    assert recorder.lost_events == 3
    with pytest.raises(StoreError):
        recorder.close()
    assert not (tmp_path / "records").exists()
    assert recorder.closed


def test_a_full_disk_does_not_lose_how_the_recording_ended(tmp_path, syscall, monkeypatch):
    recorder = Recorder(tmp_path, 1, "x")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        with pytest.raises(StoreError):
            recorder.write_event(syscall())
        recorder.close()
    metadata = RecordReader(recorder.record_dir, strict=True).metadata
    assert (metadata.status, metadata.lost_events) == (RecordStatus.COMPLETED, 1)
    assert sorted(os.listdir(recorder.record_dir)) == ["events.jsonl", "messages.jsonl", "metadata.json", "writer.lock"]


def test_an_event_with_a_field_of_the_wrong_type_is_type_error(recorder, syscall):
    event = syscall({"slow": b"path"})
    event.syscall.err = ValueError("an exception is no text")
    with pytest.raises(TypeError):
        recorder.write_event(event)
    assert recorder.lost_events == 1
    assert recorder.write_event(syscall()) == 1


class Clock:
    """The monotonic clock of the recorder, moved by hand."""

    def __init__(self, monkeypatch) -> None:
        import time

        self.offset = 0
        real = time.monotonic_ns
        monkeypatch.setattr("unspool.recording.recorder.time.monotonic_ns", lambda: real() + self.offset)

    def pass_s(self, seconds: float) -> None:
        self.offset += int(seconds * 1e9)


# --- contexts --------------------------------------------------------------------------------------------------------


def snapshot(messages, **fields) -> RecordEvent:
    context = ContextSnapshotData(messages=messages, **fields)
    return RecordEvent(type=RecordEventType.CONTEXT_SNAPSHOT, seq_num=0, timestamp=1, pid=1, context=context)


def test_a_snapshot_does_not_change_the_callers_event(recorder):
    messages = [CtxMessage("user", "hi")]
    event = snapshot(messages)
    recorder.write_event(event)
    recorder.write_event(event)
    assert event.context.messages is messages
    assert event.context.message_list is None
    assert event.seq_num == 0


def test_snapshots_extend_their_conversation(recorder):
    one, two, three = (CtxMessage("user", word) for word in ("one", "two", "three"))
    for messages in ([one], [one, two], [three], [one, two, three]):
        recorder.write_event(snapshot(messages))
    events = list(RecordReader(recorder.record_dir, live=True).events())
    assert [(event.lane, event.context.prev, event.context.kept) for event in events] == [
        (1, None, None), (1, 1, 1), (2, None, None), (1, 2, 2),
    ]  # fmt: skip


def test_bodies_written_beside_an_event_come_back(recorder, syscall):
    event = syscall()
    stored = []

    def prepare(store: BodyStore) -> None:
        bodies = (
            b'{"a": "b"}',
            b"\x00\xff",
            b"",
            b'{"a": 1}\n',
            b" [1] ",
            b'{"x": NaN}',
            b'{"long": "%s"}' % (b"z" * 900),
        )
        stored.extend((data, store.put(data, is_json=True), store.put(data)) for data in bodies)

    recorder.write_with_bodies(event, prepare)
    reader = RecordReader(recorder.record_dir, live=True)
    for data, as_json, as_bytes in stored:
        assert reader.body(as_json) == reader.body(as_bytes) == data


def test_threads_share_one_recorder(recorder, syscall):
    def write(thread: int) -> None:
        for number in range(100):
            recorder.write_event(syscall({"thread": thread, "number": number}))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = list(RecordReader(recorder.record_dir, live=True, strict=True).events())
    assert [event.seq_num for event in events] == list(range(1, 801))
    for thread in range(8):
        own = [event.syscall.args["number"] for event in events if event.syscall.args["thread"] == thread]
        assert own == list(range(100)), "each thread's events are in its order"
