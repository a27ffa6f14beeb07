"""The steps of two runs in pairs: which did the same, which differ, which have no counterpart."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from unspool.replay.lanes import Lane, match_lanes, step_key
from unspool.replay.sequence import common_subsequence
from unspool.replay.steps import RunStep

__all__ = ["Difference", "StepPair", "align_steps"]

Difference: TypeAlias = Literal["request", "settings", "response"]


class StepPair(Struct, frozen=True):
    """A step of the first run and its counterpart in the second, by position in their steps; None where it has none.

    `covered`: one run did this inside a tool call whose result the other was served, so that it did not run there.
    `differs` says in what the two differ: `request` (what was new in it; of a tool call its input), `settings` (model,
    system prompt, tool definitions, parameters) and `response` (of a tool call its result).
    """

    first: int | None
    second: int | None
    differs: list[Difference] = []
    covered: bool = False

    @property
    def is_difference(self) -> bool:
        """Whether the runs differ here."""
        return not (self.is_same or self.covered)

    @property
    def is_same(self) -> bool:
        """Whether both runs did this step, and did the same."""
        return self.first is not None and self.second is not None and not self.differs


def align_steps(first: Sequence[RunStep], second: Sequence[RunStep]) -> list[StepPair]:
    """Pairs by the rules that `runs.diff_runs` states; every step is in exactly one."""
    aligned = [_align_lane(first, second, mine, theirs) for mine, theirs in match_lanes(first, second)]
    # A conversation whose history was cut goes on as another one, so what is left may belong together all the same.
    left = [[pair for pair in lane if None in pair] for lane in aligned]
    mine = sorted(i for lane in left for i, _ in lane if i is not None)
    theirs = sorted(j for lane in left for _, j in lane if j is not None)
    found = [pair for pair in _align_lane(first, second, mine, theirs, _SIGNS[:-1]) if None not in pair]
    paired = {i for i, _ in found}, {j for _, j in found}
    aligned = [
        [(i, j) for i, j in lane if None not in (i, j) or (i not in paired[0] and j not in paired[1])]
        for lane in aligned
    ]
    lanes = [[StepPair(i, j, _differences(first, second, i, j)) for i, j in lane] for lane in [*aligned, found]]
    return _cover(_merged(lanes, len(second)), first, second)


# --- aligning --------------------------------------------------------------------------------------------------------

_Pairs: TypeAlias = list[tuple[int | None, int | None]]
# From the surest to the vaguest sign that two steps are the same one.
_Sign: TypeAlias = Callable[[RunStep], Hashable]
_SIGNS: Sequence[_Sign] = (
    step_key,
    lambda step: step_key(step)[:3],
    lambda step: (*step_key(step)[:2], step.answer_key),
    lambda step: step_key(step)[:2],
)


def _align_lane(
    first: Sequence[RunStep], second: Sequence[RunStep], mine: Lane, theirs: Lane, signs: Sequence[_Sign] = _SIGNS
) -> _Pairs:
    """The steps of two conversations in pairs that do not cross; those without a counterpart in their places."""
    if not mine or not theirs or not signs:
        return [(i, None) for i in mine] + [(None, j) for j in theirs]
    key = signs[0]
    kept = common_subsequence([key(first[i]) for i in mine], [key(second[j]) for j in theirs])
    pairs: _Pairs = []
    i = j = 0
    for at, to in [*kept, (len(mine), len(theirs))]:
        pairs += _align_lane(first, second, mine[i:at], theirs[j:to], signs[1:])
        if at < len(mine):
            pairs.append((mine[at], theirs[to]))
        i, j = at + 1, to + 1
    return pairs


def _differences(first: Sequence[RunStep], second: Sequence[RunStep], i: int | None, j: int | None) -> list[Difference]:
    if i is None or j is None:
        return []
    one, other = first[i], second[j]
    found: list[Difference] = []
    if one.asked_key != other.asked_key:
        found.append("request")
    if one.settings_key != other.settings_key:
        found.append("settings")
    if one.answer_key != other.answer_key:
        found.append("response")
    return found


def _cover(pairs: list[StepPair], first: Sequence[RunStep], second: Sequence[RunStep]) -> list[StepPair]:
    """Mark what only one run did because the other was served the result of the tool around it."""
    spans: tuple[set[str], set[str]] = set(), set()
    for pair in pairs:
        if pair.first is None or pair.second is None:
            continue
        one, other = first[pair.first], second[pair.second]
        if one.kind == "tool" and (one.origin == "served") != (other.origin == "served"):
            ran, side = (one, 0) if other.origin == "served" else (other, 1)
            if ran.span_id is not None:
                spans[side].add(ran.span_id)
    if not any(spans):
        return pairs

    def is_covered(pair: StepPair) -> bool:
        if pair.first is not None and pair.second is None:
            return not spans[0].isdisjoint(first[pair.first].inside)
        return pair.first is None and pair.second is not None and not spans[1].isdisjoint(second[pair.second].inside)

    return [msgspec.structs.replace(pair, covered=True) if is_covered(pair) else pair for pair in pairs]


def _merged(aligned: list[list[StepPair]], second_count: int) -> list[StepPair]:
    """All pairs in one order: that of each conversation, and as far as it allows that of both runs.

    Of the conversations' next pairs the one whose steps come first in their runs is taken, until none is left.
    """
    # Where a step of the second run would stand in the first: behind the last one before it that has a counterpart.
    counterpart = {pair.second: pair.first for lane in aligned for pair in lane if pair.second is not None}
    rank: list[int] = []
    last = -1
    for j in range(second_count):
        last = max(last, found) if (found := counterpart.get(j)) is not None else last
        rank.append(last)

    def place(pair: StepPair) -> tuple[int, int]:
        if pair.first is not None:
            return pair.first, -1
        assert pair.second is not None
        return rank[pair.second], pair.second

    waiting = [deque(lane) for lane in aligned if lane]
    heap = [(place(lane[0]), number) for number, lane in enumerate(waiting)]
    heapq.heapify(heap)
    merged: list[StepPair] = []
    while heap:
        _, number = heapq.heappop(heap)
        lane = waiting[number]
        merged.append(lane.popleft())
        if lane:
            heapq.heappush(heap, (place(lane[0]), number))
    return merged
