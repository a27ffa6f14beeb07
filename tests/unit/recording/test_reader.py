"""The reader: everything comes back whole, whatever state the files are in."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import threading
import time
from itertools import count
from pathlib import Path

import pytest

from unspool.errors import (
    Cancelled,
    CorruptRecording,
    NoSnapshot,
    RecordingActive,
    SeqNotFound,
    UnsupportedFormat,
)
from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    HttpRequest,
    HttpResponse,
    LLMResponseData,
    Part,
    RecordEvent,
    RecordEventType,
    RecordStatus,
    ToolCall,
    ToolDef,
)
from unspool.recording import Damage, Recorder, RecordManager, RecordReader, eventlog


def snapshot(messages, **fields) -> RecordEvent:
    context = ContextSnapshotData(messages=messages, **fields)
    return RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, 1, 1, context=context)


@pytest.fixture
def finished(tmp_path, syscall) -> Path:
    """A closed recording of ten events, one of them a snapshot."""
    with Recorder(tmp_path, 1, "ten") as recorder:
        for number in range(1, 11):
            if number == 4:
                recorder.write_event(snapshot([CtxMessage("system", "be " * 50), CtxMessage("user", "hi " * 50)]))
            else:
                recorder.write_event(syscall({"n": number}))
    return recorder.record_dir


@pytest.fixture(params=["verified", "trusted"])
def mode(request, monkeypatch):
    """Small files are checked whole when opened, large ones on the way: both must read the same."""
    if request.param == "trusted":
        monkeypatch.setattr(eventlog, "_VERIFY_MAX", -1)


def edit(path: Path, change) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    change(lines)
    path.write_bytes(b"".join(lines))


# --- access ----------------------------------------------------------------------------------------------------------


def test_events_by_number_position_range_and_slice(finished, mode):
    reader = RecordReader(finished)
    assert reader.event_count == len(reader.events()) == reader.metadata.event_count == reader.last_seq == 10
    assert [event.seq_num for event in reader.events()] == list(range(1, 11))
    assert reader.event(7).syscall.args == {"n": 7}
    assert reader.index_of(7) == 6
    events = reader.events()
    assert (events[0].seq_num, events[-1].seq_num) == (1, 10)
    assert [event.seq_num for event in events[2:8][::2]] == [3, 5, 7]
    assert [event.seq_num for event in reversed(events)][:2] == [10, 9]
    assert [event.seq_num for event in reader.bare_events(8)] == [9, 10]
    with pytest.raises(IndexError):
        events[10]


@pytest.mark.parametrize(
    ("first", "last", "numbers"),
    [
        (3, 5, [3, 4, 5]),
        (0, 2, [1, 2]),
        (9, 99, [9, 10]),
        (5, 4, []),
        (11, 20, []),
        (-5, -1, []),
        (1, 2**70, [*range(1, 11)]),
    ],
)
def test_events_in_range_includes_both_ends(finished, mode, first, last, numbers):
    assert [event.seq_num for event in RecordReader(finished).events_in_range(first, last)] == numbers


@pytest.mark.parametrize("number", [0, -1, 11, 2**65])
def test_a_number_that_is_not_there_is_seq_not_found(finished, mode, number):
    with pytest.raises(SeqNotFound, match="1 to 10") as caught:
        RecordReader(finished).event(number)
    assert caught.value.seq_num == number


def test_an_empty_recording_reads(tmp_path):
    with Recorder(tmp_path, 1, "x") as recorder:
        pass
    reader = RecordReader(recorder.record_dir, strict=True)
    assert (reader.event_count, list(reader.events()), reader.events_in_range(1, 9)) == (0, [], [])
    with pytest.raises(SeqNotFound, match="no events"):
        reader.event(1)


def test_a_reader_changes_nothing_on_disk(finished):
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    reader = RecordReader(finished)
    list(reader.events())
    assert reader.damage == []
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def test_what_a_caller_does_to_an_event_stays_with_it(finished):
    reader = RecordReader(finished)
    reader.event(1).syscall.args["n"] = "changed"
    assert reader.event(1).syscall.args == {"n": 1}


# --- contexts --------------------------------------------------------------------------------------------------------

MESSAGES = {
    "plain": [CtxMessage("system", "s"), CtxMessage("user", "u" * 5000)],
    "every field": [
        CtxMessage(
            "assistant",
            "text",
            tool_call_id="c",
            tool_name="n",
            tool_calls=[ToolCall("f", "{}", "1")],
            parts=[Part("image", "alt", {"url": "x"})],
        )
    ],
    "strings": ["[system] be brief", "[user] hi", "no role", "[1, 2] is a list"],
    "mixture": [CtxMessage("user", "hi"), "[assistant] hello", CtxMessage("user", "bye")],
    "odd": [
        CtxMessage("user", "\ud800"),
        CtxMessage("user", "", parts=[Part("x", data=[b"1", float("inf")])]),
        "\udfff",
    ],
    "empty": [],
    "none": None,
}


@pytest.mark.parametrize("kind", MESSAGES)
def test_messages_given_whole_come_back_whole(recorder, kind):
    messages = MESSAGES[kind]
    tools = [ToolDef("f", "does", {"type": "object", "limit": float("inf")})]
    recorder.write_event(
        snapshot(messages, system_prompt="be kind", tools=tools, params={"t": 0.5, "b": b"x"}, tokens=9, model="m")
    )
    context = RecordReader(recorder.record_dir, live=True, strict=True).event(1).context
    assert context.messages == messages
    assert (context.system_prompt, context.tools, context.tokens, context.model) == ("be kind", tools, 9, "m")
    assert context.params == {"t": 0.5, "b": b"x"}
    assert context.partial is None


def test_a_snapshot_on_disk_holds_references_and_each_message_is_stored_once(recorder, lines):
    history = [CtxMessage("user", f"message {n} " * 40) for n in range(30)]
    texts = [f"[user] text {n} " * 40 for n in range(30)]
    for end in range(1, 31):
        recorder.write_event(snapshot(history[:end]))
        recorder.write_event(snapshot(texts[:end]))
    pool = (recorder.record_dir / "messages.jsonl").read_bytes()
    for n in range(30):
        assert pool.count(b"message %d " % n) == 40, "as often as in one message"
        assert pool.count(b"text %d " % n) == 40
    for line in lines(recorder.record_dir / "events.jsonl"):
        assert "messages" not in line["context"]
    reader = RecordReader(recorder.record_dir, live=True)
    assert reader.event(59).context.messages == history
    assert reader.event(60).context.messages == texts
    assert reader.event(21).context.messages == history[:11]


def test_context_at_is_the_snapshot_at_or_before(finished):
    reader = RecordReader(finished)
    for seq in (4, 5, 10):
        context = reader.context_at(seq)
        assert [message.role for message in context.messages] == ["system", "user"]
        assert context.system_prompt == "be " * 50
    with pytest.raises(NoSnapshot):
        reader.context_at(3)
    with pytest.raises(SeqNotFound):
        reader.context_at(11)


def test_strings_get_roles_only_from_role_words(recorder):
    recorder.write_event(snapshot(["[system] s", "[tool] out] put", "[1, 2] x", "[TODO] y", "[user]z", "", "[user] "]))
    context = RecordReader(recorder.record_dir, live=True).context_at(1)
    assert [(message.role, message.content) for message in context.messages] == [
        ("system", "s"),
        ("tool", "out] put"),
        ("user", "[1, 2] x"),
        ("user", "[TODO] y"),
        ("user", "[user]z"),
        ("user", ""),
        ("user", ""),
    ]
    assert context.system_prompt == "s"


def test_context_at_of_a_thousand_messages_after_a_thousand_turns(recorder):
    history = [CtxMessage("user", f"{n} " * 100) for n in range(1000)]
    for end in range(1, 1001):
        recorder.write_event(snapshot(history[:end]))
    reader = RecordReader(recorder.record_dir, live=True)
    assert reader.context_at(1000).messages == history
    assert reader.context_at(501).messages == history[:501]


# --- long strings ----------------------------------------------------------------------------------------------------


def test_a_long_result_and_the_message_that_carries_it_are_stored_once(recorder, syscall):
    text = 'a "quoted" line\n' * 1000
    recorder.write_event(syscall({"path": "/dev/tool/read"}, text))
    recorder.write_event(snapshot([CtxMessage("tool", text, tool_call_id="c1")]))
    recorder.write_event(syscall({"again": text}, [text, {"deep": text}]))
    size = sum(path.stat().st_size for path in recorder.record_dir.iterdir())
    assert size < 1.2 * len(json.dumps(text))
    reader = RecordReader(recorder.record_dir, live=True, strict=True)
    assert reader.event(1).syscall.result == text
    assert reader.event(2).context.messages[0].content == text
    assert reader.event(3).syscall.args == {"again": text}
    assert reader.event(3).syscall.result == [text, {"deep": text}]


def test_odd_values_come_back(recorder, syscall):
    args = {"nan": [float("inf")], "b": b"\x00", "s": "\ud800" * 2000, "big": 2**5000, "$ref": 1, "m": {"$ref": "x"}}
    recorder.write_event(syscall(args, {"$float": "no"}))
    data = RecordReader(recorder.record_dir, live=True, strict=True).event(1).syscall
    assert data.args == args
    assert data.result == {"$float": "no"}


# --- exchanges -------------------------------------------------------------------------------------------------------


def test_an_exchange_comes_back_with_head_body_and_answer(recorder):
    body = json.dumps({"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}).encode()
    answer = json.dumps(
        {"model": "gpt-5", "choices": [{"message": {"role": "assistant", "content": "hello"}}]}
    ).encode()
    url = "https://api.openai.com/v1/chat/completions"
    for number in range(2):
        request = HttpRequest(method="POST", url=url, headers=[("x-n", str(number)), ("odd", "\udcff")], client="httpx")
        event = snapshot(None, provider="openai_chat", request=request)
        written, _ = recorder.write_request(event, body, "messages")
        response = RecordEvent(RecordEventType.LLM_RESPONSE, 0, 2, 1, call=written.call)
        response.llm = data = LLMResponseData("gpt-5", 1, None)

        def prepare(store, data=data):
            headers = [("content-type", "application/json")]
            data.response = HttpResponse(status=200, reason="OK", headers=headers)
            store.heads.store(data.response)
            data.response.body = store.put(answer, is_json=True)

        recorder.write_with_bodies(response, prepare)
    reader = RecordReader(recorder.record_dir, live=True, strict=True)
    asked, told = reader.event(3).context, reader.event(4).llm
    assert (asked.request.method, asked.request.url) == ("POST", url)
    assert asked.request.headers == [("x-n", "1"), ("odd", "\udcff")]
    assert reader.body(asked.request.body) == body
    assert [message.content for message in asked.messages] == ["hi"]
    assert (told.text, told.response.reason, told.response_tokens) == ("hello", "OK", None)
    assert reader.body(told.response.body) == answer
    assert reader.snapshot_of_call(reader.event(4)).seq_num == 3


# --- states ----------------------------------------------------------------------------------------------------------


def test_a_recording_being_written_is_active_unless_live(recorder, syscall):
    recorder.write_event(syscall())
    with pytest.raises(RecordingActive) as caught:
        RecordReader(recorder.record_dir)
    assert caught.value.os_pid == os.getpid()
    reader = RecordReader(recorder.record_dir, live=True)
    assert (reader.metadata.status, reader.event_count) == (RecordStatus.RECORDING, 1)
    recorder.write_event(syscall())
    assert reader.event_count == 1
    assert reader.refresh() == 1
    assert reader.event(2).seq_num == 2


def test_a_recording_whose_writer_died_is_interrupted(finished):
    metadata = json.loads((finished / "metadata.json").read_text())
    metadata |= {"status": "recording", "end_time": "0001-01-01T00:00:00Z", "event_count": 0}
    (finished / "metadata.json").write_text(json.dumps(metadata))
    reader = RecordReader(finished, strict=True)
    assert (reader.metadata.status, reader.metadata.end_time) == (RecordStatus.INTERRUPTED, None)
    assert reader.metadata.event_count == 10


def test_span_ids_are_made_whole(tmp_path, syscall):
    with Recorder(tmp_path, 1, "x", fields={"trace_id": "ab" * 16}) as recorder:
        recorder.write_event(syscall(span_id="00000002", parent_span_id="00000001"))
        recorder.write_event(syscall(span_id="cd" * 16, trace_id="ef" * 16))
    reader = RecordReader(recorder.record_dir)
    base = reader.metadata.span_base
    one, two = reader.events()
    assert (one.trace_id, one.span_id, one.parent_span_id) == ("ab" * 16, base + "00000002", base + "00000001")
    assert (two.trace_id, two.span_id) == ("ef" * 16, "cd" * 16)
    assert len(base) == 24


# --- following -------------------------------------------------------------------------------------------------------


def test_follow_gives_events_as_they_come_and_ends_with_the_writer(recorder, syscall):
    recorder.write_event(syscall({"n": 1}))
    arrived = threading.Event()
    seen = []

    def read() -> None:
        for event in RecordReader(recorder.record_dir, live=True).follow():
            seen.append(event.syscall.args["n"])
            if len(seen) == 3:
                arrived.set()

    thread = threading.Thread(target=read)
    thread.start()
    recorder.write_event(syscall({"n": 2}))
    recorder.write_event(syscall({"n": 3}))
    assert arrived.wait(10), "seen before the writer ends"
    recorder.write_event(syscall({"n": 4}))
    recorder.close()
    thread.join(10)
    assert seen == [1, 2, 3, 4]


def test_follow_from_a_position_until_stopped(recorder, syscall):
    for number in range(5):
        recorder.write_event(syscall({"n": number}))
    reader = RecordReader(recorder.record_dir, live=True)
    stop = threading.Event()
    idle = count()
    followed = reader.follow(start=3, stop=stop, poll_s=0.001, idle=lambda: next(idle) > 2 and stop.set())
    assert [next(followed).seq_num, next(followed).seq_num] == [4, 5]
    with pytest.raises(Cancelled):
        next(followed)


def test_follow_of_a_finished_recording_gives_all_of_it(finished):
    assert [event.seq_num for event in RecordReader(finished).follow()] == list(range(1, 11))


def test_follow_sees_the_status_at_the_end(recorder, syscall):
    reader = RecordReader(recorder.record_dir, live=True)
    recorder.write_event(syscall())
    recorder.stop()
    assert len(list(reader.follow())) == 1
    assert reader.metadata.status is RecordStatus.STOPPED


def _write_and_die(base: str, amount: int) -> None:
    recorder = Recorder(base, 5, "x")
    for number in range(amount):
        recorder.write_event(snapshot([CtxMessage("user", f"{number}")]))
        time.sleep(0.002)
    os._exit(9)


def test_follow_ends_when_the_writer_dies(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=_write_and_die, args=(str(tmp_path), 50))
    process.start()
    manager = RecordManager(tmp_path)
    deadline = time.monotonic() + 20
    while not (found := manager.list_records()) and time.monotonic() < deadline:
        time.sleep(0.005)
    reader = manager.load_record(found[0].record_id, live=True)
    texts = [event.context.messages[0].content for event in reader.follow()]
    process.join()
    assert texts == [str(number) for number in range(50)]
    assert reader.metadata.status is RecordStatus.INTERRUPTED


# --- a recording of the reference ------------------------------------------------------------------------------------

REFERENCE_EVENTS = [
    {
        "seq_num": 1,
        "timestamp": 1_200_000,
        "pid": 3,
        "type": "state_change",
        "state": {"from_state": "created", "to_state": "running", "reason": ""},
    },
    {
        "seq_num": 2,
        "timestamp": 2_000_000,
        "pid": 3,
        "type": "syscall",
        "syscall": {"syscall": "Spawn", "args": {"intent": "look", "n": 3.5}, "result": 4, "duration": 12_345},
    },
    {
        "seq_num": 3,
        "timestamp": 3_000_000,
        "pid": 3,
        "type": "context_snapshot",
        "context": {"messages": ["[system] You are terse", "[user] what is here?"]},
    },
    {
        "seq_num": 4,
        "timestamp": 4_000_000,
        "pid": 3,
        "type": "llm_response",
        "llm": {"model": "claude", "request_tokens": 0, "response_tokens": 812},
    },
    {
        "seq_num": 5,
        "timestamp": 5_000_000,
        "pid": 3,
        "type": "syscall",
        "syscall": {"syscall": "Read", "result": "x" * 200_000, "err": "", "duration": 0},
    },
    {
        "seq_num": 6,
        "timestamp": 6_000_000,
        "pid": 3,
        "type": "syscall",
        "syscall": {"syscall": "Open", "args": {"path": "/nope"}, "err": "[NOT_FOUND] no such file", "duration": 1},
    },
    {"seq_num": 7, "timestamp": 7_000_000, "pid": 3, "type": "context_snapshot", "context": {"messages": None}},
]


@pytest.fixture
def reference(tmp_path):
    """Writes a folder as the reference does."""

    def make(status: str = "completed", end: str = "2026-03-01T17:45:09.987654321+08:00", **changes) -> Path:
        folder = tmp_path / "records" / "3-1772358300"
        folder.mkdir(parents=True)
        (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in REFERENCE_EVENTS))
        metadata = {
            "record_id": "3-1772358300",
            "pid": 3,
            "intent": "look around",
            "start_time": "2026-03-01T17:45:00.123456789+08:00",
            "end_time": end,
            "event_count": 7,
            "status": status,
        } | changes
        (folder / "metadata.json").write_text(json.dumps(metadata, indent=2))
        return folder

    return make


@pytest.mark.parametrize("status", ["completed", "stopped"])
def test_a_recording_of_the_reference_opens(reference, mode, status):
    reader = RecordReader(reference(status), strict=True)
    metadata = reader.metadata
    assert (metadata.record_id, metadata.pid, metadata.intent) == ("3-1772358300", 3, "look around")
    assert metadata.status == status
    assert metadata.start_time.isoformat() == "2026-03-01T09:45:00.123457+00:00"
    assert metadata.end_time.utcoffset().total_seconds() == 0
    assert [event.seq_num for event in reader.events()] == [1, 2, 3, 4, 5, 6, 7]
    assert reader.event(2).syscall.args == {"intent": "look", "n": 3.5}
    assert reader.event(3).context.messages == ["[system] You are terse", "[user] what is here?"]
    assert reader.event(4).llm.response_tokens == 812
    assert len(reader.event(5).syscall.result) == 200_000
    assert reader.event(5).syscall.args == {}
    assert reader.event(6).syscall.err == "[NOT_FOUND] no such file"
    assert reader.event(7).context.messages is None
    assert reader.context_at(6).system_prompt == "You are terse"
    assert reader.context_at(7).messages == []


def test_an_unfinished_recording_of_the_reference_is_interrupted(reference):
    folder = reference("recording", end="0001-01-01T00:00:00Z", event_count=0)
    reader = RecordReader(folder, strict=True)
    assert (reader.metadata.status, reader.metadata.end_time, reader.event_count) == ("interrupted", None, 7)
    (listed,) = RecordManager(folder.parent).list_records()
    assert (listed.status, listed.event_count) == (RecordStatus.INTERRUPTED, 7)


def test_lines_out_of_order_and_blank_ones_are_read_in_order(reference, mode):
    folder = reference()
    edit(folder / "events.jsonl", lambda lines: lines.__setitem__(slice(None), [*reversed(lines), b"\n", b"  \n"]))
    reader = RecordReader(folder)
    assert [event.seq_num for event in reader.events()] == [1, 2, 3, 4, 5, 6, 7]
    assert reader.event(2).syscall.syscall == "Spawn"


def test_a_count_that_the_events_do_not_reach_is_damage(reference):
    reader = RecordReader(reference(event_count=9))
    assert [str(item) for item in reader.damage] == ["events.jsonl: events 8 to 9 are missing at the end"]


# --- damage ----------------------------------------------------------------------------------------------------------


def numbers(reader: RecordReader) -> list[int]:
    return [event.seq_num for event in reader.events()]


def where(damage: list[Damage]) -> list[tuple[str, int]]:
    return [(item.file, item.line) for item in damage]


def test_a_damaged_line_costs_one_event_and_is_named(finished, mode, caplog):
    edit(finished / "events.jsonl", lambda lines: lines.__setitem__(4, b'{"type":"sysc\n'))
    with caplog.at_level(logging.WARNING, "unspool"):
        reader = RecordReader(finished)
        assert numbers(reader) == [1, 2, 3, 4, 6, 7, 8, 9, 10]
        reader.refresh()
        (item,) = reader.damage
    offset = sum(map(len, (finished / "events.jsonl").read_bytes().splitlines(keepends=True)[:4]))
    assert (item.file, item.line, item.offset) == ("events.jsonl", 5, offset)
    with pytest.raises(SeqNotFound):
        reader.event(5)
    assert [event.seq_num for event in reader.events_in_range(4, 6)] == [4, 6]
    assert reader.event(6).syscall.args == {"n": 6}
    with pytest.raises(CorruptRecording, match=r"events.jsonl:5"):
        RecordReader(finished, strict=True)


def test_damage_is_logged_when_it_is_found_at_opening(finished, caplog):
    edit(finished / "events.jsonl", lambda lines: lines.__setitem__(4, b"junk\n"))
    with caplog.at_level(logging.WARNING, "unspool"):
        RecordReader(finished)
    assert "events.jsonl:5" in caplog.text


def test_range_and_scan_are_right_when_damage_is_met_on_the_way(finished, monkeypatch):
    monkeypatch.setattr(eventlog, "_VERIFY_MAX", -1)
    edit(finished / "events.jsonl", lambda lines: lines.__setitem__(4, b"junk\n"))
    assert [event.seq_num for event in RecordReader(finished).events_in_range(3, 7)] == [3, 4, 6, 7]
    assert [event.seq_num for event in RecordReader(finished).bare_events(4)] == [6, 7, 8, 9, 10]
    assert RecordReader(finished).event(10).seq_num == 10
    reader = RecordReader(finished)
    scan = reader.bare_events(6)
    assert next(scan).seq_num == 7
    assert reader.index_of(8) == 7
    with pytest.raises(SeqNotFound):
        reader.event(5)  # now the events after it have moved
    assert [event.seq_num for event in scan] == [8, 9, 10]


def test_a_missing_line_is_named_by_the_line_after_it(finished, mode):
    edit(finished / "events.jsonl", lambda lines: lines.__delitem__(slice(4, 6)))
    reader = RecordReader(finished)
    assert numbers(reader) == [1, 2, 3, 4, 7, 8, 9, 10]
    assert [str(item) for item in reader.damage] == ["events.jsonl:5: events 5 to 6 are missing before this line"]
    assert reader.event(7).syscall.args == {"n": 7}


def test_a_repeated_line_is_read_once(finished, mode):
    edit(finished / "events.jsonl", lambda lines: lines.insert(7, lines[2]))
    reader = RecordReader(finished)
    assert numbers(reader) == list(range(1, 11))
    assert where(reader.damage) == [("events.jsonl", 8)]


@pytest.mark.parametrize("wrong", [1, 9])
def test_a_line_with_a_damaged_number_does_not_push_out_the_right_one(finished, mode, wrong):
    def change(lines):
        lines[5] = lines[5].replace(b'"seq_num":6', b'"seq_num":%d' % wrong)

    edit(finished / "events.jsonl", change)
    reader = RecordReader(finished)
    assert numbers(reader) == [1, 2, 3, 4, 5, 7, 8, 9, 10]
    assert reader.event(wrong).syscall.args == {"n": wrong}
    assert where(reader.damage) == [("events.jsonl", 6)]


def test_a_torn_last_line_is_dropped_and_reported(finished, mode):
    events = finished / "events.jsonl"
    events.write_bytes(events.read_bytes()[:-5])
    reader = RecordReader(finished)
    assert numbers(reader) == list(range(1, 10))
    assert where(reader.damage) == [("events.jsonl", 10)]


def test_a_torn_last_line_of_a_living_writer_is_no_damage(recorder, syscall):
    recorder.write_event(syscall())
    with open(recorder.record_dir / "events.jsonl", "ab") as file:
        file.write(b'{"type":')
    assert RecordReader(recorder.record_dir, live=True, strict=True).event_count == 1


def test_a_missing_message_is_shown_as_missing(finished):
    edit(finished / "messages.jsonl", lambda lines: lines.__delitem__(0))
    reader = RecordReader(finished)
    messages = reader.event(4).context.messages
    assert [message.content for message in messages] == ["(missing message)", "hi " * 50]
    assert "missing" in reader.event(4).context.partial
    assert reader.context_at(4).partial is not None
    assert {item.file for item in reader.damage} == {"messages.jsonl"}
    with pytest.raises(CorruptRecording):
        RecordReader(finished, strict=True)


def test_a_missing_list_is_named_by_the_event_that_needs_it(finished):
    edit(finished / "messages.jsonl", lambda lines: lines.pop())
    reader = RecordReader(finished)
    assert len(reader.event(4).context.messages) == 1
    assert where(reader.damage) == [("events.jsonl", 4)]
    assert reader.event(5).syscall.args == {"n": 5}


def test_a_missing_pool_costs_the_messages_only(finished):
    (finished / "messages.jsonl").unlink()
    reader = RecordReader(finished)
    assert numbers(reader) == list(range(1, 11))
    assert where(reader.damage) == [("events.jsonl", 4)]


def test_a_changed_piece_is_damage_and_not_given(finished):
    edit(finished / "messages.jsonl", lambda lines: lines.__setitem__(1, lines[1].replace(b"hi hi", b"hi ho")))
    reader = RecordReader(finished)
    assert reader.event(4).context.messages[1].content == "(missing message)"
    assert ("messages.jsonl", 2) in where(reader.damage)


def test_a_second_whole_copy_of_a_damaged_piece_is_used(finished):
    edit(finished / "messages.jsonl", lambda lines: lines.insert(0, lines[1].replace(b"hi hi", b"hi ho")))
    reader = RecordReader(finished)
    assert reader.event(4).context.messages[1].content == "hi " * 50
    assert where(reader.damage) == [("messages.jsonl", 1)]


def test_a_list_with_a_changed_count_is_not_believed(recorder):
    for end in range(1, 5):
        recorder.write_event(snapshot([CtxMessage("user", str(n)) for n in range(end)]))
    recorder.close()
    pool = recorder.record_dir / "messages.jsonl"
    edit(pool, lambda lines: lines.__setitem__(-1, lines[-1].replace(b'"a":', b'"n":1,"a":')))
    reader = RecordReader(recorder.record_dir)
    assert reader.event(4).context.partial is not None
    assert ("messages.jsonl", 4) in where(reader.damage)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"pid":"x"}', b"[" * 100_000, None])
def test_unreadable_metadata_is_rebuilt_from_the_events(finished, content):
    if content is None:
        (finished / "metadata.json").unlink()
    else:
        (finished / "metadata.json").write_bytes(content)
    reader = RecordReader(finished)
    metadata = reader.metadata
    assert (metadata.record_id, metadata.pid, metadata.event_count) == (finished.name, 1, 10)
    assert metadata.status is RecordStatus.INTERRUPTED
    assert metadata.start_time.strftime("%Y%m%dT%H%M%S") == finished.name.split("-")[1]
    assert where(reader.damage) == [("metadata.json", 0)]
    with pytest.raises(CorruptRecording, match=r"metadata.json"):
        RecordReader(finished, strict=True)


def test_a_missing_events_file_is_corrupt_recording(finished):
    (finished / "events.jsonl").unlink()
    with pytest.raises(CorruptRecording, match=r"events.jsonl is missing"):
        RecordReader(finished)
    (finished / "events.jsonl").mkdir()
    with pytest.raises(CorruptRecording):
        RecordReader(finished)


def test_a_folder_that_is_not_there_is_corrupt_recording(tmp_path):
    with pytest.raises(CorruptRecording, match="no such folder"):
        RecordReader(tmp_path / "nowhere")


@pytest.mark.parametrize("version", [2, 99, 2.5])
def test_a_newer_format_is_refused_with_what_to_do(finished, version):
    metadata = json.loads((finished / "metadata.json").read_text()) | {"format_version": version}
    (finished / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(UnsupportedFormat, match="pip install -U unspool"):
        RecordReader(finished)


def test_an_unknown_status_word_is_interrupted_with_a_warning(finished, caplog):
    metadata = json.loads((finished / "metadata.json").read_text()) | {"status": "marvellous"}
    (finished / "metadata.json").write_text(json.dumps(metadata))
    with caplog.at_level(logging.WARNING, "unspool"):
        assert RecordReader(finished).metadata.status is RecordStatus.INTERRUPTED
    assert "marvellous" in caplog.text


def test_fields_a_reader_does_not_know_are_ignored(finished):
    metadata = json.loads((finished / "metadata.json").read_text()) | {"from_the_future": {"x": [1]}}
    (finished / "metadata.json").write_text(json.dumps(metadata))
    edit(finished / "events.jsonl", lambda lines: lines.__setitem__(0, lines[0].replace(b'"pid"', b'"new":[1],"pid"')))
    assert RecordReader(finished, strict=True).event(1).pid == 1


def test_a_body_that_does_not_fit_its_hash_is_named(recorder, syscall):
    event = syscall()
    event.syscall.response = HttpResponse(status=200)
    recorder.write_with_bodies(event, lambda store: setattr(event.syscall.response, "body", store.put(b"x" * 100)))
    reader = RecordReader(recorder.record_dir, live=True)
    body = reader.event(1).syscall.response.body
    body.sha256 = body.sha256[:-1] + ("0" if body.sha256[-1] != "0" else "1")
    assert reader.body(body) is None
    assert [item.file for item in reader.damage] == ["messages.jsonl"]
