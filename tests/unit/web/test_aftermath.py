"""What came of a step: who was told, what was tried again, and that another conversation is not taken for it."""

from __future__ import annotations

from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    ErrorData,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    SyscallEventData,
    ToolCall,
)
from unspool.recording.recorder import Recorder

MS = 1_000_000


class Run:
    """Writes a run by hand, a millisecond an event."""

    def __init__(self, store) -> None:
        self.recorder = Recorder(store.records, store.next_pid(), "a run")
        self.calls = 0
        self.at = 0

    def write(self, kind, call, **payload) -> int:
        self.at += MS
        event = RecordEvent(kind, 0, self.at, self.recorder.pid, call=call, step=call, **payload)
        return self.recorder.write_event(event)

    def call(self, messages, said="", *, error="", retry=False) -> int:
        """A model call; returns the number of its syscall, which is that of its page."""
        self.calls += 1
        context = ContextSnapshotData(
            messages=[CtxMessage("user", one) for one in messages], provider="openai", model="m", retry=retry
        )
        self.write(RecordEventType.CONTEXT_SNAPSHOT, self.calls, context=context)
        args = {"path": "/dev/llm/openai/m"} | ({"retry": True} if retry else {})
        asked = SyscallEventData("LLMCall", args, err=error, duration=MS // 2)
        seq = self.write(RecordEventType.SYSCALL, self.calls, syscall=asked)
        answer = LLMResponseData("m", None, None, error=ErrorData("http_429", error)) if error else None
        answer = answer or LLMResponseData("m", 10, 1, text=said, tool_calls=[ToolCall("rate", "{}", "c")])
        self.write(RecordEventType.LLM_RESPONSE, self.calls, llm=answer)
        return seq

    def tool(self, result=None, *, err="", name="rate") -> int:
        data = SyscallEventData("ToolCall", {"path": f"/dev/tool/{name}", "input": {}}, result, err, MS // 2)
        return self.write(RecordEventType.SYSCALL, self.calls, syscall=data)


def came_of(browser, run, seq):
    """The numbers of the steps that the page of a step says came of it."""
    answer = browser.get(f"/run/{run.recorder.record_id}/step/{seq}.json")
    assert answer.status_code == 200
    return [row["seq_num"] for row in answer.json()["page"]["came"]]


def test_a_failed_tool_leads_over_its_second_attempt_to_the_call_that_took_the_result(browser, store):
    run = Run(store)
    run.call(["hello"], "I ask")
    failed = run.tool(err="timed out")
    told = run.call(["hello", "I ask", "timed out"], "once more")
    again = run.tool("1.25")
    took = run.call(["hello", "I ask", "timed out", "once more", "1.25"], "done")
    run.recorder.close()
    assert came_of(browser, run, failed) == [told, again, took]
    assert came_of(browser, run, again) == [took]
    assert came_of(browser, run, took) == []


def test_attempts_that_fail_too_are_all_followed(browser, store):
    run = Run(store)
    run.call(["hello"])
    first = run.tool(err="timed out")
    texts = ["hello"]
    expected = []
    for result in ("", "", "1.25"):
        texts = [*texts, "asks", "said"]
        expected.append(run.call(texts))
        expected.append(run.tool(result or None, err="" if result else "timed out"))
    expected.append(run.call([*texts, "asks", "1.25"]))
    run.recorder.close()
    assert came_of(browser, run, first) == expected


def test_a_refused_call_leads_to_its_retry(browser, store):
    run = Run(store)
    refused = run.call(["hello"], error="429 Too Many Requests")
    retried = run.call(["hello"], "yes", retry=True)
    run.recorder.close()
    assert came_of(browser, run, refused) == [retried]
    assert came_of(browser, run, retried) == []


def test_a_call_of_another_conversation_was_not_told(browser, store):
    run = Run(store)
    run.call(["hello"], "I ask")
    result = run.tool("1.25")
    run.call(["something else altogether"], "aside")
    told = run.call(["hello", "I ask", "1.25"], "done")
    run.recorder.close()
    assert came_of(browser, run, result) == [told]


def test_another_tool_is_no_second_attempt(browser, store):
    run = Run(store)
    run.call(["hello"], "I ask")
    failed = run.tool(err="timed out")
    told = run.call(["hello", "I ask", "timed out"], "another way")
    run.tool("2", name="search")
    run.recorder.close()
    assert came_of(browser, run, failed) == [told]
