"""Messages of agents that send a window over their history: each is one message, in costs, contexts and forecasts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_recordings import CHEAP, Tape, prices

from unspool.context.forecast import fit_trend, level_since
from unspool.context.growth import GrowthSnapshot, predict_growth
from unspool.context.reading import read_run
from unspool.context.trajectory import trajectory
from unspool.events import CtxMessage, ToolCall
from unspool.recording.again import align, message_key, slid_over
from unspool.trace.carried import carried_cost
from unspool.trace.fitted import prompts_of
from unspool.trace.from_recording import recorded_trace

SYSTEM = CtxMessage("system", "be brief " * 20)
WORDS = "some words that are asked about " * 8


def question(number: int) -> CtxMessage:
    return CtxMessage("user", f"question {number}: {WORDS}")


def answer(number: int) -> CtxMessage:
    return CtxMessage("assistant", f"answer {number}: {WORDS}")


def windowed(tape: Tape, turns: int, size: int, *, system: bool = True, ask=question) -> Tape:
    """An agent that sends its last messages only; the counts are those of a provider that counts characters."""
    history: list[CtxMessage] = []
    for number in range(turns):
        history.append(ask(number))
        sent = [*([SYSTEM] if system else []), *history[-size:]]
        read = sum(len(message.content) // 4 + 4 for message in sent)
        tape.model(number * 20, messages=sent, read=read, written=len(answer(number).content) // 4)
        history.append(answer(number))
    tape.end(turns * 20)
    return tape


def charged(tape: Tape):
    trace = recorded_trace([tape.read()], prices=prices)
    found = carried_cost(trace, prices)
    return trace, found, {entry.producer.name: entry for entry in found.entries}


def serve(tape: Tape, calls: int) -> None:
    """Say of the first calls that a recording answered them."""
    path = tape.recorder.record_dir / "events.jsonl"
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    for line in lines:
        if line.get("call", calls + 1) <= calls:
            line["origin"] = "served"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("system", [True, False])
def test_what_was_served_is_paid_for_first_by_the_call_that_is_sent(tmp_path, system):
    tape = windowed(Tape(tmp_path), 12, 6, system=system)
    serve(tape, 11)
    trace, found, entries = charged(tape)
    [live] = [span for span in trace.spans if span.tokens_used]
    assert found.input_tokens == live.attributes["gen_ai.usage.input_tokens"]
    assert found.input_usd == pytest.approx(found.input_tokens * CHEAP.input)
    assert entries["user messages"].sends == 3
    for entry in found.entries:
        assert entry.tokens == pytest.approx(entry.sent_tokens)
        assert entry.carried_usd == pytest.approx(0, abs=1e-12)


def test_what_an_edit_took_out_is_not_paid_for(tmp_path):
    tape = Tape(tmp_path)
    first = [SYSTEM, question(0), CtxMessage("user", WORDS * 50)]
    tape.model(0, messages=first, read=3000)
    tape.model(20, messages=[*first, answer(0), question(1)], read=3200)
    tape.model(40, messages=[*first[:2], CtxMessage("user", "[cut]"), answer(0), question(1)], read=200)
    tape.end(60)
    serve(tape, 2)
    _, found, entries = charged(tape)
    assert found.input_tokens == 200
    assert entries["user messages"].tokens == pytest.approx(entries["user messages"].sent_tokens)
    assert entries["user messages"].tokens < 200


@pytest.mark.parametrize("system", [True, False])
def test_a_message_in_a_window_that_slides_is_sent_once_and_then_again(tmp_path, system):
    trace, found, entries = charged(windowed(Tape(tmp_path), 40, 10, system=system))
    users = entries["user messages"]
    turns = [entry for entry in found.entries if entry.producer.kind == "model"]
    # 40 questions, each in 5 windows but for the last ones; an answer is sent from the next call on.
    assert (users.sends, len(turns), sum(entry.sends for entry in turns)) == (190, 39, 185)
    prompt = prompts_of(trace.processes[0]).calls[-1]
    one = users.sent_tokens / users.sends
    assert users.tokens == pytest.approx(40 * one, rel=0.02)
    assert sum(entry.tokens for entry in turns) == pytest.approx(39 * one, rel=0.1)
    assert users.carried_usd == pytest.approx(users.cost_usd * 150 / 190, rel=0.02)
    assert "model turns of unknown origin" not in entries
    assert sum(entry.sent_tokens for entry in found.entries) == pytest.approx(found.input_tokens)
    assert found.input_usd == pytest.approx(found.input_tokens * CHEAP.input)
    assert prompt.tokens > 0


def test_equal_messages_are_told_apart_by_their_order(tmp_path):
    _, _, entries = charged(windowed(Tape(tmp_path), 40, 10, ask=lambda number: CtxMessage("user", WORDS)))
    users = entries["user messages"]
    assert users.tokens == pytest.approx(40 * users.sent_tokens / users.sends, rel=0.02)


def test_results_of_tools_stay_those_of_their_calls(tmp_path):
    tape = Tape(tmp_path)
    history = [CtxMessage("user", "look at all rows")]
    for number in range(12):
        tape.model(number * 20, messages=[SYSTEM, *history[-5:]], read=400, written=5)
        tape.tool(number * 20 + 12, name="look", args={"row": number}, result=f"row {number}")
        call = ToolCall("look", f'{{"row": {number}}}', id=f"c{number}")
        history += [
            CtxMessage("assistant", "", tool_calls=[call]),
            CtxMessage("tool", f"row {number} {WORDS}", tool_call_id=call.id),
        ]
    tape.end(300)
    _, _, entries = charged(tape)
    # The window holds two pairs and one message more: every other one of these is a result without its call.
    assert entries["look"].tokens > 0
    trace, found, _ = charged(tape)
    runs = [entry for entry in found.entries if entry.producer.kind == "tool"]
    assert len(runs) == 11  # the last result was never sent
    assert {entry.producer.span.span_id for entry in runs} <= {span.span_id for span, _ in trace.processes[0].tools}
    assert {entry.sends for entry in runs} == {1, 2, 3}


def test_a_context_that_does_not_grow_is_never_full(tmp_path):
    run = read_run(windowed(Tape(tmp_path), 40, 10).read())
    found = trajectory(run, run.calls[-1], 1, 128_000)
    assert (found.prediction.note, found.prediction.est_high) == ("the context is not growing", 0)
    assert all(abs(tokens) < 2 for tokens in found.per_step.values())


# --- forecasts -------------------------------------------------------------------------------------------------------


def steps(*tokens: int) -> list[tuple[int, int]]:
    return list(enumerate(tokens, 1))


@pytest.mark.parametrize(
    ("tokens", "since"),
    [
        (range(100, 3000, 100), None),
        ([*range(100, 1000, 100), *[950] * 12], 10),
        ([*range(100, 1000, 100), 950, 940, 960, 930, 955, 945, 950, 965, 935, 950, 940, 955], 10),
        # Where it goes up and down and yet up, it grows.
        ([100, 200, 180, 300, 280, 400, 380, 500, 480, 600, 580, 700], None),
        # One compaction is no level, and five points are none.
        ([*range(100, 1000, 100), *range(200, 900, 100)], None),
        ([500] * 5, None),
        ([500] * 6, 1),
    ],
)
def test_where_a_context_is_level(tokens, since):
    assert level_since(steps(*tokens)) == since


def test_what_is_level_has_no_trend(tmp_path):
    points = steps(*range(100, 1000, 100), *[950] * 12)
    trend = fit_trend(points)
    assert trend is not None
    assert trend.rate == trend.slope == 0.0
    found = predict_growth(1, 950, 128_000, 21, 0, [GrowthSnapshot(*point) for point in points])
    assert found.note == "the context is not growing"


@given(st.lists(st.integers(1, 5000), min_size=2, max_size=30))
def test_what_is_only_added_to_is_never_level(added):
    tokens = [sum(added[: count + 1]) for count in range(len(added))]
    assert level_since(steps(*tokens)) is None


# --- alignment -------------------------------------------------------------------------------------------------------


def keys(text: str) -> list[bytes]:
    return [message_key(CtxMessage("user", char)) for char in text]


@pytest.mark.parametrize(
    ("before", "after", "places"),
    [
        ("abcd", "cdef", [2, 3, None, None]),
        ("xaxb", "xbx", [0, 3, None]),  # the third x is a new one
        ("Rc", "caRd", [1, None, 0, None]),  # the only one that says so, moved to the end
        ("abc", "Sbc", [None, 1, 2]),
        ("", "ab", [None, None]),
        ("ab", "", []),
    ],
)
def test_messages_keep_their_order(before, after, places):
    assert align(keys(before), keys(after)) == places


@given(st.text("abc", max_size=12), st.text("abc", max_size=12))
def test_an_alignment_pairs_equal_messages_once(before, after):
    found = align(keys(before), keys(after))
    given_places = [place for place in found if place is not None]
    assert len(found) == len(after)
    assert len(set(given_places)) == len(given_places)
    assert all(before[place] == char for place, char in zip(found, after, strict=True) if place is not None)


@given(st.text("ab", max_size=10), st.text("ab", max_size=10))
def test_a_window_begins_with_the_longest_end(before, after):
    longest = max(size for size in range(len(after) + 1) if before.endswith(after[:size]))
    assert slid_over(keys(before), keys(after)) == longest
