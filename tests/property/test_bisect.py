"""The search for the deciding call, against runs whose truth is known."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unspool.replay.bisect import Bisection, Candidate, Interval, wilson_interval


def candidates(count: int, costs: list[float | None] | None = None) -> list[Candidate]:
    return [
        Candidate(
            call=number + 1,
            seq_num=number * 3 + 1,
            calls_after=count - number,
            cost_usd=costs[number] if costs else None,
        )
        for number in range(count)
    ]


def search(count: int, decisive: int, samples: int = 1, costs: list[float | None] | None = None) -> Bisection:
    """Run a search in which forks up to `decisive` (an index, -1: none) always come out right and later ones never."""
    bisection = Bisection(candidates(count, costs), samples)
    while (candidate := bisection.next_candidate()) is not None:
        bisection.add(candidate, [candidate.call - 1 <= decisive] * samples)
    return bisection


@given(st.data(), st.integers(1, 60), st.integers(1, 3))
def test_without_noise_the_search_finds_the_call(data: st.DataObject, count: int, samples: int) -> None:
    decisive = data.draw(st.integers(-1, count - 1))
    costs = data.draw(st.one_of(st.none(), st.lists(st.floats(0.001, 10), min_size=count, max_size=count)))
    verdict = search(count, decisive, samples, costs).verdict()
    assert (verdict.decisive.candidate.call - 1 if verdict.decisive else -1) == decisive
    assert verdict.is_exact
    if decisive < count - 1:
        assert verdict.settled is not None
        assert verdict.settled.candidate.call - 1 == decisive + 1


@given(st.data(), st.integers(1, 200))
def test_equal_costs_are_searched_by_halves(data: st.DataObject, count: int) -> None:
    decisive = data.draw(st.integers(-1, count - 1))
    found = search(count, decisive, costs=[1.0] * count)
    assert len(found.probes) <= (count + 1).bit_length()


def test_late_calls_are_tried_first_where_they_are_cheap() -> None:
    bisection = Bisection(candidates(20), 1)
    first = bisection.next_candidate()
    assert first is not None
    assert first.call > 10


def test_outcomes_that_cannot_be_judged_leave_the_place_open_but_end_the_search() -> None:
    bisection = Bisection(candidates(3), 1)
    while (candidate := bisection.next_candidate()) is not None:
        bisection.add(candidate, [None])
    verdict = bisection.verdict()
    assert verdict.decisive is None
    assert verdict.settled is None
    assert sum(probe.skipped for probe in verdict.probes) == 3
    assert "nothing is known" in verdict.reason


def test_a_skipped_neighbour_makes_the_verdict_a_range() -> None:
    bisection = Bisection(candidates(3), 1)
    first, second, third = bisection.candidates
    bisection.add(first, [True])
    bisection.add(second, [None])
    bisection.add(third, [False])
    verdict = bisection.verdict()
    assert not verdict.is_exact
    assert "between call 1 and call 3" in verdict.reason


def test_confirmed_only_when_the_intervals_part() -> None:
    few = search(4, 1, samples=2).verdict()
    many = search(4, 1, samples=12).verdict()
    assert not few.is_confirmed
    assert "more with -n" in few.reason
    assert many.is_confirmed


def test_with_noise_enough_samples_find_it_mostly() -> None:
    rng = random.Random(7)
    hits = 0
    for _ in range(200):
        decisive = rng.randrange(0, 15)
        bisection = Bisection(candidates(15), 6)
        while (candidate := bisection.next_candidate()) is not None:
            rate = 0.6 if candidate.call - 1 <= decisive else 0.0
            bisection.add(candidate, [rng.random() < rate for _ in range(6)])
        found = bisection.verdict().decisive
        hits += found is not None and found.candidate.call - 1 == decisive
    assert hits >= 180


@given(st.integers(0, 300), st.integers(0, 300))
def test_wilson_holds_the_rate(successes: int, more: int) -> None:
    trials = successes + more
    interval = wilson_interval(successes, trials)
    assert 0 <= interval.low <= interval.high <= 1
    if trials:
        assert interval.low <= successes / trials <= interval.high


def test_wilson_agrees_with_published_values() -> None:
    # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3 (Wilson, no continuity correction).
    for successes, trials, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        found = wilson_interval(successes, trials)
        assert found.low == pytest.approx(low, abs=5e-5)
        assert found.high == pytest.approx(high, abs=5e-5)
    assert wilson_interval(0, 0) == Interval(0.0, 1.0)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one candidate"):
        Bisection([], 1)
    with pytest.raises(ValueError, match="at least 1"):
        Bisection(candidates(1), 0)
    with pytest.raises(ValueError, match="5 successes in 3"):
        wilson_interval(5, 3)
