"""Messages out of spans, in each of the three ways in which they are written, as recordings."""

from __future__ import annotations

import json

import pytest

from unspool.events import RecordEventType
from unspool.interop.importing import import_paths
from unspool.interop.otlp import Carried, OtlpSpan
from unspool.interop.otlp_json import write_json
from unspool.interop.spans_run import run_of_spans
from unspool.trace.from_recording import recorded_trace
from unspool.trace.spans import Span

GENAI = {
    "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.temperature": 0.5,
    "gen_ai.system_instructions": json.dumps([{"type": "text", "content": "be brief"}]),
    "gen_ai.input.messages": json.dumps([
        {"role": "user", "parts": [{"type": "text", "content": "hi"}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "c", "name": "find", "arguments": {"q": 1}}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c", "response": "found"}]}]),
    "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": "ho"}]}]),
}  # fmt: skip
OPENINFERENCE = {
    "openinference.span.kind": "LLM", "llm.provider": "openai",
    "llm.invocation_parameters": '{"temperature": 0.5}',
    "llm.input_messages.0.message.role": "system", "llm.input_messages.0.message.content": "be brief",
    "llm.input_messages.1.message.role": "user",
    "llm.input_messages.1.message.contents.0.message_content.type": "text",
    "llm.input_messages.1.message.contents.0.message_content.text": "hi",
    "llm.input_messages.2.message.role": "assistant",
    "llm.input_messages.2.message.tool_calls.0.tool_call.id": "c",
    "llm.input_messages.2.message.tool_calls.0.tool_call.function.name": "find",
    "llm.input_messages.2.message.tool_calls.0.tool_call.function.arguments": '{"q":1}',
    "llm.input_messages.3.message.role": "tool", "llm.input_messages.3.message.content": "found",
    "llm.input_messages.3.message.tool_call_id": "c",
    "llm.output_messages.0.message.role": "assistant", "llm.output_messages.0.message.content": "ho",
}  # fmt: skip
OPENLLMETRY = {
    "llm.request.type": "chat", "gen_ai.system": "openai", "gen_ai.request.temperature": 0.5,
    "gen_ai.prompt.0.role": "system", "gen_ai.prompt.0.content": "be brief",
    "gen_ai.prompt.1.role": "user", "gen_ai.prompt.1.content": "hi",
    "gen_ai.prompt.2.role": "assistant", "gen_ai.prompt.2.tool_calls.0.id": "c",
    "gen_ai.prompt.2.tool_calls.0.name": "find", "gen_ai.prompt.2.tool_calls.0.arguments": '{"q":1}',
    "gen_ai.prompt.3.role": "tool", "gen_ai.prompt.3.content": "found", "gen_ai.prompt.3.tool_call_id": "c",
    "gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.content": "ho",
}  # fmt: skip


def write(path, *spans):
    path.write_bytes(write_json([(Carried(), list(spans))]))
    return path


def span(number, parent="", **attributes):
    return OtlpSpan("a" * 32, f"{number:016x}", parent, name=f"s{number}", start_ns=10**18 + number,
                    end_ns=10**18 + 1000, attributes=attributes)  # fmt: skip


@pytest.mark.parametrize("given", [GENAI, OPENINFERENCE, OPENLLMETRY])
def test_messages(tmp_path, store, read, given):
    root = f"{1:016x}"
    path = write(
        tmp_path / "s.json", span(1), span(2, root, **given), span(3, root, **{"gen_ai.operation.name": "chat"})
    )
    result = import_paths([path], store, recordings=True)[0]
    assert (result.traces, len(result.records)) == ({"a" * 32: 3}, 1)
    reader = read(result.records[0].record_id)
    snapshot = next(event for event in reader.events() if event.type is RecordEventType.CONTEXT_SNAPSHOT).context
    assert snapshot.system_prompt == "be brief"
    assert [message.role for message in snapshot.messages] == ["user", "assistant", "tool"]
    assert [message.content for message in snapshot.messages] == ["hi", "", "found"]
    (call,) = snapshot.messages[1].tool_calls
    assert (call.id, call.name, json.loads(call.arguments)) == ("c", "find", {"q": 1})
    assert snapshot.messages[2].tool_name == "find"
    assert snapshot.params == {"temperature": 0.5}
    answers = [event.llm for event in reader.events() if event.type is RecordEventType.LLM_RESPONSE]
    assert [answer.text for answer in answers] == ["ho", ""]
    assert answers[0].request_tokens is None
    assert "messages of some calls" in reader.metadata.extra["imported"]["missing"]
    spans = {one.name: one for one in recorded_trace([reader]).spans}
    calls = [one for one in recorded_trace([reader]).spans if one.kind == "llm"]
    assert {one.parent_span_id for one in calls} == {spans["s1"].span_id}
    assert reader.metadata.trace_id != "a" * 32  # the trace itself stays as it came
    again = import_paths([path], store, recordings=True)[0]
    assert (again.records, again.traces) == ([], {})


def test_spans_without_messages_make_no_recording(tmp_path, store):
    path = write(tmp_path / "s.json", span(1, **{"gen_ai.operation.name": "chat"}))
    result = import_paths([path], store, recordings=True)[0]
    assert result.records == []
    assert "carry no messages" in result.notes[0]
    assert result.is_whole


def test_a_system_message_beside_system_instructions_is_not_lost(tmp_path):
    instructions = [{"type": "text", "content": "be brief"}]

    def prompt_of(*messages):
        sent = [{"role": role, "parts": [{"type": "text", "content": text}]} for role, text in messages]
        given = {"gen_ai.system_instructions": json.dumps(instructions), "gen_ai.input.messages": json.dumps(sent)}
        [call] = run_of_spans([Span("b" * 32, "a" * 16, name="chat", kind="llm", attributes=given)]).processes[0].items
        return call.system_prompt, [message.content for message in call.messages]

    assert prompt_of(("user", "hi")) == ("be brief", ["hi"])
    assert prompt_of(("system", "be kind"), ("user", "hi")) == ("be brief\nbe kind", ["hi"])
    assert prompt_of(("system", "be brief"), ("user", "hi")) == ("be brief", ["hi"])
