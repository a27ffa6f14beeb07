"""Steps of a run that goes on, as rows made from the events alone."""

from __future__ import annotations

import re

from unspool.cli.prices import Prices
from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    SyscallEventData,
)
from unspool.recording.recorder import Recorder
from unspool.web.newsteps import NewSteps
from unspool.web.shelf import Shelf


def call(number: int, text: str) -> list[RecordEvent]:
    context = ContextSnapshotData(messages=[CtxMessage("user", text)], provider="openai_chat", model="gpt-4.1-mini")
    asked = SyscallEventData("LLMCall", {"path": "/dev/llm/openai/gpt-4.1-mini"}, None, "", 500_000)
    answer = LLMResponseData("gpt-4.1-mini", 100, 10, text=f"answer {text}")
    return [
        RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, number, 1, context=context, call=number),
        RecordEvent(RecordEventType.SYSCALL, 0, number, 1, syscall=asked, call=number),
        RecordEvent(RecordEventType.LLM_RESPONSE, 0, number, 1, llm=answer, call=number),
    ]


def tool(text: str, err: str = "") -> RecordEvent:
    data = SyscallEventData("ToolCall", {"path": "/dev/tool/search", "input": {"q": text}}, f"found {text}", err, 1000)
    return RecordEvent(RecordEventType.SYSCALL, 0, 5_000_000, 1, syscall=data)


def test_each_new_step_is_a_row_and_what_was_there_before_is_none(store):
    with Recorder(store.records, store.next_pid(), "goes on") as recorder:
        for event in call(1, "first"):
            recorder.write_event(event)
        steps = NewSteps(Shelf(store, Prices()), recorder.record_id)
        assert steps.look([recorder.record_id], is_first=True) == []
        assert steps.look([recorder.record_id]) == []
        for event in [*call(2, "second"), tool("<b>it</b>"), tool("again", "no index")]:
            recorder.write_event(event)
        rows = steps.look([recorder.record_id])
    assert len(rows) == 3
    assert "answer second" in rows[0]
    assert "100 → 10" in rows[0]
    assert re.search(rf'data-href="/run/{recorder.record_id}/step/5"', rows[0])
    assert "&lt;b&gt;it&lt;/b&gt;" in rows[1]
    assert "<b>" not in rows[1]
    assert "data-error" in rows[2]
    assert "no index" in rows[2]


def test_an_answer_that_comes_later_gives_the_row_of_its_call_again(store):
    with Recorder(store.records, store.next_pid(), "goes on") as recorder:
        steps = NewSteps(Shelf(store, Prices()), recorder.record_id)
        assert steps.look([recorder.record_id], is_first=True) == []
        snapshot, asked, answer = call(1, "slow")
        recorder.write_event(snapshot)
        recorder.write_event(asked)
        (waiting,) = steps.look([recorder.record_id])
        assert "answer slow" not in waiting
        recorder.write_event(answer)
        (answered,) = steps.look([recorder.record_id])
        assert "answer slow" in answered
    href = 'data-href="[^"]+"'
    assert re.search(href, waiting)[0] == re.search(href, answered)[0]


def test_a_recording_that_is_gone_is_no_news(store):
    steps = NewSteps(Shelf(store, Prices()), "9-gone")
    assert steps.look(["9-gone"], is_first=True) == []
    assert steps.look(["9-gone"]) == []
