"""Estimates fitted to counts: exact where the counts follow a rule, robust where one does not."""

from __future__ import annotations

import pytest

from unspool.events import CtxMessage, Part
from unspool.tokens.calibrate import PRIOR, Counted, answer_tokens, calibrate


def counted(estimates: list[float], scale: float = 1.5, unseen: int = 200, **fields: object) -> list[Counted]:
    return [Counted("head", one, 0.0, round(unseen + scale * one), **fields) for one in estimates]  # type: ignore[arg-type]


def test_counts_that_follow_a_rule_are_predicted_to_the_token() -> None:
    calls = counted([1_000 * n for n in range(1, 12)])
    hidden = [Counted("head", one.estimate, 0.0, None) if n % 2 else one for n, one in enumerate(calls)]
    found = calibrate(hidden)
    assert found.scale == pytest.approx(1.5, abs=0.01)
    assert found.unseen["head"] == pytest.approx(200, abs=60)
    for one, tokens in zip(calls, found.predicted, strict=True):
        assert one.tokens is not None
        assert abs(tokens - one.tokens) <= 10


def test_the_error_is_that_of_leaving_one_out() -> None:
    found = calibrate(counted([1_000 * n for n in range(1, 12)]))
    assert found.checked == 11
    assert found.error is not None
    assert found.error < 0.01


def test_one_count_that_contradicts_the_others_does_not_decide() -> None:
    calls = counted([2_000 * n for n in range(1, 10)])
    calls[4] = Counted("head", calls[4].estimate, 0.0, 999_999)
    assert calibrate(calls).scale == pytest.approx(1.5, abs=0.05)


def test_exact_answers_do_not_take_part_in_the_scale() -> None:
    calls = [Counted("head", 1_000.0 * n, 777.0 * n, round(100 + 2 * 1_000 * n + 777 * n)) for n in range(1, 9)]
    assert calibrate(calls).scale == pytest.approx(2.0, abs=0.01)


def test_few_counts_leave_the_prior() -> None:
    assert calibrate([Counted("head", 50.0, 0.0, 500, "claude-opus-4-6")]).scale == pytest.approx(PRIOR.scale)


def test_a_prompt_cannot_hold_less_than_what_is_seen_in_it() -> None:
    found = calibrate([Counted("head", 10_000.0, 0.0, 6_000, "gpt-5")])
    assert found.scale == pytest.approx(0.6, rel=0.05)
    assert found.unseen["head"] <= 100


def test_histories_that_shrink_and_calls_in_any_order_are_predicted_too() -> None:
    calls = counted([9_000, 3_000, 8_000, 1_000, 5_000])
    hidden = [*calls, Counted("head", 4_000.0, 0.0, None)]
    assert calibrate(hidden).predicted[-1] == pytest.approx(6_200, rel=0.02)


def test_without_any_count_the_prior_scales_the_estimate() -> None:
    found = calibrate([Counted("a", 100.0, 0.0, None, "gemini-3"), Counted("a", 0.0, 0.0, None)])
    assert found.predicted == [100, 1]
    assert found.error is None


def test_no_calls() -> None:
    assert calibrate([]).predicted == []


def test_counts_of_zero_are_unknown() -> None:
    assert calibrate([Counted("a", 100.0, 0.0, 0), Counted("a", 200.0, 0.0, 220)]).predicted[0] == pytest.approx(
        110, abs=5
    )


def test_calls_without_a_common_head_are_matched_by_what_they_share() -> None:
    shared = {"a": 900.0, "b": 60.0}
    known = Counted("one", 960.0, 0.0, 5_000, parts=shared)
    asked = Counted("two", 980.0, 0.0, None, parts={**shared, "c": 20.0})
    stranger = Counted("three", 900.0, 0.0, 1_000, parts={"z": 900.0})
    assert calibrate([stranger, known, asked]).predicted[2] == pytest.approx(5_022, abs=10)


@pytest.mark.parametrize(
    ("output", "reasoning", "estimate", "provider", "expected"),
    [
        (100, None, 90, "openai_chat", 104.0),  # and its frame
        (100, 60, 35, "openai_chat", 44.0),
        (100, 60, 35, "gemini", 100.0),
        (3, None, 900, "anthropic", None),
        (None, None, 10, "anthropic", None),
    ],
)
def test_an_answers_own_count_is_taken_where_it_can_be_that_of_the_message(
    output: int | None, reasoning: int | None, estimate: int, provider: str, expected: float | None
) -> None:
    assert answer_tokens(CtxMessage("assistant", "x"), estimate, (output, reasoning), provider) == expected


def test_reasoning_that_is_sent_again_is_counted_again() -> None:
    message = CtxMessage("assistant", "x", parts=[Part("reasoning", "hm")])
    assert answer_tokens(message, 35, (100, 60), "openai_chat") == 104.0


def test_a_prompt_is_counted_once_for_each_reading() -> None:
    """Behind each tool that ran at the provider its model read the prompt again, with what the tool had left."""
    plain = [Counted("head", 100.0 + 50 * place, tokens=100 + 50 * place, model="m") for place in range(4)]
    searched = Counted("head", 300.0, model="m", beyond=True, again=(40.0, 60.0))
    predicted = calibrate([*plain, searched]).predicted[-1]
    assert predicted == 300 + (300 + 40) + (300 + 40 + 60)
