"""What each message cost over all the calls that sent it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_recordings import CHEAP, Tape, prices

from unspool.events import ContextSnapshotData, CtxMessage, HttpRequest, RecordEvent, RecordEventType, ToolCall
from unspool.recording.lines import encode_json
from unspool.recording.recorder import Recorder
from unspool.trace.carried import carried_cost
from unspool.trace.fitted import prompts_of
from unspool.trace.from_recording import recorded_trace

SYSTEM = CtxMessage("system", "be brief")
USER = CtxMessage("user", "find the largest city of each country and say how many live there")


def asked(*calls: tuple[str, str, str]) -> CtxMessage:
    return CtxMessage("assistant", "", tool_calls=[ToolCall(name, arguments, id=one) for one, name, arguments in calls])


def result(call_id: str, text: str) -> CtxMessage:
    return CtxMessage("tool", text, tool_call_id=call_id)


def costs_of(tape: Tape):
    trace = recorded_trace([tape.read()], prices=prices)
    return trace, carried_cost(trace, prices)


def by_name(found):
    return {(entry.producer.kind, entry.producer.name): entry for entry in found.entries}


def conversation(tape: Tape, **counts) -> list[CtxMessage]:
    """Three calls; two tools are asked for in one turn."""
    messages = [SYSTEM, USER]
    tape.model(10, messages=messages, read=50, written=20)
    tape.tool(25, name="search", args={"q": "a"}, result="short")
    tape.tool(35, name="fetch", args={"u": "b"}, result="long " * 400)
    messages = [
        *messages, asked(("c1", "search", '{"q": "a"}'), ("c2", "fetch", '{"u":"b"}')),
        result("c1", "short"), result("c2", "long " * 400),
    ]  # fmt: skip
    tape.model(50, messages=messages, read=600, written=5, **counts)
    messages = [*messages, CtxMessage("assistant", "Paris"), CtxMessage("user", "and then?")]
    tape.model(70, messages=messages, read=640, written=7, **counts)
    tape.end(90)
    return messages


def test_a_result_is_charged_to_its_tool_in_each_call_that_sends_it(tmp_path):
    tape = Tape(tmp_path)
    conversation(tape)
    trace, found = costs_of(tape)
    entries = by_name(found)
    fetch = entries["tool", "fetch"]
    assert fetch.producer.span.name == "fetch"
    assert fetch.sends == 2
    assert fetch.tokens > 400
    assert fetch.sent_tokens == pytest.approx(2 * fetch.tokens, rel=0.1)
    assert fetch.carried_usd == pytest.approx(fetch.cost_usd / 2, rel=0.1)
    assert entries["tool", "search"].sent_tokens < 40
    assert entries["system", "system prompt"].sends == 3
    assert entries["user", "user messages"].sends == 4
    assert sum(span.cost_usd or 0 for span in trace.spans) == pytest.approx(found.input_usd + found.output_usd)


def test_the_shares_sum_to_what_was_paid(tmp_path):
    tape = Tape(tmp_path)
    conversation(tape, cached_tokens=45, cache_write_tokens=300)
    _, found = costs_of(tape)
    assert sum(entry.sent_tokens for entry in found.entries) == pytest.approx(1290)
    assert sum(entry.cost_usd or 0 for entry in found.entries) == pytest.approx(found.input_usd)
    assert sum(entry.cached_tokens for entry in found.entries) == pytest.approx(90)
    # The beginning of the prompt is what was cached.
    assert by_name(found)["tool", "fetch"].cached_tokens == 0
    assert by_name(found)["system", "system prompt"].cached_tokens > 0


def test_a_result_in_the_next_prompt_proves_the_order(tmp_path):
    tape = Tape(tmp_path)
    conversation(tape)
    trace, found = costs_of(tape)
    names = {span.span_id: f"{span.name}{span.attributes.get('unspool.call') or ''}" for span in trace.spans}
    proven = {(names[one], names[other]) for one, other in found.needed}
    assert {
        ("big1", "search1"),
        ("big1", "fetch1"),
        ("search1", "big2"),
        ("fetch1", "big2"),
        ("big2", "big3"),
    } <= proven
    assert all(one != other for one, other in proven)


def test_equal_calls_belong_each_to_its_own_run(tmp_path):
    tape = Tape(tmp_path)
    tape.model(1, messages=[USER])
    first = tape.tool(20, args={"q": "x"}, result="one " * 50)
    second = tape.tool(30, args={"q": "x"}, result="two")
    messages = [USER, asked(("a", "search", '{"q":"x"}'), ("b", "search", '{"q":"x"}'))]
    tape.model(40, messages=[*messages, result("b", "two"), result("a", "one " * 50)], read=200)
    tape.end(60)
    _, found = costs_of(tape)
    sizes = {entry.producer.span.span_id[-8:]: entry.tokens for entry in found.entries if entry.producer.kind == "tool"}
    assert sizes[first] > sizes[second] * 5


def test_a_tool_that_was_not_recorded_has_a_line_by_its_name(tmp_path):
    tape = Tape(tmp_path)
    tape.model(1, messages=[USER])
    tape.model(20, messages=[USER, asked(("a", "secret", "{}")), result("a", "x " * 100)])
    tape.end(60)
    _, found = costs_of(tape)
    entry = by_name(found)["tool", "secret"]
    assert entry.sends == 1
    assert entry.producer.span.kind == "agent"


def test_a_call_that_failed_paid_nothing_and_the_next_attempt_pays_for_what_it_added(tmp_path):
    tape = Tape(tmp_path)
    tape.model(1, messages=[USER])
    messages = [USER, CtxMessage("assistant", "wait"), CtxMessage("user", "go on " * 30)]
    tape.model(20, messages=messages, err="429 Too Many Requests")
    tape.model(40, messages=messages, retry=True, step=2, read=200)
    tape.end(60)
    _, found = costs_of(tape)
    users = by_name(found)["user", "user messages"]
    assert users.sends == 3
    assert users.tokens > 80
    assert users.first_usd is not None
    assert users.first_usd < users.cost_usd
    assert sum(entry.sent_tokens for entry in found.entries) == pytest.approx(300)


def test_without_prices_there_are_tokens_and_no_cost(tmp_path):
    tape = Tape(tmp_path)
    conversation(tape)
    trace = recorded_trace([tape.read()])
    found = carried_cost(trace)
    assert found.input_usd is None
    assert found.unpriced == 3
    assert all(entry.cost_usd is None and entry.carried_usd is None for entry in found.entries)
    assert sum(entry.sent_tokens for entry in found.entries) == pytest.approx(1290)


def test_calls_whose_messages_are_gone_are_counted_as_unread(tmp_path):
    tape = Tape(tmp_path)
    conversation(tape)
    (tape.recorder.record_dir / "messages.jsonl").unlink()
    _, found = costs_of(tape)
    assert found.unread_tokens == 1290
    assert found.entries == []
    assert found.unread_usd == pytest.approx(found.input_usd)


# --- against the definition ------------------------------------------------------------------------------------------

_Call = tuple[
    int, int, str, int, int, int
]  # what it extends, how much of it is kept, new text, tokens, cached, written


@st.composite
def histories(draw: st.DrawFn) -> list[_Call]:
    calls = []
    for number in range(draw(st.integers(1, 6))):
        read = draw(st.integers(1, 300))
        cached = draw(st.integers(0, read))
        calls.append(
            (
                draw(st.integers(0, number)),
                draw(st.integers(0, 6)),
                draw(st.text("ab", max_size=12)),
                read,
                cached,
                draw(st.integers(0, read - cached)),
            )
        )
    return calls


@settings(max_examples=60, deadline=None)
@given(histories())
def test_any_tree_of_calls_is_charged_as_the_definition_says(tmp_path_factory, history):
    tape = Tape(tmp_path_factory.mktemp("carried"))
    contexts: list[list[CtxMessage]] = []
    for number, (above, kept, text, read, cached, written) in enumerate(history):
        base = contexts[above - 1][:kept] if above else []
        messages = [*base, *(CtxMessage("user" if char == "a" else "weird", f"{number} {at} {char}" * (at + 1))
                             for at, char in enumerate(text))]  # fmt: skip
        messages = messages or [CtxMessage("user", f"only {number}")]
        contexts.append(messages)
        tape.model(number * 20, messages=messages, read=read, cached_tokens=cached, cache_write_tokens=written)
    tape.end(1000)
    trace, found = costs_of(tape)
    prompts = prompts_of(trace.processes[0])
    wanted: dict[str, list[float]] = {kind: [0.0, 0.0, 0.0, 0] for kind in ("user", "unknown", "provider")}
    for (_, _, _, read, cached, written), messages, prompt in zip(history, contexts, prompts.calls, strict=True):
        # The provider's own comes first, then the messages, all of them together exactly what was counted.
        ends = [prompt.weight_of(count) for count in range(prompt.count + 1)]
        unseen = max(read - ends[-1], 0.0)
        weights = [unseen, *(end - start for start, end in itertools.pairwise(ends))]
        scale = read / sum(weights)
        at = 0.0
        for message, weight in zip([None, *messages], weights, strict=True):
            low, high = at * scale, (at + weight) * scale
            at += weight
            if message is None and not weight:
                continue
            in_cache = max(min(high, cached) - low, 0)
            in_write = max(min(high, cached + written) - max(low, cached), 0)
            rest = high - low - in_cache - in_write
            row = wanted["provider" if message is None else "user" if message.role == "user" else "unknown"]
            row[0] += rest * CHEAP.input + in_cache * CHEAP.cached + in_write * CHEAP.cache_write
            row[1] += high - low
            row[2] += in_cache
            row[3] += 1
    for entry in found.entries:
        usd, sent, in_cache, sends = wanted.pop(entry.producer.kind)
        assert entry.cost_usd == pytest.approx(usd, rel=1e-6, abs=1e-12)
        assert entry.sent_tokens == pytest.approx(sent, rel=1e-6, abs=1e-6)
        assert entry.cached_tokens == pytest.approx(in_cache, rel=1e-6, abs=1e-6)
        assert entry.sends == sends
    assert all(row[3] == 0 for row in wanted.values())


def test_bodies_as_providers_take_them_are_read_piece_by_piece(tmp_path):
    """Anthropic puts all results of a turn into one message, and the system prompt beside the messages."""
    tape = Tape(tmp_path)
    system, tools = "be brief and kind " * 20, [{"name": "search", "description": "find " * 50, "input_schema": {}}]
    turns = [{"role": "user", "content": "hello"}]

    def send(recorder: Recorder, call: int) -> None:
        body = encode_json({"model": "big", "system": system, "tools": tools, "messages": turns})
        event = RecordEvent(type=RecordEventType.CONTEXT_SNAPSHOT, seq_num=0, timestamp=call, pid=1)
        event.context = ContextSnapshotData(
            provider="anthropic",
            model="big",
            request=HttpRequest(method="POST", url="http://x/v1/messages", headers=[]),
        )
        recorder.write_request(event, body, "messages", ("system",), lambda cut: None)

    send(tape.recorder, 1)
    turns += [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "search", "input": {}},
                                          {"type": "tool_use", "id": "t2", "name": "search", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "one"},
                                     {"type": "tool_result", "tool_use_id": "t2", "content": "two " * 50}]},
    ]  # fmt: skip
    send(tape.recorder, 2)
    tape.end(90)
    reader = tape.read()
    sent = reader.sent()
    snapshots = [event for event in reader.bare_events() if event.context is not None]
    first, second = (sent.call(event) for event in snapshots)
    assert first is not None
    assert second is not None
    assert (first.kept, second.kept) == (0, 1)
    assert [len(element.parts) for element in second.added] == [1, 2]
    assert [part.tool_call_id for part in second.added[1].parts] == ["t1", "t2"]
    assert second.added[1].weights[1] > second.added[1].weights[0] * 3
    assert first.system == second.system > 50
    assert first.tools == second.tools > 30
    whole = sent.call(snapshots[1], whole=True)
    assert whole is not None
    assert (whole.kept, len(whole.added)) == (0, 3)
