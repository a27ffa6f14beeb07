"""What every block of a conversation cost over the calls that sent it, in time that grows with new blocks.

A call pays one price for the cached beginning of its prompt, one for what it wrote to the cache, one for the rest: a
few ranges of blocks. Adding to a range and asking for one block each take the logarithm of their number (a Fenwick
tree over differences), so a run of n calls costs n log n, not calls × messages.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple, Protocol, TypeAlias

from unspool.context.calls import Block, Call

__all__ = ["Charge", "Charges", "PricePer", "RatesOf"]


class PricePer(Protocol):
    """US dollars for one token of each kind; see `unspool.trace.rates.Rates`."""

    @property
    def input(self) -> float:
        """Of input that is in no cache."""
        ...

    @property
    def output(self) -> float:
        """Of output."""
        ...

    @property
    def cached(self) -> float:
        """Of input read from the provider's cache."""
        ...

    @property
    def cache_write(self) -> float:
        """Of input written to it."""
        ...


RatesOf: TypeAlias = Callable[[Call], PricePer | None]
"""The rates of a call; None where no price is known."""


class Charge(NamedTuple):
    """What calls paid for one block: `sends` of them, `tokens` in all, of which `cached` were read from a cache.

    `usd` is for the `priced` of them.
    """

    sends: float = 0.0
    tokens: float = 0.0
    cached: float = 0.0
    usd: float = 0.0
    priced: float = 0.0

    def plus(self, other: Charge) -> Charge:
        """Both together."""
        return Charge(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    @property
    def cost(self) -> float | None:
        """US dollars, None where no call has a price."""
        return self.usd if self.priced else None


class Charges:
    """The charges of one conversation, from its last call backwards.

    `since(block, position)` is what the calls from a position on paid for a block.
    """

    def __init__(self, calls: Sequence[Call], rates_of: RatesOf | None) -> None:
        self._calls = calls
        self._rates_of = rates_of
        self._places: dict[int, int] = {}  # of blocks in order of arrival, by identity
        self.blocks: list[Block] = []
        self._runs: list[list[tuple[int, int]]] = []
        for index, call in enumerate(calls):
            self._runs.append(self._arrived(call, index))
        self._weights = [0.0, *accumulate(block.weight for block in self.blocks)]
        self._trees = [_Fenwick(len(self.blocks)) for _ in Charge._fields]

    def since(self, asked: Iterable[tuple[Block, int]]) -> dict[tuple[int, int], Charge]:
        """What was paid, by (identity of the block, position), for each asked block from a position of a call on."""
        waiting = sorted(asked, key=lambda one: one[1])
        found: dict[tuple[int, int], Charge] = {}
        for index in range(len(self._calls) - 1, -1, -1):
            call = self._calls[index]
            while waiting and waiting[-1][1] > call.position:
                block, position = waiting.pop()
                found[id(block), position] = self._of(block)
            if call.is_paid:
                self._pay(call, self._runs[index])
        for block, position in waiting:
            found[id(block), position] = self._of(block)
        return found

    def alone(self, block: Block, position: int) -> Charge:
        """What the calls from a position on paid for one block; cheaper than `since` for a few."""
        place = self._places.get(id(block))
        found = Charge()
        if place is None:
            return found
        first = bisect_left(self._calls, max(position, block.first), key=lambda call: call.position)
        for index in range(first, len(self._calls)):
            call = self._calls[index]
            if call.position > block.last:
                break
            if call.is_paid:
                found = found.plus(self._share(call, self._runs[index], place))
        return found

    def _share(self, call: Call, runs: Sequence[tuple[int, int]], place: int) -> Charge:
        """What one call paid for the block at a place: the parts of it in each band of the prompt."""
        weight, at = self._weights[place + 1] - self._weights[place], 0.0
        sends = tokens = cached = usd = priced = 0.0
        factor = call.factor
        rates = self._rates_of(call) if self._rates_of is not None else None
        read, written = _cache_of(call)
        edges = [(count - call.unseen) / factor for count in (read, read + written)] if factor else [0.0, 0.0]
        for first, last in runs:
            if first <= place < last:
                start = at + self._weights[place] - self._weights[first]
                end = start + weight
                from_cache = max(min(end, edges[0]) - start, 0.0)
                into_cache = max(min(end, edges[1]) - max(start, edges[0]), 0.0)
                sends, tokens, cached = sends + 1, tokens + factor * weight, cached + factor * from_cache
                if rates is not None:
                    plain = weight - from_cache - into_cache
                    paid = rates.cached * from_cache + rates.cache_write * into_cache + rates.input * plain
                    usd, priced = usd + factor * paid, priced + 1
            at += self._weights[last] - self._weights[first]
        return Charge(sends, tokens, cached, usd, priced)

    def _arrived(self, call: Call, index: int) -> list[tuple[int, int]]:
        """The prompt of a call as ranges of places, in its order."""
        before = self._calls[index - 1] if index else None
        runs: list[tuple[int, int]] = []
        fresh = call.blocks
        if before is not None and call.goes_on_from(before):
            runs, fresh = list(self._runs[-1]), call.messages[call.kept :]
        for block in fresh:
            place = self._places.get(id(block))
            if place is None:
                place = self._places[id(block)] = len(self.blocks)
                self.blocks.append(block)
            if runs and runs[-1][1] == place:
                runs[-1] = runs[-1][0], place + 1
            else:
                runs.append((place, place + 1))
        return runs

    def _of(self, block: Block) -> Charge:
        place = self._places.get(id(block))
        if place is None:
            return Charge()
        sends, tokens, cached, usd, priced = (tree.at(place) for tree in self._trees)
        weight = block.weight
        return Charge(sends, tokens * weight, cached * weight, usd * weight, priced)

    def _pay(self, call: Call, runs: Sequence[tuple[int, int]]) -> None:
        factor = call.factor
        sends, tokens, _, _, priced = self._trees
        rates = self._rates_of(call) if self._rates_of is not None else None
        for start, end in runs:
            sends.add(start, end, 1.0)
            tokens.add(start, end, factor)
            if rates is not None:
                priced.add(start, end, 1.0)
        if not factor:
            return
        read, written = _cache_of(call)
        # The provider's own beginning comes first, and is the first thing its cache holds.
        first, second = ((count - call.unseen) / factor for count in (read, read + written))
        if rates is None:
            self._band(runs, 0.0, first, factor, 0.0)
            return
        self._band(runs, 0.0, first, factor, rates.cached * factor)
        self._band(runs, first, second, 0.0, rates.cache_write * factor)
        self._band(runs, second, call.weight * 2 + 1, 0.0, rates.input * factor)

    def _band(self, runs: Sequence[tuple[int, int]], start: float, end: float, cached: float, usd: float) -> None:
        """Charge what of a prompt lies between two weights."""
        start = max(start, 0.0)
        at = 0.0
        for first, last in runs:
            size = self._weights[last] - self._weights[first]
            low, high = max(start - at, 0.0), min(end - at, size)
            at += size
            if low < high:
                self._within((first, last), low, high, cached, usd)
            if at >= end:
                return

    def _within(self, run: tuple[int, int], low: float, high: float, cached: float, usd: float) -> None:
        first, last = run
        base = self._weights[first]
        begin = max(bisect_right(self._weights, base + low) - 1, first)
        stop = min(max(bisect_right(self._weights, base + high) - 1, begin), last)
        self._add(begin, stop, cached, usd)
        # The blocks that the edges fall into pay for their part.
        for place, edge, sign in ((begin, base + low, -1.0), (stop, base + high, 1.0)):
            if place < last and (weight := self._weights[place + 1] - self._weights[place]) > 0:
                share = sign * min(max((edge - self._weights[place]) / weight, 0.0), 1.0)
                if share:
                    self._add(place, place + 1, cached * share, usd * share)

    def _add(self, start: int, end: int, cached: float, usd: float) -> None:
        if cached:
            self._trees[2].add(start, end, cached)
        if usd:
            self._trees[3].add(start, end, usd)


def _cache_of(call: Call) -> tuple[int, int]:
    """Tokens of the prompt that were read from the provider's cache, and those that were written to it."""
    llm = call.llm
    read = min((llm.cached_tokens or 0) if llm is not None else 0, call.tokens)
    return read, min((llm.cache_write_tokens or 0) if llm is not None else 0, call.tokens - read)


class _Fenwick:
    """Adds to ranges, gives single values."""

    def __init__(self, size: int) -> None:
        self._sums = [0.0] * (size + 1)

    def add(self, start: int, end: int, value: float) -> None:
        if start < end:
            self._put(start, value)
            self._put(end, -value)

    def _put(self, at: int, value: float) -> None:
        at += 1
        sums = self._sums
        while at < len(sums):
            sums[at] += value
            at += at & -at

    def at(self, index: int) -> float:
        total, at = 0.0, index + 1
        while at:
            total += self._sums[at]
            at -= at & -at
        return total
