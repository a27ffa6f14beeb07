"""Which lines of a text are still there after it was edited: both orders kept, in nearly linear time."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Final, TypeAlias

__all__ = ["matching_lines"]

_SMALL: Final = 40_000  # pairs of lines that are compared each with each

Pair: TypeAlias = tuple[int, int]


def matching_lines(old: Sequence[str], new: Sequence[str]) -> list[Pair]:
    """Pairs of an old line and the new one that it has become, as indexes from 0 that grow together.

    Lines at the beginning and at the end come first, then such as are only once on both sides, and so on between them.
    """
    found: list[Pair] = []
    to_do = [(0, len(old), 0, len(new))]
    while to_do:
        start, end, new_start, new_end = to_do.pop()
        while start < end and new_start < new_end and old[start] == new[new_start]:
            found.append((start, new_start))
            start, new_start = start + 1, new_start + 1
        while start < end and new_start < new_end and old[end - 1] == new[new_end - 1]:
            end, new_end = end - 1, new_end - 1
            found.append((end, new_end))
        if start == end or new_start == new_end:
            continue
        rest, new_rest = old[start:end], new[new_start:new_end]
        single = _single(rest, new_rest)
        if not single:
            among = _compared if len(rest) * len(new_rest) <= _SMALL else _next_ones
            found += [(start + one, new_start + other) for one, other in among(rest, new_rest)]
            continue
        for one, other in single:
            found.append((start + one, new_start + other))
        bounds = [(-1, -1), *single, (len(rest), len(new_rest))]
        to_do += [
            (start + one + 1, start + later, new_start + other + 1, new_start + new_later)
            for (one, other), (later, new_later) in pairwise(bounds)
        ]
    return sorted(found)


def _single(old: Sequence[str], new: Sequence[str]) -> list[Pair]:
    """The most lines that are once on both sides and whose order is the same."""
    counts, new_counts = Counter(old), Counter(new)
    places = {line: index for index, line in enumerate(new) if new_counts[line] == 1}
    pairs = [(index, places[line]) for index, line in enumerate(old) if counts[line] == 1 and line in places]
    # The longest run of growing places: for each length the run that ends earliest, and what came before each pair.
    ends: list[int] = []
    last: list[int] = []
    before: list[int] = []
    for number, (_, place) in enumerate(pairs):
        length = bisect_left(ends, place)
        before.append(last[length - 1] if length else -1)
        ends[length : length + 1] = [place]
        last[length : length + 1] = [number]
    run: list[Pair] = []
    number = last[-1] if last else -1
    while number >= 0:
        run.append(pairs[number])
        number = before[number]
    return run[::-1]


def _compared(old: Sequence[str], new: Sequence[str]) -> list[Pair]:
    blocks = SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks()
    return [(block.a + more, block.b + more) for block in blocks for more in range(block.size)]


def _next_ones(old: Sequence[str], new: Sequence[str]) -> list[Pair]:
    """For each new line the next old one like it: not the most there are, but in time for any text."""
    places: defaultdict[str, deque[int]] = defaultdict(deque)
    for index, line in enumerate(old):
        places[line].append(index)
    found: list[Pair] = []
    last = -1
    for index, line in enumerate(new):
        mine = places[line] if line in places else deque()
        while mine and mine[0] <= last:
            mine.popleft()
        if mine:
            last = mine.popleft()
            found.append((last, index))
    return found
