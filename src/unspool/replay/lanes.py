"""Which conversation of one run is the counterpart of which in another."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence

from unspool.replay.steps import RunStep

__all__ = ["StepKey", "lanes_of", "match_lanes", "step_key"]

StepKey = tuple[str, str, str, str]
_COMMON = 64  # conversations that hold the same step, beyond which it does not tell them apart
_TWINS = 64  # conversations that began alike, up to which every pair of them is compared

Lane = list[int]
"""Positions of its steps among those of its run."""


def step_key(step: RunStep) -> StepKey:
    """What makes two steps the same, except for the settings of a model call."""
    return step.kind, "" if step.kind == "model" else step.name, step.asked_key, step.answer_key


def lanes_of(steps: Sequence[RunStep]) -> list[Lane]:
    """The conversations of a run in order of their first steps.

    Tool calls that ran at the same time stand in an order that does not depend on which was first.
    """
    lanes: dict[str, Lane] = {}
    for position, step in enumerate(steps):
        lanes.setdefault(step.lane, []).append(position)
    return [_settled(steps, lane) for lane in lanes.values()]


def _settled(steps: Sequence[RunStep], lane: Lane) -> Lane:
    settled: Lane = []
    group: Lane = []
    end_ns = 0
    for position in [*lane, None]:
        step = None if position is None else steps[position]
        if group and (step is None or step.kind != "tool" or step.start_ns >= end_ns):
            settled += sorted(group, key=lambda one: step_key(steps[one])[1:3])
            group, end_ns = [], 0
        if position is not None and step is not None:
            if step.kind == "tool":
                group.append(position)
                end_ns = max(end_ns, step.start_ns + (step.duration_ns or 0))
            else:
                settled.append(position)
    return settled


def match_lanes(first: Sequence[RunStep], second: Sequence[RunStep]) -> list[tuple[Lane, Lane]]:
    """Pairs of conversations; one without a counterpart stands beside an empty one.

    In the same place of the run are paired, in this order: those that began alike, of several the most alike; those
    that share steps, the most alike first; the rest in order. What is left is paired wherever it is in the run.
    """
    matching = _Matching(first, second)
    matching.pair_openings(lambda step: (step.place, step_key(step)[:3]))
    matching.pair_by_shared_steps(lambda step: (step.place, step_key(step)))
    matching.pair_in_order(lambda step: (step.place, step.kind, step.name))
    matching.pair_in_order(lambda step: (step.place, step.kind))
    matching.pair_by_shared_steps(step_key)
    matching.pair_in_order(lambda step: (step.kind, step.name))
    return matching.result()


class _Matching:
    def __init__(self, first: Sequence[RunStep], second: Sequence[RunStep]) -> None:
        self._steps = first, second
        self._all = lanes_of(first), lanes_of(second)
        self._left = [dict(enumerate(lanes)) for lanes in self._all]
        self._pairs: list[tuple[int, int]] = []

    def result(self) -> list[tuple[Lane, Lane]]:
        pairs = [(self._all[0][i], self._all[1][j]) for i, j in self._pairs]
        pairs += [(lane, []) for lane in self._left[0].values()]
        return pairs + [([], lane) for lane in self._left[1].values()]

    def _take(self, i: int, j: int) -> None:
        del self._left[0][i], self._left[1][j]
        self._pairs.append((i, j))

    def _groups(self, side: int, key: Callable[[RunStep], Hashable]) -> dict[Hashable, list[int]]:
        groups: defaultdict[Hashable, list[int]] = defaultdict(list)
        for number, lane in self._left[side].items():
            groups[key(self._steps[side][lane[0]])].append(number)
        return groups

    def pair_openings(self, key: Callable[[RunStep], Hashable]) -> None:
        """Pair conversations with the same first step; twins by how long they stay the same."""
        mine, theirs = self._groups(0, key), self._groups(1, key)
        for opening, ones in mine.items():
            others = theirs.get(opening, [])
            if len(ones) == 1 == len(others) or max(len(ones), len(others)) > _TWINS:
                scored = [(0, i, j) for i, j in zip(ones, others, strict=False)]
            else:
                scored = sorted((-self._alike(i, j), i, j) for i in ones for j in others)
            for _, i, j in scored:
                if i in self._left[0] and j in self._left[1]:
                    self._take(i, j)

    def _alike(self, i: int, j: int) -> int:
        """How many steps the two have in common at their start."""
        first, second = self._steps
        count = 0
        for one, other in zip(self._all[0][i], self._all[1][j], strict=False):
            if step_key(first[one]) != step_key(second[other]):
                break
            count += 1
        return count

    def pair_by_shared_steps(self, key: Callable[[RunStep], Hashable]) -> None:
        """Pair conversations with the most steps in common first."""
        holders: defaultdict[Hashable, list[int]] = defaultdict(list)
        for number, lane in self._left[1].items():
            for one in {key(self._steps[1][position]) for position in lane}:
                holders[one].append(number)
        scores: Counter[tuple[int, int]] = Counter()
        for number, lane in self._left[0].items():
            for one in {key(self._steps[0][position]) for position in lane}:
                if len(found := holders.get(one, ())) <= _COMMON:
                    scores.update((number, other) for other in found)
        for (i, j), _ in sorted(scores.items(), key=lambda item: (-item[1], item[0])):
            if i in self._left[0] and j in self._left[1]:
                self._take(i, j)

    def pair_in_order(self, key: Callable[[RunStep], Hashable]) -> None:
        """Pair the first with the first, the second with the second."""
        theirs = self._groups(1, key)
        for opening, ones in self._groups(0, key).items():
            for i, j in zip(ones, theirs.get(opening, []), strict=False):
                self._take(i, j)
