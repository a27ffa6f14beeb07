"""The contract of `unspool.context`, sentence by sentence."""

from __future__ import annotations

import json
import random

import pytest

from unspool import context
from unspool.context import (
    AlertLevel,
    ClassBucket,
    ClassificationResult,
    ConsumerEntry,
    ContextData,
    CtxMessage,
    CtxProfileResult,
    GrowthPrediction,
    GrowthSnapshot,
    analyze_context,
    format_ctx_profile,
    format_growth_prediction,
    predict_growth,
)
from unspool.events import TokenSnapshot, ToolCall

BUCKETS = ("active", "warm", "cold", "leaked")


def profile(*messages, system="", used=0, budget=0, pid=1, ctx_id=2):
    return analyze_context(ContextData(system, list(messages)), pid, ctx_id, used, budget)


def growth(used, budget, *, step=0, max_steps=0, history=()):
    return predict_growth(1, used, budget, step, max_steps, list(history))


def linear(steps, by=100):
    return [GrowthSnapshot(step, step * by, step * 1000) for step in range(1, steps + 1)]


def one_decimal(value):
    return round(value, 1) == value


def test_every_name_of_the_contract_is_public():
    names = {
        "ContextData",
        "CtxMessage",
        "analyze_context",
        "CtxProfileResult",
        "ClassificationResult",
        "ClassBucket",
        "ConsumerEntry",
        "predict_growth",
        "GrowthPrediction",
        "GrowthSnapshot",
        "AlertLevel",
        "format_ctx_profile",
        "format_growth_prediction",
    }
    assert names <= set(context.__all__)
    assert all(getattr(context, name) is not None for name in names)


def test_structs_take_the_seeds_fields_in_order():
    assert ContextData("s", [CtxMessage("tool", "c", "id")]).messages[0].tool_call_id == "id"
    assert (ClassBucket(1, 2, 3.5).tokens, ClassBucket(1, 2, 3.5).messages, ClassBucket(1, 2, 3.5).pct) == (1, 2, 3.5)
    entry = ConsumerEntry("user", 1, 2.5, 3)
    assert (entry.kind, entry.tokens, entry.pct, entry.rank, entry.suggestion) == ("user", 1, 2.5, 3, "")
    assert ClassificationResult().leaked == ClassBucket(0, 0, 0.0)
    snapshot = GrowthSnapshot(1, 2, 3)
    assert (snapshot.step, snapshot.tokens, snapshot.delta_ms) == (1, 2, 3)


# --- profile ---------------------------------------------------------------------------------------------------------


def test_no_data_gives_only_the_four_numbers():
    result = analyze_context(None, 1, 2, 300, 4000)
    assert isinstance(result, CtxProfileResult)
    assert (result.pid, result.ctx_id, result.tokens_used, result.context_budget) == (1, 2, 300, 4000)
    assert result.total_tokens == 0
    assert result.classification == ClassificationResult()
    assert result.top_consumers == []
    assert result.suggestions == []


def test_analyze_context_takes_keywords():
    result = analyze_context(data=ContextData(), pid=1, ctx_id=2, tokens_used=0, context_budget=0)
    assert result.total_tokens == 0
    assert all(getattr(result.classification, name) == ClassBucket(0, 0, 0.0) for name in BUCKETS)


@pytest.mark.parametrize("field", ["pid", "ctx_id", "tokens_used", "context_budget"])
def test_negative_numbers_are_value_errors(field):
    numbers = {"pid": 1, "ctx_id": 1, "tokens_used": 1, "context_budget": 1, field: -1}
    for data in (None, ContextData()):
        with pytest.raises(ValueError, match="negative"):
            analyze_context(data, **numbers)


@pytest.mark.parametrize("used", [1, 7, 1000, 999_983])
def test_total_tokens_is_tokens_used_and_the_parts_sum_to_it(used):
    messages = [CtxMessage(role, "word " * n) for n, role in enumerate(["user", "assistant", "tool"] * 7)]
    result = profile(*messages, system="be good", used=used)
    assert result.total_tokens == used
    assert sum(getattr(result.classification, name).tokens for name in BUCKETS) == used


def test_without_tokens_used_the_total_is_an_estimate_above_zero_d70():
    result = profile(CtxMessage("user", "hi"))
    assert result.total_tokens > 0
    assert sum(getattr(result.classification, name).tokens for name in BUCKETS) == result.total_tokens


def test_every_message_is_in_exactly_one_bucket_and_the_system_prompt_is_one_active_message():
    generator = random.Random(3)
    messages = [
        CtxMessage(generator.choice(["user", "assistant", "tool"]), f"thing{generator.randrange(9)} " * 5)
        for _ in range(60)
    ]
    for system, extra in (("", 0), ("you are", 1)):
        classes = profile(*messages, system=system, used=5000).classification
        assert sum(getattr(classes, name).messages for name in BUCKETS) == 60 + extra
    only = profile(system="you are", used=10).classification
    assert only.active == ClassBucket(10, 1, 100.0)


def test_percentages_have_one_decimal_and_halves_go_away_from_zero():
    result = profile(CtxMessage("user", "a b c"), CtxMessage("assistant", "d e f g"), system="x", used=3)
    for name in BUCKETS:
        assert one_decimal(getattr(result.classification, name).pct)
    assert all(one_decimal(entry.pct) for entry in result.top_consumers)
    half = profile(system="x", used=2000)
    assert half.top_consumers[0].pct == 100.0


def test_consumers_are_named_by_kind_and_tool_ranked_from_1_and_at_most_5():
    messages = [CtxMessage("user", "u " * 300), CtxMessage("assistant", "a " * 200)]
    messages += [CtxMessage("tool", "t " * n * 10, tool_name=f"tool{n}") for n in range(1, 7)]
    result = profile(*messages, system="s " * 500, used=3000)
    kinds = [entry.kind for entry in result.top_consumers]
    assert kinds == ["system_prompt", "user", "assistant", "tool:tool6", "tool:tool5"]
    assert [entry.rank for entry in result.top_consumers] == [1, 2, 3, 4, 5]
    assert [entry.tokens for entry in result.top_consumers] == sorted(
        (entry.tokens for entry in result.top_consumers), reverse=True
    )


def test_results_of_one_tool_are_summed():
    result = profile(*(CtxMessage("tool", "x y z", tool_name="read") for _ in range(3)), used=90)
    assert [(entry.kind, entry.tokens) for entry in result.top_consumers] == [("tool:read", 90)]


def test_a_tool_result_is_named_by_its_field_else_by_its_call_else_unknown_d69():
    messages = [
        CtxMessage("assistant", "", tool_calls=[ToolCall("grep", "{}", "c1"), ToolCall("other", "{}", "c2")]),
        CtxMessage("tool", "read agent bash", "c1"),
        CtxMessage("tool", "read agent bash", "c2", "named"),
        CtxMessage("tool", "read agent bash", "nobody"),
        CtxMessage("tool", "read agent bash"),
    ]
    kinds = {entry.kind for entry in profile(*messages, used=100).top_consumers}
    assert kinds == {"tool:grep", "tool:named", "tool:unknown", "assistant"}


def test_an_empty_tool_result_is_a_consumer_all_the_same():
    assert [one.kind for one in profile(CtxMessage("tool", "", tool_name="t")).top_consumers] == ["tool:t"]


def test_tie_order_is_the_same_in_every_run_d77():
    messages = [CtxMessage("tool", "same", tool_name=name) for name in ("b", "a", "c")]
    first = [entry.kind for entry in profile(*messages).top_consumers]
    assert all([entry.kind for entry in profile(*messages).top_consumers] == first for _ in range(3))


OUTPUTS = [CtxMessage("assistant", f"thinking about topic{n} and further{n}") for n in range(8)]


def test_a_result_nobody_referred_to_is_leaked():
    result = profile(
        CtxMessage("user", "go"),
        CtxMessage("tool", "quarterly revenue of zanzibar was 48213 in gdansk", tool_name="look"),
        *OUTPUTS,
    )
    assert result.classification.leaked.messages == 1


def test_a_large_result_that_outputs_keep_quoting_is_active_whatever_its_age_d67():
    result = profile(
        CtxMessage("user", "go"),
        CtxMessage("tool", "quarterly revenue of zanzibar was 48213 in gdansk " * 40, tool_name="look"),
        *(CtxMessage("assistant", f"the quarterly revenue of zanzibar was 48213, point {n}") for n in range(12)),
    )
    assert result.classification.leaked.messages == 0


def test_a_duplicate_and_a_superseded_result_are_leaked():
    text = "line one of the file says hello and line two of the file says goodbye"
    messages = [
        CtxMessage("user", "go"),
        CtxMessage("assistant", "", tool_calls=[ToolCall("read", '{"p": "a"}', "c1")]),
        CtxMessage("tool", text + " old", "c1"),
        CtxMessage("assistant", "", tool_calls=[ToolCall("read", '{"p":"a"}', "c2")]),
        CtxMessage("tool", text + " new", "c2"),
    ]
    assert profile(*messages).classification.leaked.messages == 1
    twice = [CtxMessage("user", "go"), CtxMessage("tool", text, "x"), CtxMessage("tool", text, "y")]
    assert profile(*twice).classification.leaked.messages == 1


def test_suggestions_are_none_when_the_total_is_0():
    assert profile(budget=10).suggestions == []


def test_suggestions_are_strict_about_the_budget_and_use_tokens_used_d71():
    def about_budget(used):
        messages = [CtxMessage("user", "words " * 9)]
        return [one for one in profile(*messages, used=used, budget=1000).suggestions if "budget" in one]

    assert about_budget(800) == []
    assert len(about_budget(801)) == 1


def test_suggestions_come_in_order():
    messages = [CtxMessage("user", "go"), CtxMessage("tool", "zanzibar gdansk 48213 kwh " * 20, tool_name="look")]
    result = profile(*messages, *OUTPUTS, system="rule " * 160, used=9000, budget=10_000)
    words = [next(w for w in ("System", "Tool results", "leaked", "budget") if w in s) for s in result.suggestions]
    assert words == [w for w in ("System", "Tool results", "leaked", "budget") if w in words]
    assert words[0] == "System"
    assert words[-1] == "budget"


def test_profile_json_has_exactly_the_seeds_keys_first():
    result = profile(CtxMessage("user", "hello there"), system="s", used=100, budget=1000)
    data = json.loads(result.to_json())
    assert list(data)[:8] == [
        *("pid", "ctx_id", "tokens_used", "context_budget", "total_tokens"),
        *("classification", "top_consumers", "suggestions"),
    ]
    assert list(data["classification"]) == list(BUCKETS)
    assert all(list(bucket) == ["tokens", "messages", "pct"] for bucket in data["classification"].values())
    assert set(data["top_consumers"][0]) == {"kind", "tokens", "pct", "rank"}


def test_a_suggestion_of_a_consumer_is_on_the_wire_if_there_is_one():
    wire = json.loads(CtxProfileResult(top_consumers=[ConsumerEntry("user", 1, 2.0, 1, "less")]).to_json())
    assert wire["top_consumers"][0]["suggestion"] == "less"


def test_profile_lists_on_the_wire_are_never_null():
    data = json.loads(analyze_context(None, 1, 1, 0, 0).to_json())
    assert data["top_consumers"] == []
    assert data["suggestions"] == []


def test_percentages_on_the_wire_have_one_decimal():
    made = CtxProfileResult(top_consumers=[ConsumerEntry("user", 1, 33.3333, 1)])
    made.classification.cold.pct = 66.6666
    data = json.loads(made.to_json())
    assert data["top_consumers"][0]["pct"] == 33.3
    assert data["classification"]["cold"]["pct"] == 66.7


def test_format_ctx_profile_head_and_rows_to_the_character():
    result = CtxProfileResult(3, 4, 100, 1000, 100)
    result.classification.active = ClassBucket(60, 3, 60.0)
    lines = format_ctx_profile(result).split("\n")
    assert lines[0] == "Ctx Profile: PID 3  |  CtxID 4  |  ~100 tok / 1000 budget"
    start = next(at for at, line in enumerate(lines) if line.startswith("Classification"))
    rows = lines[start + 1 : start + 5]
    assert [row.split()[0] for row in rows] == ["Active", "Warm", "Cold", "Leaked"]
    assert rows[0].startswith(f"  {'Active':<18}   60 tok   60.0%   3 msgs  ← ")
    assert all("←" in row for row in rows)
    assert "Top Consumers" not in "\n".join(lines)
    assert "Suggestions" not in "\n".join(lines)


def test_format_ctx_profile_without_a_budget_says_no_limit():
    assert format_ctx_profile(CtxProfileResult(1, 1)).split("\n")[0].endswith("~0 tok / no limit")


def test_format_ctx_profile_lists_consumers_and_suggestions_if_any():
    result = CtxProfileResult(top_consumers=[ConsumerEntry("user", 12, 34.5, 1)], suggestions=["do less"])
    text = format_ctx_profile(result)
    assert "Top Consumers" in text
    assert f"#1 {'user':<18}    12 tok   34.5%" in text
    assert "  • do less" in text


# --- growth ----------------------------------------------------------------------------------------------------------


def test_alert_levels_are_the_wire_words():
    assert [level.value for level in AlertLevel] == ["none", "warning", "critical"]
    assert (AlertLevel.NONE, AlertLevel.WARNING, AlertLevel.CRITICAL) == ("none", "warning", "critical")


@pytest.mark.parametrize(
    ("used", "budget", "level"),
    [
        (0, 100, "none"),
        (80, 100, "none"),
        (81, 100, "warning"),
        (90, 100, "warning"),
        (91, 100, "critical"),
        (100, 100, "critical"),
        (150, 100, "critical"),
        (8004, 10_000, "warning"),  # 80.04 % is shown as 80.0 (d72)
        (9004, 10_000, "critical"),
        (800_000_001, 1_000_000_000, "warning"),
        (5, 0, "none"),
    ],
)
def test_alerts_are_strictly_under_20_and_10_percent_of_the_unrounded_rest(used, budget, level):
    assert growth(used, budget).alert_level == level


@pytest.mark.parametrize(
    ("used", "budget", "pct", "left"),
    [
        (0, 100, 0.0, 100),
        (1, 3, 33.3, 2),
        (2, 3, 66.7, 1),
        (1225, 10_000, 12.3, 8775),
        (150, 100, 150.0, 0),
        (5, 0, 0.0, 0),
    ],
)
def test_usage_pct_is_rounded_to_one_decimal_and_the_rest_is_never_negative(used, budget, pct, left):
    result = growth(used, budget)
    assert (result.usage_pct, result.remaining_budget) == (pct, left)


@pytest.mark.parametrize(("used", "step", "avg"), [(100, 3, 33.3), (200, 3, 66.7), (100, 0, 0.0), (5, 4, 1.3)])
def test_avg_is_used_by_current_step_with_one_decimal(used, step, avg):
    assert growth(used, 1000, step=step).avg_tokens_per_step == avg


def test_empty_history_gives_an_empty_list_and_no_crash():
    assert predict_growth(1, 0, 0, 0, 0, None).history == []
    result = predict_growth(1, 0, 0, 0, 0, [])
    assert isinstance(result, GrowthPrediction)
    assert result.history == []
    assert (result.est_remaining, result.predict_exhaust, result.alert_level) == (0, False, AlertLevel.NONE)


def test_history_is_copied_and_may_be_token_snapshots():
    history = [TokenSnapshot(1, 100, 5), TokenSnapshot(2, 200, 9)]
    result = predict_growth(1, 200, 1000, 2, 0, history)
    history[0].tokens = 0
    history.clear()
    assert result.history == [GrowthSnapshot(1, 100, 5), GrowthSnapshot(2, 200, 9)]


@pytest.mark.parametrize("field", ["pid", "tokens_used", "context_budget", "current_step", "max_steps"])
def test_negative_counts_are_value_errors(field):
    numbers = {"pid": 1, "tokens_used": 1, "context_budget": 1, "current_step": 1, "max_steps": 1, field: -1}
    with pytest.raises(ValueError, match="negative"):
        predict_growth(**numbers, history=[])


@pytest.mark.parametrize("snapshot", [GrowthSnapshot(-1, 1), GrowthSnapshot(1, -1), GrowthSnapshot(1, 1, -1)])
def test_negative_counts_in_the_history_are_value_errors(snapshot):
    with pytest.raises(ValueError, match="negative"):
        growth(1, 1, history=[snapshot])


def test_linear_growth_is_forecast_exactly():
    result = growth(500, 1000, step=5, history=linear(5))
    assert (result.recent_rate, result.est_remaining) == (100.0, 5)
    assert result.est_low <= 5 <= result.est_high


def test_recent_rate_is_robust_against_one_jump_d73():
    tokens = [100, 200, 300, 400, 500, 600, 700, 800, 900, 6000]
    history = [GrowthSnapshot(step, count) for step, count in enumerate(tokens, 1)]
    assert growth(6000, 100_000, step=10, history=history).recent_rate == 100.0


def test_skipped_step_numbers_count_as_steps_d73():
    history = [GrowthSnapshot(step, step * 100) for step in (1, 5, 9, 20)]
    assert growth(2000, 10_000, step=20, history=history).recent_rate == 100.0


def test_a_compaction_does_not_hide_the_growth_since():
    tokens = [1000, 2000, 3000, 500, 1500, 2500]
    history = [GrowthSnapshot(step, count) for step, count in enumerate(tokens, 1)]
    result = growth(2500, 10_000, step=6, history=history)
    assert result.recent_rate == 1000.0
    assert result.compactions == [4]


def test_max_steps_0_is_no_limit_and_never_predicts_exhaustion_d74():
    assert growth(500, 1000, step=5, max_steps=0, history=linear(5)).predict_exhaust is False


@pytest.mark.parametrize(("max_steps", "exhausts"), [(9, False), (10, True), (50, True)])
def test_exhaustion_is_predicted_if_the_budget_ends_within_max_steps(max_steps, exhausts):
    assert growth(500, 1000, step=5, max_steps=max_steps, history=linear(5)).predict_exhaust is exhausts


def test_without_a_budget_nothing_is_estimated():
    result = growth(500, 0, step=5, max_steps=9, history=linear(5))
    assert (result.est_remaining, result.est_low, result.est_high, result.predict_exhaust) == (0, 0, 0, False)


def test_growth_json_has_the_seeds_keys_first_and_round_trips():
    result = growth(500, 1000, step=5, max_steps=10, history=linear(5))
    data = json.loads(result.to_json())
    assert list(data)[:13] == [
        *("pid", "tokens_used", "context_budget", "usage_pct", "current_step", "max_steps", "avg_tokens_per_step"),
        *("recent_rate", "remaining_budget", "est_remaining", "predict_exhaust", "alert_level", "history"),
    ]
    assert data["history"][0] == {"step": 1, "tokens": 100, "delta_ms": 1000}
    assert data["alert_level"] == "none"
    assert GrowthPrediction.from_json(result.to_json()) == result
    assert GrowthPrediction.from_json(result.to_json().decode()) == result


def test_history_on_the_wire_is_never_null_and_null_is_read():
    assert json.loads(GrowthPrediction().to_json())["history"] == []
    assert GrowthPrediction.from_json(b'{"pid": 3, "history": null, "future": 1}') == GrowthPrediction(pid=3)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"pid": "x"}', b'{"pid": -1}'])
def test_what_is_no_growth_prediction_is_a_value_error(data):
    with pytest.raises(ValueError, match=r"."):
        GrowthPrediction.from_json(data)


def test_format_growth_head_with_and_without_a_budget():
    assert (
        format_growth_prediction(growth(500, 1000)).split("\n")[0]
        == "Context Growth: PID 1  |  500/1000 tok  |  50.0% used"
    )
    text = format_growth_prediction(growth(500, 0, step=5, history=linear(5)))
    assert text.split("\n")[0] == "Context Growth: PID 1  |  500 tok used  |  No budget set"
    assert "Growth Trend" in text
    for absent in ("Prediction", "Alert", "Budget:", "█", "░"):
        assert absent not in text


def test_format_growth_trend_rows_to_the_character_with_signed_deltas():
    history = [GrowthSnapshot(1, 900), GrowthSnapshot(2, 1000), GrowthSnapshot(10, 980)]
    lines = format_growth_prediction(growth(980, 10_000, step=10, history=history)).split("\n")
    at = next(number for number, line in enumerate(lines) if line.startswith("Growth Trend"))
    assert lines[at + 1].startswith("  Step  1:     900 tok")
    assert lines[at + 2] == "  Step  2:    1000 tok  (+100)"
    assert lines[at + 3] == "  Step 10:     980 tok  (-20)"


def test_format_growth_without_history_has_no_trend():
    assert "Growth Trend" not in format_growth_prediction(growth(5, 10))


@pytest.mark.parametrize(
    ("used", "text"),
    [(10, "none ✓"), (85, "⚠ WARNING  (remaining < 20%)"), (95, "⚠ CRITICAL  (remaining < 10%)")],
)
def test_format_growth_alert_words(used, text):
    (line,) = (one for one in format_growth_prediction(growth(used, 100)).split("\n") if "Alert" in one)
    assert line.endswith(text)


@pytest.mark.parametrize(
    ("used", "filled"), [(0, 0), (50, 15), (100, 30), (250, 30), (1, 0), (2, 1), (98, 29), (99, 30), (33, 10)]
)
def test_the_bar_has_30_cells_filled_by_rounding_and_the_percentage(used, filled):
    line = format_growth_prediction(growth(used, 100)).split("\n")[-1]
    assert "█" * filled + "░" * (30 - filled) in line
    assert line.count("█") + line.count("░") == 30
    assert line.endswith(f"{used:.1f}%")


def test_recent_rate_is_shown_only_if_it_differs_from_avg_and_is_above_0():
    assert "Recent Rate" not in format_growth_prediction(growth(500, 1000, step=5, history=linear(5)))
    shown = format_growth_prediction(growth(900, 2000, step=5, history=linear(5)))
    assert "Avg Rate" in shown
    assert "Recent Rate" in shown
    assert "Remaining" in shown
    assert "Est. Steps" in shown


def test_every_formatter_takes_color_and_is_plain_without():
    for function, data in ((format_ctx_profile, CtxProfileResult()), (format_growth_prediction, growth(95, 100))):
        assert "\x1b" not in function(data)
        assert "\x1b[" in function(data, color=True)
