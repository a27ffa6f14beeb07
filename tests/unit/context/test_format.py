"""The layout people read, to the column."""

from __future__ import annotations

import pytest

from unspool.context import (
    AlertLevel,
    BlockVerdict,
    ClassBucket,
    ClassificationResult,
    ConsumerEntry,
    CtxProfileResult,
    GrowthPrediction,
    GrowthSnapshot,
    format_ctx_profile,
    format_growth_prediction,
    predict_growth,
)
from unspool.events import TokenSnapshot

PROFILE = CtxProfileResult(
    pid=3,
    ctx_id=4,
    tokens_used=1000,
    context_budget=8000,
    total_tokens=1000,
    classification=ClassificationResult(
        ClassBucket(500, 3, 50.0), ClassBucket(100, 1, 10.0), ClassBucket(0, 0, 0.0), ClassBucket(400, 12, 40.0)
    ),
    top_consumers=[
        ConsumerEntry("tool:read", 600, 60.0, 1, "drop 12 leaked results (~400 tok, 12 never used)"),
        ConsumerEntry("user", 400, 40.0, 2),
    ],
    suggestions=["Drop it."],
    evidence=[
        BlockVerdict(2, "tool", 100, "leaked", "none of the 5 outputs since it arrived refers to it"),
        BlockVerdict(4, "tool", 300, "leaked", "superseded: read was called again, message 9", 6, "src/\x1b[31ma.py"),
    ],
)

LEAK_IN_USE_BEFORE = (
    '  message 4  300 tok  superseded: read was called again, message 9; last used by message 6: "src/\\x1b[31ma.py"'
)


def test_a_profile():
    assert format_ctx_profile(PROFILE).splitlines() == [
        "Ctx Profile: PID 3  |  CtxID 4  |  ~1000 tok / 8000 budget",
        "",
        "Classification:",
        "  Active              500 tok   50.0%   3 msgs  ← referred to by one of the last 3 outputs, or new",
        "  Warm                100 tok   10.0%   1 msgs  ← referred to by one of the last 6 outputs",
        "  Cold                  0 tok    0.0%   0 msgs  ← not referred to any more",
        "  Leaked              400 tok   40.0%  12 msgs  ← tool results never used, duplicate or superseded",
        "",
        "Top Consumers:",
        "  #1 tool:read            600 tok   60.0%  → drop 12 leaked results (~400 tok, 12 never used)",
        "  #2 user                 400 tok   40.0%",
        "",
        "Leaked:",
        LEAK_IN_USE_BEFORE,
        "  message 2  100 tok  none of the 5 outputs since it arrived refers to it",
        "",
        "Suggestions:",
        "  • Drop it.",
    ]


def test_an_empty_profile_has_no_empty_sections():
    text = format_ctx_profile(CtxProfileResult(pid=1, ctx_id=2))
    assert text.startswith("Ctx Profile: PID 1  |  CtxID 2  |  ~0 tok / no limit\n")
    assert "Top Consumers" not in text
    assert "Suggestions" not in text
    assert len(text.splitlines()) == 7


def test_many_leaks_are_not_all_listed():
    leaks = [BlockVerdict(number, "tool", number, "leaked", "never used") for number in range(25)]
    assert "  … and 15 more" in format_ctx_profile(CtxProfileResult(evidence=leaks))


def test_names_from_a_recording_cannot_act_on_the_terminal():
    hostile = CtxProfileResult(top_consumers=[ConsumerEntry("tool:\x1b[2J\n", 1, 1.0, 1)], suggestions=["\x07"])
    assert "\x1b" not in format_ctx_profile(hostile)
    assert "\x07" not in format_ctx_profile(hostile)


def test_colour_only_when_asked_for():
    prediction = GrowthPrediction(context_budget=10, alert_level=AlertLevel.CRITICAL)
    for text, colored in (
        (format_ctx_profile(PROFILE), format_ctx_profile(PROFILE, color=True)),
        (format_growth_prediction(prediction), format_growth_prediction(prediction, color=True)),
    ):
        assert "\x1b" not in text
        assert "\x1b[" in colored


def test_a_forecast():
    points = [TokenSnapshot(step, 100 * step) for step in range(1, 6)]
    result = predict_growth(7, 500, 1000, 5, 20, points)
    assert format_growth_prediction(result).splitlines() == [
        "Context Growth: PID 7  |  500/1000 tok  |  50.0% used",
        "",
        "Growth Trend:",
        "  Step  1:     100 tok",
        "  Step  2:     200 tok  (+100)",
        "  Step  3:     300 tok  (+100)",
        "  Step  4:     400 tok  (+100)",
        "  Step  5:     500 tok  (+100)",
        "",
        "Prediction:",
        "  Avg Rate:     100.0 tok/step",
        "  Remaining:    500 tok",
        f"  Est. Steps:   5  (80%: {result.est_low}–{result.est_high})",
        "  Exhaustion:   budget runs out at about step 10 of 20",
        "  Alert:        none ✓",
        "",
        "Budget: ███████████████░░░░░░░░░░░░░░░ 50.0%",
    ]


def test_the_recent_rate_is_shown_when_it_differs():
    result = GrowthPrediction(context_budget=10, avg_tokens_per_step=1.0, recent_rate=2.0)
    assert "  Recent Rate:  2.0 tok/step" in format_growth_prediction(result)
    result.recent_rate = 0.0
    assert "Recent Rate" not in format_growth_prediction(result)


def test_drops_have_one_sign_and_are_named():
    # D 74: not (+-20).
    result = GrowthPrediction(
        history=[GrowthSnapshot(1, 900), GrowthSnapshot(2, 100), GrowthSnapshot(3, 80), GrowthSnapshot(4, 80)],
        compactions=[2],
    )
    assert format_growth_prediction(result).splitlines()[3:] == [
        "  Step  1:     900 tok",
        "  Step  2:     100 tok  (-800)  compacted",
        "  Step  3:      80 tok  (-20)",
        "  Step  4:      80 tok  (+0)",
    ]


def test_without_a_budget_there_is_the_trend_only():
    text = format_growth_prediction(GrowthPrediction(pid=2, tokens_used=50, alert_level=AlertLevel.WARNING))
    assert text == "Context Growth: PID 2  |  50 tok used  |  No budget set"


def test_no_steps_left_is_said():
    # D 74: the line must not go away just when the budget is gone.
    result = predict_growth(1, 1000, 1000, 5, 9, [])
    text = format_growth_prediction(result)
    assert "  Est. Steps:   0 (the budget is used up)" in text
    assert "  Alert:        ⚠ CRITICAL  (remaining < 10%)" in text
    result = predict_growth(1, 85, 100, 5, 9, [TokenSnapshot(1, 85), TokenSnapshot(2, 85)])
    text = format_growth_prediction(result)
    assert "  Est. Steps:   unknown (the context is not growing)" in text
    assert "  Alert:        ⚠ WARNING  (remaining < 20%)" in text


@pytest.mark.parametrize(
    ("usage_pct", "cells"), [(0.0, 0), (1.6, 0), (1.7, 1), (5.0, 2), (98.3, 29), (98.4, 30), (100.0, 30), (999.0, 30)]
)
def test_the_bar_has_thirty_cells(usage_pct, cells):
    bar = format_growth_prediction(GrowthPrediction(context_budget=10, usage_pct=usage_pct)).splitlines()[-1]
    assert bar == f"Budget: {'█' * cells}{'░' * (30 - cells)} {usage_pct:.1f}%"
