"""What a line leaves out comes back when it is read."""

from __future__ import annotations

import json
from itertools import product

import msgspec
import pytest

from unspool.events import (
    Body,
    ContextSnapshotData,
    HttpRequest,
    HttpResponse,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    StateChangeData,
    SyscallEventData,
)
from unspool.recording import Recorder, RecordReader
from unspool.recording.shorthand import expand, shorten

BASE, TRACE, DIGEST = "ab" * 12, "cd" * 16, "0123456789abcdef" * 4


def event(kind: str, **fields) -> RecordEvent:
    payloads = {
        "syscall": {"syscall": SyscallEventData("ToolCall", {"path": "/dev/tool/x"})},
        "context_snapshot": {"context": ContextSnapshotData(provider="openai_chat")},
        "llm_response": {"llm": LLMResponseData("m", 1, 2)},
        "state_change": {"state": StateChangeData("created", "running", "")},
    }
    return RecordEvent(RecordEventType(kind), 1, 1, 1, **payloads[kind], **fields)


def there_and_back(one: RecordEvent) -> RecordEvent:
    short = msgspec.structs.replace(one)
    shorten(short)
    back = msgspec.json.decode(msgspec.json.encode(short), type=RecordEvent)
    expand(back, BASE, TRACE)
    again = msgspec.structs.replace(back)
    expand(again, BASE, TRACE)
    assert again == back
    return back


@pytest.mark.parametrize("kind", ["syscall", "context_snapshot", "llm_response"])
def test_what_capture_writes_comes_back_whole(kind):
    spans, numbers, tasks = ("00000002", "0000abcd", "12345678"), (None, 1, 7), ("0", "0.1")
    parents = ("00000001", "0000000f") if kind == "syscall" else (None,)
    for span, parent, call, step, task in product(spans, parents, numbers, numbers, tasks):
        if (call is None) != (step is None):
            continue  # capture gives both or neither
        back = there_and_back(event(kind, span_id=span, parent_span_id=parent, call=call, step=step, task=task))
        assert (back.span_id, back.call, back.step, back.task) == (BASE + span, call, step, task)
        assert back.parent_span_id == (BASE + parent if parent else None)
        assert back.trace_id == TRACE


def test_other_events_are_left_as_they_are():
    whole = {"span_id": "ef" * 16, "parent_span_id": "00000001", "trace_id": "99" * 16, "call": 1, "step": 1}
    assert there_and_back(event("syscall", **whole)).parent_span_id == BASE + "00000001"
    assert there_and_back(event("syscall", task="0")) == event("syscall", task="0")
    state = there_and_back(event("state_change", span_id="00000001"))
    assert (state.span_id, state.parent_span_id, state.task) == (BASE + "00000001", None, None)
    zero = there_and_back(event("syscall", span_id="00000000", parent_span_id="00000000"))
    assert (zero.span_id, zero.parent_span_id) == (BASE + "00000000", BASE + "00000000")


def test_without_the_metadata_the_short_ids_are_whole_numbers():
    one = event("syscall", span_id="1f")
    expand(one, None, None)
    assert (one.span_id, one.parent_span_id, one.trace_id) == ("0000001f", "00000001", None)


def test_digests_are_hex_for_everyone_but_the_line():
    response = HttpResponse(200, body=Body(3, DIGEST))
    request = HttpRequest("GET", "u", body=Body(3, DIGEST))
    llm, context, syscall = event("llm_response"), event("context_snapshot"), event("syscall")
    llm.llm.response, context.context.request = response, request
    syscall.syscall.request, syscall.syscall.response = request, response
    for one in (llm, context, syscall):
        short = msgspec.structs.replace(one)
        shorten(short)
        line = msgspec.json.encode(short)
        assert DIGEST.encode() not in line
        assert len(line) < len(msgspec.json.encode(one))
        assert DIGEST.encode() in msgspec.json.encode(one), "the caller's event is not changed"
        assert there_and_back(one) == one
    assert Body(3, "no digest").sha256 == "no digest"
    assert Body(3, "é" * 43).sha256 == "é" * 43


def test_a_model_call_says_each_thing_once(tmp_path):
    with Recorder(tmp_path, 1, "x") as recorder:
        request = HttpRequest("POST", "http://x/v1/chat/completions", headers=[("a", "b")], client="httpx")
        context = ContextSnapshotData(provider="openai_chat", model="m", request=request)
        first = RecordEvent(
            RecordEventType.CONTEXT_SNAPSHOT, 0, 1, 1, context=context, task="0", at="a.py:1 main", span_id="00000002"
        )
        recorder.write_request(first, b'{"messages":[{"role":"user","content":"hi"}]}', "messages")
        call = SyscallEventData("LLMCall", {"path": "/dev/llm/openai/m"}, duration=5)
        ids = {"call": 1, "step": 1, "task": "0", "span_id": "00000002"}
        recorder.write_event(
            RecordEvent(RecordEventType.SYSCALL, 0, 1, 1, syscall=call, parent_span_id="00000001", **ids)
        )
    lines = [json.loads(line) for line in (recorder.record_dir / "events.jsonl").read_text().splitlines()]
    assert [set(line) & {"step", "task", "parent_span_id"} for line in lines] == [set(), set()]
    assert [line["span_id"] for line in lines] == ["2", "2"]
    with RecordReader(recorder.record_dir, strict=True) as reader:
        for one in (*reader.bare_events(), *reader.events()):
            assert (one.call, one.step, one.task) == (1, 1, "0")
            assert one.span_id == reader.metadata.span_base + "00000002"
        assert reader.event(1).context.request.client == "httpx"
        assert reader.event(2).parent_span_id == reader.metadata.span_base + "00000001"
        assert reader.snapshot_of_call(reader.event(2)).task == "0"
