"""Sessions of Claude Code: the tree, one call for each message id, its final usage, sub-agents under their tool."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from datetime import UTC, datetime

import pytest

from unspool.events import RecordEventType
from unspool.interop.importing import import_paths
from unspool.trace.from_recording import recorded_trace

SESSION = "ef958aa1-0e93-49f0-bb71-150f63befcd1"


def lines_of(path):
    return [json.loads(line) for line in gzip.open(path, "rt") if line.strip()]


@pytest.fixture
def session(data, store):
    result = import_paths([data / "claude_code" / f"{SESSION}.jsonl.gz"], store)[0]
    assert result.problems == []
    return result


def calls_of(reader):
    return [event.llm for event in reader.events() if event.type is RecordEventType.LLM_RESPONSE]


def tools_of(reader):
    return [event for event in reader.events() if event.syscall is not None and event.syscall.syscall == "ToolCall"]


def test_one_call_for_each_message_id_with_its_final_usage(data, session, read):
    files = [data / "claude_code" / f"{SESSION}.jsonl.gz", *sorted((data / "claude_code").rglob("agent-*.gz"))]
    assert len(session.paths) == len(files) == 4
    wanted = defaultdict(lambda: (0, 0, 0, 0))
    for path in files:
        for line in lines_of(path):
            if line["type"] == "assistant":
                usage, message = line["message"]["usage"], line["message"]["id"]
                written, cached = usage["cache_creation_input_tokens"], usage["cache_read_input_tokens"]
                total = usage["input_tokens"] + written + cached
                counts = (total, usage["output_tokens"], cached, written)
                wanted[message] = max(wanted[message], counts, key=lambda one: one[1])
    found = {}
    for written in session.records:
        for call in calls_of(read(written.record_id)):
            assert call.response_id not in found
            counts = (call.request_tokens, call.response_tokens, call.cached_tokens, call.cache_write_tokens)
            found[call.response_id] = counts
    assert found == dict(wanted)
    assert len(found) == sum(one.model_calls for one in session.records) > 40


def test_every_tool_use_with_a_result_is_a_tool_call(data, session, read):
    results = {
        block["tool_use_id"]
        for path in (data / "claude_code").rglob("*.gz")
        if SESSION in str(path)
        for line in lines_of(path)
        if line["type"] == "user" and isinstance(line["message"]["content"], list)
        for block in line["message"]["content"]
        if block.get("type") == "tool_result"
    }
    tools = [event for one in session.records for event in tools_of(read(one.record_id))]
    assert len(tools) == len(results) == sum(one.tool_calls for one in session.records)
    assert {event.syscall.args["path"] for event in tools} >= {"/dev/tool/Bash", "/dev/tool/Agent"}
    assert any(event.syscall.err for event in tools)


def test_sub_agents_hang_under_the_tool_that_started_them(session, read, store):
    root, *agents = session.records
    assert {one.parent for one in agents} == {root.record_id}
    readers = [read(one.record_id) for one in session.records]
    trace = recorded_trace(readers)
    spans = {span.span_id: span for span in trace.spans}
    assert len({span.trace_id for span in trace.spans}) == 1
    for process in trace.processes[1:]:
        above = spans[process.agent.parent_span_id]
        assert (above.kind, above.name) == ("tool", "Agent")
        assert above.start_time_ns <= process.agent.start_time_ns
        assert process.agent.end_time_ns <= above.end_time_ns


def test_parallel_results_are_all_in_the_next_context(session, read):
    """Results of tools that ran at once hang beside each other; the way to the root passes only one of them."""
    seen = 0
    for one in session.records:
        asked = []
        for event in read(one.record_id).events():
            if event.type is RecordEventType.CONTEXT_SNAPSHOT and len(asked) > 1:
                answered = {message.tool_call_id for message in event.context.messages if message.role == "tool"}
                if asked[0] in answered:  # not so in a branch that was left
                    assert answered >= set(asked)
                    seen += 1
            if event.type is RecordEventType.LLM_RESPONSE:
                asked = [call.id for call in event.llm.tool_calls or ()]
    assert seen >= 5


def test_times_are_those_of_the_session(session, read, data):
    metadata = read(session.records[0].record_id).metadata
    stamps = [line["timestamp"] for line in lines_of(session.paths[0]) if line.get("uuid")]
    assert metadata.start_time == datetime.fromisoformat(min(stamps)).astimezone(UTC)
    assert metadata.end_time == datetime.fromisoformat(max(stamps)).astimezone(UTC)
    assert metadata.os_pid is None
    assert metadata.extra["imported"]["format"] == "claude-code"
    assert "system prompt" in metadata.extra["imported"]["missing"]


def test_a_sub_agent_alone(data, store, read):
    path = next((data / "claude_code").rglob("agent-ab1e*.gz"))
    result = import_paths([path], store)[0]
    metadata = read(result.records[0].record_id).metadata
    assert metadata.parent is None
    assert "the session that started this sub-agent" in metadata.extra["imported"]["missing"]
    assert result.records[0].model_calls == 15


def line(uuid, parent, kind, content, *, at=0, message=None, **more):
    body = {"role": kind, "content": content}
    if kind == "assistant":
        body |= {"id": message, "model": "claude-x", "stop_reason": None}
    stamp = f"2026-01-01T00:00:{at:02d}.000Z"
    return {"uuid": uuid, "parentUuid": parent, "type": kind, "sessionId": "s", "timestamp": stamp,
            "message": body, **more}  # fmt: skip


def write(path, lines):
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def contexts(reader):
    return [
        [message.content for message in event.context.messages]
        for event in reader.events()
        if event.type is RecordEventType.CONTEXT_SNAPSHOT
    ]


def test_a_rewound_session_has_branches(tmp_path, store, read):
    """What the model saw is the way from the root: the branch that was left is not in it."""
    path = write(
        tmp_path / "s.jsonl",
        [
            line("1", None, "user", "hello"),
            line("2", "1", "assistant", [{"type": "text", "text": "wrong"}], at=1, message="m1"),
            line("3", "2", "user", "no", at=2),
            line("4", "3", "assistant", [{"type": "text", "text": "sorry"}], at=3, message="m2"),
            line("5", "1", "assistant", [{"type": "text", "text": "right"}], at=4, message="m3"),
            line("6", "5", "user", "thanks", at=5),
            line("7", "6", "assistant", [{"type": "text", "text": "bye"}], at=6, message="m4"),
        ],
    )
    result = import_paths([path], store)[0]
    reader = read(result.records[0].record_id)
    assert contexts(reader) == [["hello"], ["hello", "wrong", "no"], ["hello"], ["hello", "right", "thanks"]]
    assert [call.text for call in calls_of(reader)] == ["wrong", "sorry", "right", "bye"]
    assert all(call.request_tokens is None and call.response_tokens is None for call in calls_of(reader))


def test_an_error_of_the_api_is_no_answer(tmp_path, store, read):
    said = line("2", "1", "assistant", [{"type": "text", "text": "API Error: 529 overloaded"}], at=1, message="x")
    said["message"]["model"] = "<synthetic>"
    result = import_paths([write(tmp_path / "s.jsonl", [line("1", None, "user", "hello"), said])], store)[0]
    call = calls_of(read(result.records[0].record_id))[0]
    assert call.error.message == "API Error: 529 overloaded"
    assert call.request_tokens is None


def test_a_torn_session_is_imported_up_to_the_tear(tmp_path, store, read):
    good = [
        line("1", None, "user", "hello"),
        line("2", "1", "assistant", [{"type": "text", "text": "hi"}], message="m"),
    ]
    path = write(tmp_path / "s.jsonl", good)
    whole = path.read_text()
    path.write_text(whole.replace("\n", "\n{broken\n", 1) + whole[:40])
    result = import_paths([path], store)[0]
    assert not result.failed
    assert not result.is_whole
    assert [problem.partition(":")[0] for problem in result.problems] == ["line 2", "line 4"]
    assert contexts(read(result.records[0].record_id)) == [["hello"]]


def test_a_circle_of_parents_is_cut(tmp_path, store, read):
    lines = [
        line("1", "2", "user", "hello"),
        line("2", "1", "assistant", [{"type": "text", "text": "hi"}], message="m"),
    ]
    result = import_paths([write(tmp_path / "s.jsonl", lines)], store)[0]
    assert contexts(read(result.records[0].record_id)) == [["hello"]]
