"""How a context grows: a robust trend, and a range for what comes, from the run's own history.

Why this and no curve fitting: a run has five to fifty points, its steps add very unequal amounts (one file read
outweighs ten edits), and now and then the context is compacted. The slope is Theil and Sen's, the median of the slopes
of all pairs of points (Sen, Journal of the American Statistical Association 63, 1968): a quarter of odd points does not
carry it away. The range is a residual bootstrap (Efron, Annals of Statistics 7, 1979): the run is continued many times
with what its own steps added more or less than the trend, each time from a trend estimated anew from resampled steps;
the 80 % interval is what the middle 80 % of the continuations reach. On top each continuation has a change of pace, its
spread being what one must expect after so few and so unequal steps: a bootstrap of two or three points knows nothing
of it.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median
from typing import Final, NamedTuple, Protocol

from msgspec import Struct

__all__ = ["PACE", "Pace", "Point", "Trend", "fit_trend", "forecast_tokens", "steps_until", "theil_sen"]

_PAIRS: Final = 200
_SEED: Final = 20_240_501
_SIMULATED_STEPS: Final = 64  # farther on the noise of single steps averages out
_FITTED_POINTS: Final = 200  # the newest; pairs grow with the square
_COMPACTION_PERCENT: Final = 10  # a smaller drop is a retry, or reasoning the provider no longer counts
_LEVEL_POINTS: Final = 12  # the newest, looked at to know whether the context still grows
_LEAST_LEVEL: Final = 6
_NOT_MORE: Final = 3  # one change in so many that adds nothing
MOST_STEPS: Final = 1_000_000_000


class Pace(NamedTuple):
    """Spread of the change of pace, down and up, in units of sqrt((relative variance + 1 / steps) / steps)."""

    slower: float
    faster: float


# Runs slow down more than they speed up: they read at first and write later. Chosen on the Claude Code, tau-bench and
# Who&When runs at one half; benchmarks/growth.py chooses on one half of the runs and measures on the other as well.
PACE: Final = Pace(2.0, 0.7)
_MOST_SPREAD: Final = 1.5


class Point(Protocol):
    """A token count at a step: `TokenSnapshot`, `GrowthSnapshot`."""

    @property
    def step(self) -> int:
        """The step, from 0 or 1."""
        ...

    @property
    def tokens(self) -> int:
        """Tokens in the context at that step."""
        ...


class Trend(Struct, frozen=True):
    """Growth a step since the last compaction.

    `slope` is robust, `rate` half-way between it and the plain mean (a long run does add its rare large results too);
    `residuals` are what single steps added beyond the mean.
    """

    slope: float
    rate: float
    residuals: list[float]
    spread: float


def theil_sen(points: Sequence[tuple[float, float]]) -> float:
    """The median slope over all pairs of points with different abscissas; 0 if there are none. O(n²)."""
    slopes = [
        (points[j][1] - points[i][1]) / (points[j][0] - points[i][0])
        for i in range(len(points))
        for j in range(i + 1, len(points))
        if points[j][0] != points[i][0]
    ]
    return median(slopes) if slopes else 0.0


def settled(history: Iterable[Point]) -> list[tuple[int, int]]:
    """(step, tokens) by step; of several counts for one step the last given is it: a retry replaces what it repeats."""
    return sorted({point.step: point.tokens for point in sorted(history, key=lambda point: point.step)}.items())


def compaction_steps(points: Sequence[tuple[int, int]]) -> list[int]:
    """Steps at which the context had become smaller by more than a tenth."""
    return [
        after[0]
        for before, after in itertools.pairwise(points)
        if 100 * after[1] < (100 - _COMPACTION_PERCENT) * before[1]
    ]


def level_since(points: Sequence[tuple[int, int]]) -> int | None:
    """The step from which the newest contexts are level, as those of a window over a history are; None if they are not.

    Of a history that is only added to each is larger than the one before. Here a third of them or more are not, and
    what the trend of them all adds is lost in their ups and downs.
    """
    tail = points[-_LEVEL_POINTS:]
    changes = [after[1] - before[1] for before, after in itertools.pairwise(tail)]
    if len(tail) < _LEAST_LEVEL or _NOT_MORE * sum(change <= 0 for change in changes) < len(changes):
        return None
    slope = theil_sen(tail)
    middle = median(tokens - slope * step for step, tokens in tail)
    noise = median(abs(tokens - slope * step - middle) for step, tokens in tail)
    is_level = slope * (tail[-1][0] - tail[0][0]) <= 2 * noise
    return tail[0][0] if is_level else None


def fit_trend(points: Sequence[tuple[int, int]]) -> Trend | None:
    """The trend since the last compaction, before it while there is only one point since; None without two points.

    A context that is level has none, however it grew before.
    """
    if (level := level_since(points)) is not None:
        tail = [point for point in points if point[0] >= level]
        return _trend(
            0.0, 0.0, [(after[1] - before[1]) / (after[0] - before[0]) for before, after in itertools.pairwise(tail)]
        )
    compacted = set(compaction_steps(points))
    segments: list[list[tuple[int, int]]] = []
    for point in points:
        if point[0] in compacted or not segments:
            segments.append([])
        segments[-1].append(point)
    segment = next((segment for segment in reversed(segments) if len(segment) > 1), None)
    if segment is None:
        return None
    segment = segment[-_FITTED_POINTS:]
    slope = theil_sen(segment)
    rates = [(after[1] - before[1]) / (after[0] - before[0]) for before, after in itertools.pairwise(segment)]
    mean = (segment[-1][1] - segment[0][1]) / (segment[-1][0] - segment[0][0])
    return _trend(slope, (slope + mean) / 2, rates)


def constant_trend(rate: float) -> Trend:
    """A trend of which nothing is known but its rate."""
    return _trend(rate, rate, [rate])


def _trend(slope: float, rate: float, rates: Sequence[float]) -> Trend:
    count, mean = len(rates), fmean(rates)
    scale = max(abs(mean), 1.0)
    # What is left by the arithmetic of floats is no noise.
    residuals = [0.0 if abs(one - mean) < 1e-9 * scale else one - mean for one in rates]
    # One more step as far off as the mean is large, for what a short history has not shown yet.
    variance = (sum((residual / scale) ** 2 for residual in residuals) + 1) / count
    return Trend(slope, rate, residuals, min(math.sqrt(variance / count), _MOST_SPREAD))


def forecast_tokens(history: Iterable[Point], step: int, *, pace: Pace = PACE) -> tuple[int, int, int]:
    """The context at a later step as (low, median, high); low to high is the 80 % interval.

    Compactions to come are not foreseen. For a step that has passed, all three are what was counted there, or last
    before it.

    Args:
        pace: how far runs are expected to change their pace.

    Raises:
        ValueError: the history is empty.
    """
    points = settled(history)
    if not points:
        raise ValueError("history must have at least one snapshot to forecast from")
    last_step, level = points[-1]
    trend = fit_trend(points)
    if step <= last_step or trend is None:
        known = next((tokens for at, tokens in reversed(points) if at <= step), points[0][1])
        return known, known, known
    ahead = step - last_step
    low, middle, high = _quantiles(sorted(growth(ahead) for growth in _continuations(trend, ahead, pace)))
    return level + round(low), level + round(middle), level + round(high)


def steps_until(trend: Trend, room: int) -> tuple[int, int, int]:
    """Steps that still fit into `room` tokens as (low, median, high); low to high is the 80 % interval.

    The turn that is under way is the first of them. At most `MOST_STEPS`.
    """
    counts = sorted(_fitting_steps(growth, room) for growth in _continuations(trend, _SIMULATED_STEPS, PACE))
    low, middle, high = _quantiles(counts)
    return int(low), int(middle), int(high)


def _fitting_steps(growth: Callable[[int], float], room: int) -> int:
    """The greatest number of steps whose growth is at most `room`; growth never falls."""
    limit = room + 1e-6  # ten steps of 33.3… fit into 333.3…
    if growth(MOST_STEPS) <= limit:
        return MOST_STEPS
    fits, exceeds = 0, MOST_STEPS
    while exceeds - fits > 1:
        middle = (fits + exceeds) // 2
        if growth(middle) <= limit:
            fits = middle
        else:
            exceeds = middle
    return fits


def _quantiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The 10th, 50th and 90th percentile of sorted values, always one of them."""
    last = len(values) - 1
    return values[round(0.1 * last)], values[last // 2], values[round(0.9 * last)]


def _continuations(trend: Trend, steps: int, spread: Pace) -> list[Callable[[int], float]]:
    """Ways the run may go on, each a function from a number of steps to what they add; the same in every call.

    In pairs of opposite change of pace with the trend itself between them, so that the median of a history without
    noise is the trend, to the token.
    """
    draw = random.Random(_SEED)
    residuals = trend.residuals
    simulated = min(steps, _SIMULATED_STEPS)
    paths = [_continuation(trend.rate, [], 1.0)]
    for _ in range(_PAIRS):
        pace = abs(draw.gauss(0, 1)) * trend.spread
        for factor in (math.exp(-spread.slower * pace), math.exp(spread.faster * pace)):
            refit = trend.rate + fmean(draw.choices(residuals, k=len(residuals)))
            noise = draw.choices(residuals, k=simulated) if any(residuals) else []
            paths.append(_continuation(refit, noise, factor))
    return paths


def _continuation(rate: float, noise: Sequence[float], factor: float) -> Callable[[int], float]:
    reached, total, highest = [0.0], 0.0, 0.0
    for residual in noise:
        total += rate + residual
        highest = max(highest, total)
        reached.append(highest * factor)
    pace = max(rate, 0.0) * factor

    def growth(steps: int) -> float:
        if steps < len(reached):
            return reached[steps]
        return reached[-1] + (steps - len(reached) + 1) * pace

    return growth
