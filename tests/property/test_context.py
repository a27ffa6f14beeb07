"""What holds for every context and every history."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from unspool.context import (
    ContextData,
    CtxProfileResult,
    GrowthPrediction,
    analyze_context,
    forecast_tokens,
    format_ctx_profile,
    format_growth_prediction,
    predict_growth,
)
from unspool.events import CtxMessage, Part, TokenSnapshot, ToolCall

# Few different words and ids, so that messages do refer to each other.
WORDS = st.lists(
    st.sampled_from(
        [
            "src/a.py:8",
            "refreshToken",
            "refresh_token",
            "48,213",
            "48213.0",
            "漢字仮名",
            "Pallet",
            "pallets",
            "🎉",
            "a/b",
        ]
    ),
    max_size=12,
).map(" ".join)
TEXTS = WORDS | st.text(max_size=40)
IDS = st.none() | st.sampled_from(["", "c1", "c2", "c_3"])
CALLS = st.builds(ToolCall, st.sampled_from(["read", ""]), st.sampled_from(["{}", "", '{"p":"src/a.py"}']) | TEXTS, IDS)
MESSAGES = st.builds(
    CtxMessage,
    role=st.sampled_from(["system", "user", "assistant", "tool", "function", "critic"]) | st.text(max_size=5),
    content=TEXTS,
    tool_call_id=IDS,
    tool_name=st.none() | st.sampled_from(["read", ""]),
    tool_calls=st.none() | st.lists(CALLS, max_size=2),
    parts=st.none()
    | st.lists(st.builds(Part, st.sampled_from(["image", "reasoning", "x"]), st.none() | TEXTS), max_size=2),
)
CONTEXTS = st.builds(ContextData, TEXTS, st.lists(MESSAGES, max_size=25))
COUNTS = st.integers(0, 10**7) | st.integers(0, 40)
HISTORIES = st.lists(st.builds(TokenSnapshot, st.integers(0, 60), COUNTS, COUNTS), max_size=25)


def check_invariants(data: ContextData, result: CtxProfileResult) -> None:
    names = ("active", "warm", "cold", "leaked")
    buckets = [getattr(result.classification, name) for name in names]
    blocks = len(data.messages) + bool(data.system_prompt)
    assert sum(bucket.tokens for bucket in buckets) == result.total_tokens
    assert sum(bucket.messages for bucket in buckets) == len(result.evidence) == blocks
    assert all(0 <= bucket.pct <= 100 for bucket in buckets)
    assert all(round(bucket.pct, 1) == bucket.pct for bucket in buckets)
    for name, bucket in zip(names, buckets, strict=True):
        own = [block for block in result.evidence if block.state == name]
        assert (bucket.tokens, bucket.messages) == (sum(block.tokens for block in own), len(own)) or not blocks
    for block in result.evidence:
        assert block.reason
        assert block.last_used_by is None or (block.index is not None and block.last_used_by > block.index)
        assert (block.state == "leaked") == (block.leak is not None)
        if block.index is not None and block.state == "leaked":
            message = data.messages[block.index]
            assert message.role in ("tool", "function") or message.tool_call_id is not None
    ranked = [one.tokens for one in result.top_consumers]
    assert ranked == sorted(ranked, reverse=True)
    assert len(ranked) <= 5
    assert sum(ranked) <= result.total_tokens


@given(CONTEXTS, COUNTS, COUNTS)
@settings(max_examples=150, deadline=None)
def test_parts_sum_and_nothing_raises(data, used, budget):
    result = analyze_context(data, 1, 2, used, budget)
    assert used in (result.total_tokens, 0)
    check_invariants(data, result)
    assert analyze_context(data, 1, 2, used, budget) == result
    assert CtxProfileResult.from_json(result.to_json()) == result
    assert format_ctx_profile(result).isprintable() or "\n" in format_ctx_profile(result)


@given(COUNTS, COUNTS, st.integers(0, 100), st.integers(0, 100), HISTORIES)
@settings(max_examples=150, deadline=None)
def test_any_history_has_a_prediction(used, budget, step, max_steps, history):
    result = predict_growth(1, used, budget, step, max_steps, history)
    assert 0 <= result.est_low <= result.est_remaining <= result.est_high
    assert result.recent_rate >= 0
    assert result.remaining_budget == max(budget - used, 0)
    assert len(result.history) == len(history)
    assert result.est_remaining == 0 or result.note == ""
    assert GrowthPrediction.from_json(result.to_json()) == result
    assert format_growth_prediction(result)


@given(HISTORIES.filter(bool), st.integers(0, 500))
@settings(max_examples=100, deadline=None)
def test_a_forecast_is_a_range(history, step):
    low, middle, high = forecast_tokens(history, step)
    assert 0 <= low <= middle <= high


@given(st.integers(1, 5000), st.integers(2, 30), st.integers(0, 10**6), st.integers(1, 200))
@settings(max_examples=100, deadline=None)
def test_even_growth_is_forecast_exactly(rate, count, base, ahead):
    history = [TokenSnapshot(step, base + rate * step) for step in range(count)]
    used = history[-1].tokens
    result = predict_growth(1, used, used + rate * ahead, count - 1, 0, history)
    assert result.est_remaining == ahead
    assert result.recent_rate == rate
    assert forecast_tokens(history, count - 1 + ahead)[1] == used + rate * ahead
