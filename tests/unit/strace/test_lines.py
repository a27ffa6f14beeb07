"""Every kind of recorded event has a line and a JSON object."""

from __future__ import annotations

import json

import pytest

from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    ErrorData,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    StateChangeData,
    SyscallEventData,
    ToolDef,
)
from unspool.strace import Options, format_event, format_event_json, format_record_event, record_event_json
from unspool.strace.lines import syscall_event_of

PLAIN = Options()
SYSCALL = RecordEvent(
    RecordEventType.SYSCALL, 3, 12_000_000, 7, syscall=SyscallEventData("Open", {"path": "/a"}, "ok", duration=5_000)
)
CONTEXT = RecordEvent(
    RecordEventType.CONTEXT_SNAPSHOT,
    4,
    12_000_000,
    7,
    context=ContextSnapshotData(
        messages=[CtxMessage("user", "hi")] * 12, tools=[ToolDef("a")] * 3, provider="openai_chat", model="gpt-5"
    ),
    call=2,
    step=1,
    task="0.1",
)


def llm(**fields) -> RecordEvent:
    values = {"model": "gpt-5", "request_tokens": 1204, "response_tokens": 85, "finish_reason": "tool_calls", **fields}
    return RecordEvent(RecordEventType.LLM_RESPONSE, 5, 1_500_000_000, 7, llm=LLMResponseData(**values))


def state(reason: str = "") -> RecordEvent:
    return RecordEvent(RecordEventType.STATE_CHANGE, 1, 0, 7, state=StateChangeData("created", "running", reason))


def test_a_syscall_looks_as_in_live_tracing():
    assert format_record_event(SYSCALL, PLAIN) == format_event(syscall_event_of(SYSCALL), PLAIN)
    assert format_record_event(SYSCALL, PLAIN) == '[  0.012s] Open(path="/a") → ok    5µs'


def test_a_failed_syscall_is_marked():
    failed = RecordEvent(RecordEventType.SYSCALL, 1, 0, 7, syscall=SyscallEventData("Open", err="boom"))
    assert format_record_event(failed, PLAIN) == "[ERR] [  0.000s] Open() → err(boom)    0µs"


def test_a_context_is_counted():
    assert format_record_event(CONTEXT, PLAIN) == "[  0.012s] context: 12 msgs, 3 tools, openai_chat gpt-5"
    one = RecordEvent(
        RecordEventType.CONTEXT_SNAPSHOT,
        1,
        0,
        7,
        context=ContextSnapshotData(messages=["[user] x"], retry=True, partial="server-side state"),
    )
    assert format_record_event(one, PLAIN) == "[  0.000s] context: 1 msg, retry, partial (server-side state)"
    empty = RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 1, 0, 7, context=ContextSnapshotData())
    assert format_record_event(empty, PLAIN) == "[  0.000s] context: 0 msgs"


def test_an_answer_shows_its_tokens():
    assert format_record_event(llm(), PLAIN) == "[  1.500s] llm: gpt-5 1204→85 tok tool_calls"


def test_unknown_tokens_are_not_zero():
    shown = format_record_event(llm(request_tokens=None, response_tokens=None, finish_reason=None), PLAIN)
    assert shown == "[  1.500s] llm: gpt-5 ?→? tok"


def test_a_failed_answer_is_marked():
    failed = llm(error=ErrorData("rate_limit", "slow down"), finish_reason=None)
    assert format_record_event(failed, PLAIN) == "[ERR] [  1.500s] llm: gpt-5 1204→85 tok err(slow down)"
    assert format_record_event(failed, Options(color=True)).startswith("\x1b[91m")


def test_a_state_change_gives_its_reason():
    assert format_record_event(state("started"), PLAIN) == "[  0.000s] state: created → running (started)"
    assert format_record_event(state(), PLAIN) == "[  0.000s] state: created → running"


def test_an_event_without_payload_says_so():
    assert format_record_event(RecordEvent(RecordEventType.SYSCALL, 1, 0, 7), PLAIN) == "[  0.000s] syscall: (no data)"


@pytest.mark.parametrize("event", [SYSCALL, CONTEXT, llm(), state()])
def test_lines_of_several_processes_can_be_told_apart(event):
    assert format_record_event(event, PLAIN, pid_prefix=True) == "[pid   7] " + format_record_event(event, PLAIN)


@pytest.mark.parametrize("event", [SYSCALL, CONTEXT, llm(), state()])
def test_json_mode_is_record_event_json(event):
    assert format_record_event(event, Options(json=True), pid_prefix=True) == record_event_json(event)


def test_a_formatter_makes_the_lines_of_calls():
    options = Options(formatter=lambda event: f"mine {event.syscall}")
    assert format_record_event(SYSCALL, options) == "mine Open"
    assert format_record_event(state(), options).startswith("[  0.000s] state")


def test_text_of_a_recording_cannot_act_on_the_terminal():
    shown = format_record_event(llm(model="gpt\x1b[2J\n5"), PLAIN)
    assert "\x1b" not in shown
    assert "\n" not in shown


def test_the_json_of_a_call_has_the_keys_of_a_live_one_and_its_place():
    placed = RecordEvent(RecordEventType.SYSCALL, 3, 12_000_000, 7, syscall=SYSCALL.syscall, call=2, step=1, task="0")
    live = json.loads(format_event_json(syscall_event_of(placed)))
    document = json.loads(record_event_json(placed))
    assert list(document) == [*live, "call", "step", "task"]
    assert document == {**live, "call": 2, "step": 1, "task": "0"}
    assert record_event_json(SYSCALL) == format_event_json(syscall_event_of(SYSCALL))


def test_the_json_of_other_events_holds_their_payload():
    assert json.loads(record_event_json(state("why"))) == {
        "timestamp_ms": 0,
        "pid": 7,
        "seq_num": 1,
        "type": "state_change",
        "timestamp_ns": 0,
        "state": {"from_state": "created", "to_state": "running", "reason": "why"},
    }
    document = json.loads(record_event_json(CONTEXT))
    assert document["context"]["messages"][0] == {"role": "user", "content": "hi"}
    assert (document["call"], document["step"], document["task"]) == (2, 1, "0.1")
    unknown = json.loads(record_event_json(llm(request_tokens=None)))
    assert unknown["llm"]["request_tokens"] is None


def test_only_a_syscall_has_the_form_of_a_live_event():
    with pytest.raises(ValueError, match="state_change"):
        syscall_event_of(state())
