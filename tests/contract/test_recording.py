"""unspool.recording and its errors against the contract, one sentence a test."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from unspool import errors
from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    StateChangeData,
    SyscallEventData,
)
from unspool.recording import Recorder, RecordManager, RecordMetadata, RecordReader, RecordStatus


def call(name: str = "Open", **fields) -> RecordEvent:
    return RecordEvent(type="syscall", seq_num=0, timestamp=1, pid=1, syscall=SyscallEventData(name, **fields))


def snapshot(messages, **fields) -> RecordEvent:
    return RecordEvent("context_snapshot", 0, 1, 1, context=ContextSnapshotData(messages, **fields))


def numbers(reader: RecordReader) -> list[int]:
    return [event.seq_num for event in reader.events()]


def metadata_of(folder: Path) -> dict:
    return json.loads((folder / "metadata.json").read_text())


def recorded(base: Path, count: int = 3) -> Path:
    with Recorder(base, 1, "go") as recorder:
        for number in range(count):
            recorder.write_event(call(f"C{number}"))
    return base / recorder.record_id


LINES = [
    '{"seq_num":1,"timestamp":1000,"pid":7,"type":"syscall","syscall":{"syscall":"Spawn","args":{"intent":"x"},'
    '"result":3,"duration":1500000}}',
    '{"seq_num":2,"timestamp":2000,"pid":7,"type":"context_snapshot","context":{"messages":null}}',
    '{"seq_num":3,"timestamp":3000,"pid":7,"type":"context_snapshot","context":{"messages":["[system] be",'
    '"[user] hi","[1, 2] x"]}}',
    '{"seq_num":4,"timestamp":4000,"pid":7,"type":"llm_response","llm":{"model":"m","request_tokens":0,'
    '"response_tokens":9}}',
    '{"seq_num":5,"timestamp":5000,"pid":7,"type":"state_change","state":{"from_state":"running",'
    '"to_state":"zombie","reason":""}}',
]


def reference(base: Path, lines=LINES, name: str = "7-1773460800", end: str = "\n", **fields) -> Path:
    """A recording as the reference implementation leaves it."""
    folder = base / name
    folder.mkdir(parents=True)
    metadata = {
        "record_id": name,
        "pid": 7,
        "intent": "say",
        "start_time": "2026-03-14T12:00:00.123456789+08:00",
        "end_time": "2026-03-14T12:00:09.5+08:00",
        "event_count": len(lines),
        "status": "completed",
    } | fields
    (folder / "metadata.json").write_text(json.dumps(metadata, indent=2))
    (folder / "events.jsonl").write_text("\n".join(lines) + (end if lines else ""))
    return folder


# --- the recorder -----------------------------------------------------------------------------------------------------


def test_a_recorder_writes_its_metadata_at_the_start(tmp_path):
    recorder = Recorder(tmp_path / "records", 3, "go")
    found = metadata_of(tmp_path / "records" / recorder.record_id)
    assert list(found)[:7] == ["record_id", "pid", "intent", "start_time", "end_time", "event_count", "status"]
    assert (found["record_id"], found["pid"], found["intent"]) == (recorder.record_id, 3, "go")
    assert (found["end_time"], found["event_count"], found["status"]) == ("0001-01-01T00:00:00Z", 0, "recording")
    assert datetime.fromisoformat(found["start_time"]).utcoffset() is not None
    recorder.close()


def test_a_record_id_begins_with_the_pid_and_is_unique_within_a_second(tmp_path):
    found = set()
    for _ in range(20):
        with Recorder(tmp_path, 12, "") as recorder:
            found.add(recorder.record_id)
    assert len(found) == 20
    assert all(re.fullmatch(r"12-[A-Za-z0-9._-]+", one) for one in found)


def test_files_are_0600_and_folders_0700(tmp_path):
    folder = recorded(tmp_path / "records")
    assert (tmp_path / "records").stat().st_mode & 0o777 == 0o700
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {one.stat().st_mode & 0o777 for one in folder.iterdir()} == {0o600}


def test_numbers_count_from_one_and_the_one_given_is_ignored(tmp_path):
    with Recorder(tmp_path, 1, "") as recorder:
        event = call()
        event.seq_num = 99
        recorder.write_event(event)
        recorder.write_event(event)
        assert recorder.event_count == 2
        assert event.seq_num == 99
    lines = (tmp_path / recorder.record_id / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["seq_num"] for line in lines] == [1, 2]


@pytest.mark.parametrize(("end", "status"), [("close", "completed"), ("stop", "stopped")])
def test_only_the_first_end_acts(tmp_path, end, status):
    recorder = Recorder(tmp_path, 1, "")
    recorder.write_event(call())
    getattr(recorder, end)()
    recorder.stop()
    recorder.close()
    found = metadata_of(tmp_path / recorder.record_id)
    assert (found["status"], found["event_count"]) == (status, 1)
    with pytest.raises(errors.RecorderClosed):
        recorder.write_event(call())


def test_leaving_the_block_by_an_exception_gives_completed_after_a_state_change(tmp_path):
    with pytest.raises(KeyError), Recorder(tmp_path, 1, "") as recorder:
        raise KeyError("lost")
    reader = RecordReader(tmp_path / recorder.record_id)
    assert reader.metadata.status is RecordStatus.COMPLETED
    last = reader.events()[-1]
    assert last.type == "state_change"
    assert "KeyError" in last.state.reason


def test_file_order_equals_number_order_with_many_writers(tmp_path):
    with Recorder(tmp_path, 1, "") as recorder:
        threads = [
            threading.Thread(target=lambda: [recorder.write_event(call()) for _ in range(50)]) for _ in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert numbers(RecordReader(tmp_path / recorder.record_id, strict=True)) == list(range(1, 501))


def test_a_value_that_cannot_be_encoded_falls_back_to_text_without_a_gap(tmp_path):
    with Recorder(tmp_path, 1, "") as recorder:
        recorder.write_event(call(args={"lock": threading.Lock(), "good": 1}, result=float("nan")))
        recorder.write_event(call())
    reader = RecordReader(tmp_path / recorder.record_id, strict=True)
    assert numbers(reader) == [1, 2]
    assert reader.event(1).syscall.args["good"] == 1


@pytest.mark.parametrize(
    "bad",
    [
        RecordEvent("nonsense", 0, 1, 1),
        RecordEvent("syscall", 0, 1.5, 1, syscall=SyscallEventData("x")),
        snapshot([], tokens="many"),
        snapshot([{"role": "user", "content": "a"}]),
    ],
)
def test_an_event_that_could_not_be_read_again_is_refused_and_uses_no_number(tmp_path, bad):
    with Recorder(tmp_path, 1, "") as recorder:
        with pytest.raises(TypeError):
            recorder.write_event(bad)
        recorder.write_event(call())
    assert numbers(RecordReader(tmp_path / recorder.record_id, strict=True)) == [1]


def test_an_error_of_none_is_read_as_no_error(tmp_path):
    with Recorder(tmp_path, 1, "") as recorder:
        recorder.write_event(call(args=None, err=None))
    assert RecordReader(tmp_path / recorder.record_id).event(1).syscall == SyscallEventData("Open")


@pytest.mark.parametrize(
    "bad",
    [
        RecordEvent("llm_response", 0, 1, 1, llm=LLMResponseData("m", -1, 1)),
        RecordEvent("llm_response", 0, 1, 1, llm=LLMResponseData("m", 1, -1)),
        snapshot([], tokens=-1),
    ],
)
def test_token_counts_below_zero_are_value_errors(tmp_path, bad):
    with Recorder(tmp_path, 1, "") as recorder, pytest.raises(ValueError, match="negative"):
        recorder.write_event(bad)


@pytest.mark.parametrize("pid", [0, -1])
def test_pids_count_from_one(tmp_path, pid):
    with pytest.raises(ValueError, match="pid"):
        Recorder(tmp_path, pid, "")
    with pytest.raises(ValueError, match="pid"):
        RecordManager(tmp_path).start_recording(pid, "")
    assert not RecordManager(tmp_path).is_recording(pid)


def test_events_come_back_as_they_were_written(tmp_path):
    events = [
        call(args={"a": [1, None, "é"]}, result={"b": 1.5}, err="bad", duration=7),
        RecordEvent("llm_response", 0, 2, 1, llm=LLMResponseData("m", None, 5, text="hello")),
        RecordEvent("state_change", 0, 3, 1, state=StateChangeData("running", "dead", "why")),
        snapshot([CtxMessage("user", "hi"), "[assistant] yo"], system_prompt="s", params={"t": 1}, tokens=5),
    ]
    with Recorder(tmp_path, 1, "") as recorder:
        for event in events:
            recorder.write_event(event)
    for sent, got in zip(events, RecordReader(tmp_path / recorder.record_id).events(), strict=True):
        assert (got.type, got.timestamp, got.pid) == (RecordEventType(sent.type), sent.timestamp, sent.pid)
        assert (got.syscall, got.context, got.llm, got.state) == (sent.syscall, sent.context, sent.llm, sent.state)


def test_a_recorder_stores_references_to_messages(tmp_path):
    text = "long " * 400
    with Recorder(tmp_path, 1, "") as recorder:
        for number in range(20):
            recorder.write_event(
                snapshot([CtxMessage("user", text)] + [CtxMessage("user", str(n)) for n in range(number)])
            )
    folder = tmp_path / recorder.record_id
    assert sum(one.read_text().count(text) for one in folder.iterdir()) == 1
    assert len(RecordReader(folder).event(20).context.messages) == 20


def test_context_at_gives_what_the_model_saw_at_or_before_an_event(tmp_path):
    with Recorder(tmp_path, 1, "") as recorder:
        recorder.write_event(call())
        recorder.write_event(snapshot([CtxMessage("user", "hi")], system_prompt="be brief"))
        recorder.write_event(call())
    reader = RecordReader(tmp_path / recorder.record_id)
    context = reader.context_at(3)
    assert (context.system_prompt, context.messages) == ("be brief", [CtxMessage("user", "hi")])
    with pytest.raises(errors.NoSnapshot):
        reader.context_at(1)
    with pytest.raises(errors.SeqNotFound):
        reader.context_at(9)


KILLED = """
import sys
from unspool.events import RecordEvent, SyscallEventData
from unspool.recording import Recorder
recorder = Recorder(sys.argv[1], 1, "killed")
for number in range(150):
    recorder.write_event(RecordEvent("syscall", 0, number, 1, syscall=SyscallEventData("Open")))
print(recorder.record_id, flush=True)
sys.stdin.read()
"""


def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        record_id = process.stdout.readline().strip()
        manager = RecordManager(tmp_path)
        with pytest.raises(errors.RecordingActive):
            manager.load_record(record_id)
        with manager.load_record(record_id, live=True) as live:
            assert live.metadata.status is RecordStatus.RECORDING
            assert live.event_count == 150
        process.send_signal(signal.SIGKILL)
    reader = manager.load_record(record_id)
    assert reader.metadata.status is RecordStatus.INTERRUPTED
    assert (reader.event_count, reader.damage) == (150, [])
    assert [one.status for one in manager.list_records()] == [RecordStatus.INTERRUPTED]


# --- the manager ------------------------------------------------------------------------------------------------------


def test_a_manager_touches_nothing_on_disk(tmp_path):
    manager = RecordManager(tmp_path / "records")
    assert str(manager.base_dir) == str(tmp_path / "records")
    assert manager.list_records() == []
    assert not (tmp_path / "records").exists()


def test_start_stop_and_count(tmp_path):
    manager = RecordManager(tmp_path)
    record_id = manager.start_recording(4, "go")
    assert manager.is_recording(4)
    with pytest.raises(errors.AlreadyRecording, match="PID 4 is already being recorded"):
        manager.start_recording(4, "again")
    manager.record_event(4, call())
    assert manager.get_event_count(4) == 1
    manager.stop_recording(4)
    assert (manager.is_recording(4), manager.get_event_count(4)) == (False, 0)
    assert manager.load_record(record_id).metadata.status is RecordStatus.STOPPED
    with pytest.raises(errors.NotRecording, match="PID 4 is not being recorded"):
        manager.stop_recording(4)


def test_events_of_a_pid_that_is_not_recorded_are_ignored(tmp_path):
    manager = RecordManager(tmp_path)
    assert manager.record_event(9, call()) is None
    assert manager.get_event_count(9) == 0


def test_close_all_completes_every_active_recording(tmp_path):
    manager = RecordManager(tmp_path)
    ids = [manager.start_recording(pid, "") for pid in (1, 2, 3)]
    manager.close_all()
    assert not any(manager.is_recording(pid) for pid in (1, 2, 3))
    assert {manager.load_record(one).metadata.status for one in ids} == {RecordStatus.COMPLETED}


def test_of_many_starts_of_one_pid_one_wins_and_keeps_its_data(tmp_path):
    manager, won, lost = RecordManager(tmp_path), [], []

    def start() -> None:
        try:
            won.append(manager.start_recording(1, ""))
        except errors.AlreadyRecording as exc:
            lost.append(exc)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    manager.record_event(1, call())
    manager.close_all()
    assert manager.load_record(won[0]).event_count == 1


def test_list_records_gives_newest_first_and_running_ones_too(tmp_path):
    manager = RecordManager(tmp_path)
    ids = [manager.start_recording(pid, "") for pid in (10, 2, 33)]
    manager.stop_recording(10)
    (tmp_path / "file").write_text("no recording")
    (tmp_path / "empty").mkdir()
    found = manager.list_records()
    assert [one.record_id for one in found] == ids[::-1]
    assert [one.status for one in found] == [RecordStatus.RECORDING, RecordStatus.RECORDING, RecordStatus.STOPPED]
    manager.close_all()


def test_an_unreadable_base_is_a_store_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.StoreError):
        RecordManager(tmp_path / "file").list_records()
    with pytest.raises(errors.StoreError):
        RecordManager(tmp_path / "file").start_recording(1, "")


def test_a_unique_prefix_finds_a_recording(tmp_path):
    for name in ("7-1773460800", "71-1773460800", "8-1"):
        reference(tmp_path, name=name)
    manager = RecordManager(tmp_path)
    assert manager.find_record("7-") == tmp_path / "7-1773460800"
    assert manager.find_record("71-1773460800").name == "71-1773460800"
    with pytest.raises(errors.AmbiguousRecordID) as caught:
        manager.find_record("7")
    assert (caught.value.prefix, caught.value.candidates) == ("7", ["7-1773460800", "71-1773460800"])
    with pytest.raises(errors.RecordingNotFound, match='recording "9" not found'):
        manager.find_record("9")


def test_the_empty_string_never_matches_a_prefix(tmp_path):
    recorded(tmp_path)
    with pytest.raises(errors.RecordingNotFound):
        RecordManager(tmp_path).find_record("")


@pytest.mark.parametrize("bad", ["../x", "a..b", "/etc", ".hidden", "-a", "a b", "a/b", "a" * 129, "a\n", "é"])
def test_ids_that_could_leave_the_folder_are_invalid(tmp_path, bad):
    manager = RecordManager(tmp_path)
    with pytest.raises(errors.InvalidID):
        manager.find_record(bad)
    with pytest.raises(errors.InvalidID):
        manager.load_record(bad)


# --- the reader -------------------------------------------------------------------------------------------------------


def test_a_recording_of_the_reference_is_read(tmp_path):
    reader = RecordReader(reference(tmp_path), strict=True)
    metadata = reader.metadata
    assert (metadata.record_id, metadata.pid, metadata.intent) == ("7-1773460800", 7, "say")
    assert metadata.start_time == datetime(2026, 3, 14, 4, 0, 0, metadata.start_time.microsecond, tzinfo=UTC)
    assert metadata.end_time == datetime(2026, 3, 14, 4, 0, 9, 500000, tzinfo=UTC)
    assert (metadata.event_count, metadata.status) == (5, RecordStatus.COMPLETED)
    assert reader.damage == []
    assert reader.event(1).syscall == SyscallEventData("Spawn", {"intent": "x"}, 3, "", 1_500_000)
    assert not reader.event(2).context.messages
    assert reader.event(3).context.messages == ["[system] be", "[user] hi", "[1, 2] x"]
    assert reader.event(4).llm == LLMResponseData("m", 0, 9)
    assert reader.event(5).state == StateChangeData("running", "zombie", "")
    assert reader.context_at(2).messages == []
    assert reader.context_at(5).system_prompt == "be"
    assert reader.context_at(5).messages[-1] == CtxMessage("user", "[1, 2] x")


@pytest.mark.parametrize("unset", ["0001-01-01T00:00:00Z", None])
def test_an_unset_time_is_none(tmp_path, unset):
    metadata = RecordReader(reference(tmp_path, start_time=unset, end_time=unset)).metadata
    assert (metadata.start_time, metadata.end_time) == (None, None)


def test_a_reference_recording_whose_writer_died_opens_as_interrupted(tmp_path):
    folder = reference(tmp_path, status="recording", end_time="0001-01-01T00:00:00Z", event_count=0)
    reader = RecordReader(folder)
    assert (reader.metadata.status, reader.event_count, reader.damage) == (RecordStatus.INTERRUPTED, 5, [])
    assert [event.seq_num for event in reader.follow()] == [1, 2, 3, 4, 5]


def test_a_last_line_that_lacks_only_its_newline_is_read(tmp_path):
    reader = RecordReader(reference(tmp_path, end=""), strict=True)
    assert numbers(reader) == [1, 2, 3, 4, 5]
    assert RecordManager(tmp_path).list_records()[0].event_count == 5


def test_a_line_that_gets_its_newline_later_is_one_event(tmp_path):
    folder = reference(tmp_path, end="")
    reader = RecordReader(folder)
    with (folder / "events.jsonl").open("a") as file:
        file.write("\n" + LINES[0].replace('"seq_num":1', '"seq_num":6') + "\n")
    assert reader.refresh() == 1
    assert (numbers(reader), reader.event(5).seq_num) == ([1, 2, 3, 4, 5, 6], 5)
    assert [one for one in reader.damage if one.file == "events.jsonl"] == []


def test_blank_lines_and_unknown_fields_are_ignored(tmp_path):
    lines = ["", LINES[0].replace('"pid":7', '"pid":7,"later":{"x":1}'), "", *LINES[1:]]
    reader = RecordReader(reference(tmp_path, lines, event_count=5, later=1), strict=True)
    assert numbers(reader) == [1, 2, 3, 4, 5]


def test_nulls_are_read_as_the_reference_reads_them(tmp_path):
    lines = [
        '{"seq_num":1,"timestamp":0,"pid":7,"type":"syscall","llm":null,"syscall":{"syscall":"X","args":null,"err":null,'
        '"result":null,"duration":0}}'
    ]
    assert RecordReader(reference(tmp_path, lines), strict=True).event(1).syscall == SyscallEventData("X")


def test_events_are_in_the_order_of_their_numbers(tmp_path):
    assert numbers(RecordReader(reference(tmp_path, LINES[::-1]))) == [1, 2, 3, 4, 5]


def test_a_line_over_64_kib_is_read(tmp_path):
    long = LINES[0].replace('"x"', json.dumps("x" * 200_000))
    reader = RecordReader(reference(tmp_path, [long, *LINES[1:]]), strict=True)
    assert len(reader.event(1).syscall.args["intent"]) == 200_000
    assert reader.event_count == 5


@pytest.mark.parametrize("index", range(5))
def test_a_damaged_line_is_skipped_and_listed_once(tmp_path, index, caplog):
    lines = [*LINES]
    lines[index] = lines[index][:-10]
    reader = RecordReader(reference(tmp_path, lines))
    assert numbers(reader) == [number for number in range(1, 6) if number != index + 1]
    (damage,) = reader.damage
    assert (damage.file, damage.line) == ("events.jsonl", index + 1)
    assert damage.offset == sum(len(line) + 1 for line in lines[:index])
    assert damage.reason
    assert {record.name for record in caplog.records} == {"unspool"}
    with pytest.raises(errors.SeqNotFound):
        reader.event(index + 1)
    with pytest.raises(errors.CorruptRecording):
        RecordReader(tmp_path / "7-1773460800", strict=True)


def test_a_torn_last_line_is_listed_once(tmp_path):
    lines = [*LINES[:4], LINES[4][:20]]
    reader = RecordReader(reference(tmp_path, lines, end=""))
    assert numbers(reader) == [1, 2, 3, 4]
    assert [one.line for one in reader.damage] == [5]


@pytest.mark.parametrize("count", [3, 99])
def test_a_count_that_does_not_fit_is_damage(tmp_path, count):
    reader = RecordReader(reference(tmp_path, event_count=count))
    assert len(reader.damage) == 1
    assert (reader.event_count, reader.metadata.event_count) == (5, 5)


def test_a_gap_and_a_repeated_number_are_damage(tmp_path):
    reader = RecordReader(reference(tmp_path, [*LINES[:2], *LINES[3:], LINES[0]], event_count=5))
    assert numbers(reader) == [1, 2, 4, 5]
    assert len(reader.damage) == 2


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"pid": "x"}'])
def test_unreadable_metadata_is_rebuilt_from_the_events(tmp_path, text):
    folder = recorded(tmp_path)
    (folder / "metadata.json").unlink()
    if text is not None:
        (folder / "metadata.json").write_text(text)
    reader = RecordReader(folder)
    assert (reader.metadata.status, reader.metadata.event_count) == (RecordStatus.INTERRUPTED, 3)
    assert (reader.metadata.record_id, reader.metadata.pid) == (folder.name, 1)
    assert [one.file for one in reader.damage] == ["metadata.json"]
    assert [one.record_id for one in RecordManager(tmp_path).list_records()] == [folder.name]


def test_a_missing_events_file_is_corrupt(tmp_path):
    folder = recorded(tmp_path)
    (folder / "events.jsonl").unlink()
    with pytest.raises(errors.CorruptRecording, match=r"events\.jsonl"):
        RecordReader(folder)


@pytest.mark.parametrize("version", [2, 99, 2.0, "2", "2.1"])
def test_a_newer_major_version_is_refused(tmp_path, version):
    with pytest.raises(errors.UnspoolError, match="newer"):
        RecordReader(reference(tmp_path, format_version=version))


@pytest.mark.parametrize("version", [1, 1.7, "1.7"])
def test_a_newer_minor_version_is_read(tmp_path, version):
    assert RecordReader(reference(tmp_path, format_version=version)).damage == []


def test_events_is_a_lazy_sequence(tmp_path):
    events = RecordReader(recorded(tmp_path, 10)).events()
    assert len(events) == 10
    assert (events[0].seq_num, events[-1].seq_num) == (1, 10)
    assert [event.seq_num for event in events[2:4]] == [3, 4]
    with pytest.raises(IndexError):
        events[10]


def test_a_range_is_inclusive_at_both_ends(tmp_path):
    reader = RecordReader(recorded(tmp_path, 10))
    assert [event.seq_num for event in reader.events_in_range(3, 5)] == [3, 4, 5]
    assert [event.seq_num for event in reader.events_in_range(9, 99)] == [9, 10]
    assert list(reader.events_in_range(5, 3)) == []


@pytest.mark.parametrize("number", [0, -1, 4, 2**64])
def test_a_number_that_is_not_there_is_not_found(tmp_path, number):
    with pytest.raises(errors.SeqNotFound, match=f"event with SeqNum {number} not found"):
        RecordReader(recorded(tmp_path)).event(number)


def test_follow_gives_events_of_a_recording_that_is_still_growing(tmp_path):
    recorder = Recorder(tmp_path, 1, "")
    recorder.write_event(call("first"))
    reader = RecordReader(tmp_path / recorder.record_id, live=True)
    seen = []
    for event in reader.follow():
        seen.append(event.syscall.syscall)
        if len(seen) < 3:
            recorder.write_event(call("more"))
        else:
            recorder.close()
    assert seen == ["first", "more", "more"]


def test_a_living_writer_refuses_readers_unless_live(tmp_path):
    recorder = Recorder(tmp_path, 1, "")
    with pytest.raises(errors.RecordingActive):
        RecordReader(tmp_path / recorder.record_id)
    recorder.close()
    RecordReader(tmp_path / recorder.record_id)


def test_metadata_takes_its_fields_in_the_order_of_the_seed():
    now = datetime.now(UTC)
    made = RecordMetadata("1-x", 1, "go", now, None, 3, RecordStatus.STOPPED)
    assert (made.record_id, made.pid, made.intent, made.start_time) == ("1-x", 1, "go", now)
    assert (made.end_time, made.event_count, made.status) == (None, 3, "stopped")


def test_statuses_are_the_wire_words():
    assert {one.name: one.value for one in RecordStatus} == {
        "RECORDING": "recording",
        "COMPLETED": "completed",
        "STOPPED": "stopped",
        "INTERRUPTED": "interrupted",
    }


def test_all_errors_derive_from_one():
    names = """RecordingNotFound RecordingActive CorruptRecording SeqNotFound NoSnapshot ReplayBoundary AlreadyRecording
    RecorderClosed Divergence StoreError Cancelled NotRecording AmbiguousRecordID InvalidID""".split()
    assert all(issubclass(getattr(errors, name), errors.UnspoolError) for name in names)
