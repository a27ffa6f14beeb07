"""Alerts from whole numbers, a robust rate, a range of steps; any history."""

from __future__ import annotations

import json
import logging
import random

import pytest

from unspool.context import AlertLevel, GrowthPrediction, GrowthSnapshot, forecast_tokens, predict_growth
from unspool.context.forecast import MOST_STEPS, theil_sen
from unspool.events import TokenSnapshot

SEED_KEYS = [
    *("pid", "tokens_used", "context_budget", "usage_pct", "current_step", "max_steps", "avg_tokens_per_step"),
    *("recent_rate", "remaining_budget", "est_remaining", "predict_exhaust", "alert_level", "history"),
]


def history(*tokens: int, first: int = 1) -> list[TokenSnapshot]:
    return [TokenSnapshot(step, count, step * 1000) for step, count in enumerate(tokens, start=first)]


def predict(points: list[TokenSnapshot], budget: int = 10_000, max_steps: int = 0, **changes: int) -> GrowthPrediction:
    last = points[-1] if points else TokenSnapshot(0, 0)
    given = {"tokens_used": last.tokens, "current_step": last.step} | changes
    return predict_growth(7, given["tokens_used"], budget, given["current_step"], max_steps, points)


# --- the plain figures -----------------------------------------------------------------------------------------------


def test_the_plain_figures():
    result = predict_growth(7, 1234, 10_000, 7, 0, [])
    assert (result.usage_pct, result.remaining_budget, result.avg_tokens_per_step) == (12.3, 8766, 176.3)


def test_halves_are_rounded_away_from_zero():
    assert predict_growth(1, 1, 2000, 20, 0, []).usage_pct == 0.1  # 0.05 %
    assert predict_growth(1, 1, 2000, 20, 0, []).avg_tokens_per_step == 0.1  # 0.05 a step
    assert predict_growth(1, 1225, 10_000, 1, 0, []).usage_pct == 12.3  # 12.25 %


def test_without_a_budget_nothing_is_forecast():
    result = predict(history(100, 200, 300), budget=0, max_steps=5)
    assert (result.usage_pct, result.remaining_budget, result.est_remaining, result.predict_exhaust) == (0, 0, 0, False)
    assert result.alert_level is AlertLevel.NONE
    assert result.recent_rate == 100
    assert result.note == "no budget is set"


def test_without_a_step_there_is_no_average():
    assert predict_growth(1, 500, 1000, 0, 0, []).avg_tokens_per_step == 0


@pytest.mark.parametrize(
    ("used", "budget", "alert"),
    [
        (0, 1000, "none"),
        (800, 1000, "none"),  # exactly 20 % left
        (801, 1000, "warning"),
        (8004, 10_000, "warning"),  # D 72: 80.04 % rounds to 80.0
        (900, 1000, "warning"),  # exactly 10 % left
        (9001, 10_000, "critical"),
        (1000, 1000, "critical"),
        (5000, 1000, "critical"),
        (10**30 * 8 + 1, 10**31, "warning"),
        (5000, 0, "none"),
    ],
)
def test_alerts_come_from_whole_numbers(used, budget, alert):
    assert predict_growth(1, used, budget, 1, 0, []).alert_level == alert


# --- the rate --------------------------------------------------------------------------------------------------------


def test_the_rate_is_the_median_slope():
    assert theil_sen([(0, 0), (1, 1), (2, 2), (3, 90), (4, 4)]) == 1
    assert theil_sen([(1, 5)]) == theil_sen([(1, 5), (1, 9)]) == 0


def test_one_huge_step_does_not_carry_the_rate_away():
    tokens = [100 * step for step in range(1, 10)]
    assert predict(history(*tokens, 60_000), budget=100_000).recent_rate == pytest.approx(100, abs=10)


def test_the_rate_is_per_real_step():
    # D 73: a step number that was skipped is a step.
    points = [TokenSnapshot(step, 50 * step) for step in (1, 2, 10, 20)]
    assert predict(points).recent_rate == 50


def test_only_what_came_after_a_compaction_counts():
    # D 73.
    result = predict(history(1000, 2000, 3000, 500, 700, 900))
    assert (result.recent_rate, result.compactions) == (200, [4])


def test_right_after_a_compaction_the_run_before_it_counts():
    result = predict(history(1000, 2000, 3000, 500))
    assert (result.recent_rate, result.compactions, result.est_remaining) == (1000, [4], 9)


def test_a_small_drop_is_no_compaction():
    assert predict(history(1000, 2000, 1950, 3000)).compactions == []


def test_one_snapshot_or_none_falls_back_on_the_average():
    for points in (history(400, first=4), []):
        result = predict_growth(1, 400, 1000, 4, 0, points)
        assert (result.recent_rate, result.est_remaining) == (100, 6)
        assert result.est_low < 6 < result.est_high


@pytest.mark.parametrize("tokens", [(500, 500, 500), (900, 500, 200), (500, 495, 490)])
def test_what_does_not_grow_is_never_full(tokens):
    result = predict(history(*tokens), budget=1000, max_steps=100)
    assert (result.recent_rate, result.est_remaining, result.est_high, result.predict_exhaust) == (0, 0, 0, False)
    assert result.note == "the context is not growing"


def test_order_does_not_matter_and_the_last_count_of_a_step_holds():
    points = history(100, 200, 300, 400)
    shuffled = [points[2], TokenSnapshot(4, 9999), points[0], points[3], points[1]]
    result = predict_growth(1, 400, 1000, 4, 0, shuffled)
    assert result.recent_rate == 100
    assert [one.step for one in result.history] == [1, 2, 3, 4, 4]
    assert result.est_remaining == 6


def test_the_history_is_copied():
    points = history(100, 200)
    result = predict(points)
    points[0].tokens = 5
    points.clear()
    assert result.history == [GrowthSnapshot(1, 100, 1000), GrowthSnapshot(2, 200, 2000)]


# --- steps until it is full ------------------------------------------------------------------------------------------


def test_even_growth_is_forecast_to_the_step():
    result = predict(history(*range(100, 600, 100)), budget=1000)
    assert result.est_remaining == 5
    assert 1 <= result.est_low < 5 < result.est_high < 15
    assert result.est_remaining_ms == 5000


def test_thirds_are_forecast_to_the_step():
    assert predict([TokenSnapshot(step, 100 * step // 3) for step in (3, 6, 9, 12)], budget=1400).est_remaining == 30


def test_a_turn_that_is_not_counted_yet_has_taken_its_part():
    points = history(*range(100, 600, 100))
    assert predict(points, budget=1000, current_step=6).est_remaining == 4
    assert predict(points, budget=1000, current_step=60).est_remaining == 0
    # The caller's own count is newer than the history: nothing is pending.
    assert predict(points, budget=1000, current_step=6, tokens_used=600).est_remaining == 4


def test_the_range_is_wider_for_uneven_steps_and_for_few():
    def width(points: list[TokenSnapshot]) -> float:
        result = predict(points, budget=100_000)
        return (result.est_high - result.est_low) / result.est_remaining

    draw = random.Random(1)
    uneven, level = [], 0
    for _ in range(20):
        level += draw.choice((10, 10, 2000))
        uneven.append(level)
    even = [1000 * step for step in range(1, 21)]
    assert width(history(*even)) < width(history(*even[:3])) < width(history(*uneven[:4]))
    assert width(history(*even)) < width(history(*uneven))


def test_the_forecast_is_the_same_every_time():
    points = history(10, 500, 640, 2000, 2010, 2500)
    assert predict(points) == predict(points)
    assert forecast_tokens(points, 20) == forecast_tokens(points, 20)


def test_a_used_up_budget_has_no_steps_left():
    result = predict(history(500, 1000, 1500), budget=1500, max_steps=10)
    assert (result.est_remaining, result.predict_exhaust, result.note) == (0, True, "the budget is used up")


def test_exhaustion_is_within_the_steps_the_run_may_make():
    points = history(*range(100, 600, 100))
    assert predict(points, budget=1000, max_steps=10).predict_exhaust
    assert not predict(points, budget=1000, max_steps=9).predict_exhaust
    # D 74: no limit of steps is not a limit of 0.
    assert not predict(points, budget=1000, max_steps=0).predict_exhaust
    assert predict(points, budget=1000, max_steps=0).est_remaining == 5


def test_a_far_horizon_is_bounded():
    assert predict(history(1, 2, 3), budget=10**30).est_remaining == MOST_STEPS


# --- the context at a later step -------------------------------------------------------------------------------------


def test_the_median_of_even_growth_is_on_the_line():
    low, middle, high = forecast_tokens(history(100, 200, 300, 400), 9)
    assert middle == 900
    assert 400 <= low < 900 < high


def test_the_past_is_known():
    points = history(100, 200, 300, first=5)
    assert forecast_tokens(points, 6) == (200, 200, 200)
    assert forecast_tokens([points[0], points[2]], 6) == (100, 100, 100)
    assert forecast_tokens(points, 1) == (100, 100, 100)
    assert forecast_tokens(points[:1], 50) == (100, 100, 100)


def test_a_forecast_needs_a_history():
    with pytest.raises(ValueError, match="at least one snapshot"):
        forecast_tokens([], 5)


def test_a_long_history_is_quick_and_a_context_does_not_shrink_by_itself():
    points = history(*(1000 + 37 * (step % 11) + 90 * step for step in range(3000)))
    low, middle, high = forecast_tokens(points, 6000)
    assert points[-1].tokens < low <= middle <= high


# --- the wire --------------------------------------------------------------------------------------------------------


def test_the_wire_has_the_keys_of_the_seed_first():
    wire = json.loads(predict(history(100, 300, 333), max_steps=3).to_json())
    assert list(wire)[: len(SEED_KEYS)] == SEED_KEYS
    assert list(wire)[len(SEED_KEYS) :] == ["est_low", "est_high", "est_remaining_ms", "compactions", "note"]
    assert wire["history"][0] == {"step": 1, "tokens": 100, "delta_ms": 1000}
    assert wire["alert_level"] == "none"
    assert json.loads(predict([]).to_json())["history"] == []


def test_numbers_on_the_wire_have_one_decimal():
    wire = json.loads(GrowthPrediction(usage_pct=33.3333, recent_rate=1.25, avg_tokens_per_step=float("nan")).to_json())
    assert (wire["usage_pct"], wire["recent_rate"], wire["avg_tokens_per_step"]) == (33.3, 1.3, 0.0)


def test_a_prediction_survives_the_wire():
    result = predict(history(100, 900, 300, 400), budget=450, max_steps=9)
    assert result.alert_level is AlertLevel.WARNING
    assert GrowthPrediction.from_json(result.to_json()) == result


def test_what_the_reference_writes_is_read():
    data = b'{"pid":1,"tokens_used":5,"alert_level":"warning","history":null,"unknown":[1]}'
    result = GrowthPrediction.from_json(data)
    assert result == GrowthPrediction(pid=1, tokens_used=5, alert_level=AlertLevel.WARNING)


def test_an_unknown_alert_is_taken_from_the_numbers(caplog):
    data = b'{"tokens_used":95,"context_budget":100,"alert_level":"apocalyptic"}'
    with caplog.at_level(logging.WARNING, logger="unspool"):
        assert GrowthPrediction.from_json(data).alert_level is AlertLevel.CRITICAL
    assert "apocalyptic" in caplog.text


@pytest.mark.parametrize("data", [b"", b"7", b'{"pid":-1}', b'{"history":[{"tokens":-1}]}', b'{"alert_level":3}'])
def test_what_is_no_prediction_is_refused(data):
    with pytest.raises(ValueError, match="not a growth prediction"):
        GrowthPrediction.from_json(data)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", range(5))
def test_counts_below_zero_are_refused(position):
    counts = [1, 1, 1, 1, 1]
    counts[position] = -1
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        predict_growth(*counts, [])


@pytest.mark.parametrize("point", [TokenSnapshot(-1, 5), TokenSnapshot(1, -5), TokenSnapshot(1, 5, -1)])
def test_snapshots_below_zero_are_refused(point):
    with pytest.raises(ValueError, match="must not be negative"):
        predict_growth(1, 1, 1, 1, 1, [point])


def test_levels_are_words():
    assert [str(level) for level in AlertLevel] == ["none", "warning", "critical"]
