"""Spans of recorded runs."""

from __future__ import annotations

import json

import pytest
from trace_recordings import MS, Tape, prices

from unspool.events import LLMResponseData, RecordEventType, SyscallEventData
from unspool.trace import SpanStatus, analyze_trace, build_span_tree
from unspool.trace.from_recording import recorded_trace


def spans_of(*tapes: Tape, **options):
    trace = recorded_trace([tape.read() for tape in tapes], **options)
    tree = build_span_tree(trace.spans, until_ns=trace.until_ns)
    assert tree is not None
    return trace, {span.name: span for span in trace.spans}, tree


def shape(tree) -> list[str]:
    return ["  " * depth + node.name for node, depth in tree.walk()]


def test_a_process_has_a_span_and_so_has_each_of_its_calls(tmp_path):
    tape = Tape(tmp_path, intent="plan a trip")
    tape.model(10, 20, cached_tokens=40, reasoning_tokens=3)
    outer = tape.tool(35, 30)
    tape.tool(40, 10, name="inner", parent=outer)
    tape.end(70)
    trace, by_name, tree = spans_of(tape, prices=prices)
    assert shape(tree) == ["plan a trip", "  big", "  search", "    inner"]
    assert tree.notes == []
    agent, call, tool = by_name["plan a trip"], by_name["big"], by_name["search"]
    assert (agent.kind, call.kind, tool.kind) == ("agent", "llm", "tool")
    assert agent.duration == 70 * MS
    assert (call.start_time_ns - agent.start_time_ns, call.duration) == (10 * MS, 20 * MS)
    assert call.tokens_used == 110
    assert call.cost_usd == pytest.approx(60e-6 + 40e-7 + 40e-6)
    assert call.attributes["gen_ai.usage.cache_read.input_tokens"] == 40
    assert call.attributes["gen_ai.usage.reasoning.output_tokens"] == 3
    assert tool.attributes["unspool.seq_num"] == 4
    assert trace.until_ns == agent.end_time_ns
    assert agent.syscall_count == 3


def test_a_model_without_a_price_or_counts_has_no_cost(tmp_path):
    tape = Tape(tmp_path)
    tape.model(1, vendor="nobody", model="a")
    tape.model(20, read=None, written=None, model="b")
    tape.end(40)
    _, by_name, tree = spans_of(tape, prices=prices)
    assert by_name["a"].cost_usd is by_name["b"].cost_usd is None
    assert (by_name["a"].tokens_used, by_name["b"].tokens_used) == (110, None)
    assert tree.metadata.total_cost_usd is None


def test_what_was_served_from_a_recording_cost_nothing(tmp_path):
    tape = Tape(tmp_path)
    tape.model(1)
    path = tape.recorder.record_dir / "events.jsonl"
    tape.end(20)
    lines = [{**json.loads(line), "origin": "served"} for line in path.read_bytes().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    _, by_name, _ = spans_of(tape, prices=prices)
    assert by_name["big"].cost_usd == 0.0


def test_errors_and_timeouts(tmp_path):
    tape = Tape(tmp_path)
    tape.tool(1, name="a", err="ValueError: no index")
    tape.tool(10, name="b", err="ReadTimeout: too slow")
    tape.model(20, err="429 Too Many Requests")
    tape.end(40, "exited: RuntimeError: gave up")
    _, by_name, _ = spans_of(tape)
    assert by_name["a"].status is SpanStatus.ERROR
    assert by_name["a"].attributes["error.message"] == "ValueError: no index"
    assert by_name["b"].status is SpanStatus.TIMEOUT
    assert by_name["big"].status is SpanStatus.ERROR
    assert by_name["big"].tokens_used == 0
    assert by_name["test"].attributes["error.message"] == "RuntimeError: gave up"


@pytest.mark.parametrize(("code", "message"), [(3, "exit code 3"), (137, "killed by signal 9")])
def test_the_exit_code_fails_the_agent(tmp_path, code, message):
    tape = Tape(tmp_path)
    tape.tool(1)
    tape.end(20, exit_code=code)
    _, by_name, _ = spans_of(tape)
    assert by_name["test"].status is SpanStatus.ERROR
    assert by_name["test"].attributes["error.message"] == message


def test_what_has_begun_and_not_ended_is_open(tmp_path):
    tape = Tape(tmp_path)
    tape.tool(1)
    tape.model(10, answered=False)
    start = {"span_id": "000000ff", "parent_span_id": "00000001", "name": "ToolCall", "path": "/dev/tool/hang"}
    (tape.recorder.record_dir / "open.jsonl").write_text(
        json.dumps({**start, "start": 30 * MS}) + '\n{"span_id": "torn'
    )
    now = spans_of(tape)[0].processes[0].agent.start_time_ns + 500 * MS
    _, by_name, tree = spans_of(tape, now_ns=now)
    assert [by_name[name].status for name in ("test", "big", "hang")] == [SpanStatus.OPEN] * 3
    assert [by_name[name].end_time_ns for name in ("test", "big", "hang")] == [0] * 3
    assert by_name["search"].status is SpanStatus.OK
    assert tree.metadata.total_duration == 500 * MS
    assert by_name["big"].attributes["gen_ai.request.model"] == "big"
    result = analyze_trace(tree)
    assert result is not None
    assert result.critical_duration == 500 * MS


def test_the_agents_of_a_killed_process_lasted_equally_long(tmp_path):
    outer, inner = Tape(tmp_path), Tape(tmp_path, 2, "inner")
    outer.tool(1)
    inner.tool(50, 20)
    for tape in (outer, inner):
        (tape.recorder.record_dir / "writer.lock").unlink()  # as a kill leaves them: nobody holds the lock
    trace, by_name, _ = spans_of(outer, inner)
    for tape in (outer, inner):
        tape.recorder.close()
    assert by_name["test"].status is by_name["inner"].status is SpanStatus.OPEN
    assert by_name["test"].end_time_ns == by_name["inner"].end_time_ns == trace.until_ns


def test_processes_join_where_they_were_started(tmp_path):
    root = Tape(tmp_path, 1, "root")
    spawn = root.span()
    base = root.recorder.metadata.span_base
    child = Tape(tmp_path, 2, "child", parent=root.recorder.record_id, parent_span_id=base + spawn)
    worker = Tape(tmp_path, 3, "worker", parent=root.recorder.record_id, role="worker")
    data = SyscallEventData("Spawn", {"path": "/dev/agent/child"}, duration=30 * MS)
    root.write(RecordEventType.SYSCALL, 5, syscall=data, span_id=spawn, parent_span_id="00000001")
    child.tool(1, name="a")
    worker.tool(1, name="b")
    for tape in (child, worker, root):
        tape.end(50)
    _, _, tree = spans_of(worker, child, root)
    assert sorted(shape(tree)) == sorted(["root", "  spawn child", "    child", "      a", "  worker", "    b"])
    _, by_name, alone = spans_of(child)
    assert alone.root.name == "child"
    assert by_name["child"].parent_span_id == ""


def test_a_recording_without_span_ids_gives_spans_all_the_same(tmp_path):
    tape = Tape(tmp_path)
    call = SyscallEventData("LLMCall", {"path": "/dev/llm/acme/big"}, duration=MS)
    tape.write(RecordEventType.SYSCALL, 1, syscall=call)
    tape.write(RecordEventType.LLM_RESPONSE, 2, llm=LLMResponseData("big", 10, 5))
    tape.write(RecordEventType.LLM_RESPONSE, 3, llm=LLMResponseData("big", 10, 5))
    tape.write(RecordEventType.SYSCALL, 4, syscall=SyscallEventData("Open", {"path": "/dev/fs/a"}, duration=MS))
    tape.end(9)
    trace, _, tree = spans_of(tape, prices=prices)
    calls = [span for span in trace.spans if span.kind == "llm"]
    assert [span.tokens_used for span in calls] == [15, 15]
    assert calls[0].cost_usd is not None
    assert len({span.span_id for span in trace.spans}) == len(trace.spans)
    assert tree.notes == []
    again = {span.span_id for span in spans_of(tape)[0].spans}
    assert again == {span.span_id for span in trace.spans}


def test_the_hooks_instants_are_no_spans(tmp_path):
    tape = Tape(tmp_path)
    data = SyscallEventData("Connect", {"path": "/dev/net/a:1"}, "attempted")
    tape.write(RecordEventType.SYSCALL, 1, syscall=data, parent_span_id="00000001")
    tape.end(2)
    assert [span.name for span in spans_of(tape)[0].spans] == ["test"]
