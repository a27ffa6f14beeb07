"""Retries folded and loops found."""

from __future__ import annotations

import pytest
from trace_fakes import ERROR, MS, OK, span

from unspool.trace.names import ARGS, RESULT, RETRY, STEP
from unspool.trace.repeats import loops_of, retries_of


def tool(number: int, name: str = "search", args: str = "a", result: str = "r", **fields):
    attributes = {ARGS: args, RESULT: result}
    return span(
        f"t{number:02}", "root", number * 10, number * 10 + 5, name=name, kind="tool", attributes=attributes, **fields
    )


def model(number: int, step: int, *, retry: bool = False, **fields):
    attributes = {STEP: step, **({RETRY: True} if retry else {})}
    fields.setdefault("tokens_used", 100)
    fields.setdefault("cost_usd", 0.5)
    return span(
        f"m{number:02}",
        "root",
        number * 10 + 6,
        number * 10 + 9,
        name="big",
        kind="llm",
        attributes=attributes,
        **fields,
    )


def failed(message: str = "429 Too Many Requests") -> dict:
    return {"status": ERROR, "events": [], "cost_usd": None, "tokens_used": 0}


def test_attempts_of_one_model_call_are_one_retry():
    spans = [
        model(0, 1),
        *(model(number, 2, retry=number > 1, **failed()) for number in (1, 2, 3)),
        model(9, 2, retry=True),
        model(10, 3),
    ]
    (retry,) = retries_of(reversed(spans))
    assert [one.span_id for one in retry.attempts] == ["m01", "m02", "m03", "m09"]
    assert len(retry.failures) == 3
    assert retry.succeeded
    assert retry.lost == 80 * MS


def test_two_agents_do_not_share_a_retry():
    assert retries_of([model(1, 1, pid=1, **failed()), model(2, 1, pid=2, retry=True)]) == []


def test_a_tool_called_again_with_the_same_arguments_because_it_failed():
    spans = [tool(1, status=ERROR), tool(2, args="b"), tool(3), tool(4)]
    (retry,) = retries_of(spans)
    assert [one.span_id for one in retry.attempts] == ["t01", "t03"]


def test_attempts_that_all_failed():
    (retry,) = retries_of([tool(1, status=ERROR), tool(2, status=ERROR)])
    assert not retry.succeeded
    assert len(retry.failures) == 2


def test_the_same_call_again_and_again_is_a_loop_with_what_it_cost():
    spans = [
        tool(0, args="z"),
        *(tool(number) for number in range(1, 6)),
        *(model(number, number) for number in range(6)),
    ]
    (loop,) = loops_of(spans)
    assert (loop.period, loop.rounds, loop.same_results, loop.consecutive) == (1, 5, True, True)
    assert loop.wasted == 40 * MS
    # The model calls after the first round up to the last call of the loop.
    assert (loop.tokens, loop.cost_usd) == (400, 2.0)


def test_calls_that_take_turns_are_one_loop():
    names = ["search", "open", "search", "open", "search", "open", "other"]
    (loop,) = loops_of([tool(number, name, result=str(number)) for number, name in enumerate(names)])
    assert (loop.period, loop.rounds, loop.same_results) == (2, 3, False)
    assert [one.name for one in loop.spans[:2]] == ["search", "open"]


@pytest.mark.parametrize("period", [1, 2, 3, 4])
def test_loops_of_any_length(period):
    names = [f"t{number % period}" for number in range(period * 3)]
    (loop,) = loops_of([tool(number, name) for number, name in enumerate(names)])
    assert (loop.period, loop.rounds) == (period, 3)


@pytest.mark.parametrize("args", ["ab", "aab", "abab", "abcabc", "abcdef"])
def test_less_than_three_rounds_is_no_loop(args):
    assert loops_of([tool(number, args=one) for number, one in enumerate(args)]) == []


def test_other_arguments_or_another_agent_break_a_loop():
    assert loops_of([tool(1), tool(2), tool(3, pid=2)]) == []
    assert loops_of([tool(1), tool(2), tool(3, args="b"), tool(4)]) == []


def test_retries_until_it_worked_are_no_loop_and_failing_forever_is_one():
    assert loops_of([*(tool(number, status=ERROR) for number in range(4)), tool(4)]) == []
    (loop,) = loops_of([tool(number, status=ERROR) for number in range(4)])
    assert loop.rounds == 4


def test_the_same_call_with_the_same_result_far_apart():
    spans = [tool(number * 10) for number in range(3)]
    spans += [tool(number, args=f"x{number}") for number in range(25) if number % 10]
    (loop,) = loops_of(spans)
    assert not loop.consecutive
    assert (loop.rounds, loop.wasted) == (3, 10 * MS)


def test_each_call_is_in_one_loop():
    loops = loops_of([tool(number, name) for number, name in enumerate(["a"] * 6 + ["b", "c"] * 3)])
    assert sorted((loop.period, loop.rounds) for loop in loops) == [(1, 6), (2, 3)]
    ids = [one.span_id for loop in loops for one in loop.spans]
    assert len(ids) == len(set(ids))
    assert all(one.status is OK for loop in loops for one in loop.spans)
