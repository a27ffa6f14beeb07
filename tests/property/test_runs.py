"""Any two runs: every step has its one place, conversations are never mixed up, equal runs are equal."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from unspool.replay.lanes import lanes_of, match_lanes
from unspool.replay.pairs import align_steps
from unspool.replay.steps import RunStep

# Few keys, so that steps repeat and resemble each other across conversations.
STEP = st.tuples(
    st.sampled_from(["model", "tool"]),
    st.sampled_from("abc"),  # conversation
    st.sampled_from(["", "/worker"]),
    st.sampled_from(["x", "y"]),  # tool
    st.integers(0, 3),  # asked
    st.integers(0, 1),  # settings
    st.integers(0, 2),  # answered
    st.integers(0, 3),  # overlap with what follows
)


@st.composite
def runs(draw) -> list[RunStep]:
    steps = []
    for number, (kind, lane, place, tool, asked, settings, answered, length) in enumerate(draw(st.lists(STEP))):
        name = f"/dev/tool/{tool}" if kind == "tool" else "/dev/llm/openai/gpt"
        steps.append(
            RunStep(
                kind, "1-r", 1, number + 1, None, place + lane, place, name, "", "", number * 10, length * 10,
                asked_key=str(asked), settings_key=str(settings), answer_key=str(answered),
            )
        )  # fmt: skip
    return steps


@given(runs(), runs())
def test_every_step_is_in_exactly_one_pair_and_differences_are_what_differs(first, second):
    pairs = align_steps(first, second)
    assert Counter(p.first for p in pairs if p.first is not None) == Counter(range(len(first)))
    assert Counter(p.second for p in pairs if p.second is not None) == Counter(range(len(second)))
    for pair in pairs:
        assert pair.first is not None or pair.second is not None
        if pair.first is not None and pair.second is not None:
            one, other = first[pair.first], second[pair.second]
            assert one.kind == other.kind
            assert one.kind == "model" or one.name == other.name
            assert ("request" in pair.differs) == (one.asked_key != other.asked_key)
            assert ("settings" in pair.differs) == (one.settings_key != other.settings_key)
            assert ("response" in pair.differs) == (one.answer_key != other.answer_key)
            assert pair.is_same == (not pair.differs)
        else:
            assert not pair.is_same


@given(runs())
def test_a_run_is_the_same_as_itself(run):
    assert all(pair.is_same for pair in align_steps(run, run))


@given(runs())
def test_ids_and_times_do_not_matter(run):
    copy = [
        structs.replace(step, record_id="2-s", pid=2, lane=f"other {step.lane}", start_ns=step.start_ns) for step in run
    ]
    assert all(pair.is_same for pair in align_steps(run, copy))


@given(runs(), st.data())
def test_a_run_with_one_step_taken_out_differs_in_that_step_alone(run, data):
    # One conversation, told apart in every step: then there is but one right answer.
    chain = [structs.replace(step, lane="a", place="", asked_key=str(n), duration_ns=0) for n, step in enumerate(run)]
    if not chain:
        return
    at = data.draw(st.integers(0, len(chain) - 1))
    pairs = align_steps(chain, chain[:at] + chain[at + 1 :])
    assert [pair.first for pair in pairs if not pair.is_same] == [at]
    assert [pair.first for pair in pairs] == list(range(len(chain)))


@given(runs(), runs())
def test_conversations_are_paired_one_to_one_and_keep_their_order(first, second):
    matched = match_lanes(first, second)
    assert sorted(position for mine, _ in matched for position in mine) == list(range(len(first)))
    assert sorted(position for _, theirs in matched for position in theirs) == list(range(len(second)))
    assert len(matched) <= len(lanes_of(first)) + len(lanes_of(second))
    for mine, theirs in matched:
        assert mine or theirs
        assert len({first[position].lane for position in mine}) <= 1
        assert len({second[position].lane for position in theirs}) <= 1
