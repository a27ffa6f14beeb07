"""What every message of a run cost, over all the calls that sent it.

A model keeps nothing: each call pays for the whole conversation again, so a long tool result costs its tokens times
the calls that follow. Here the input of every call is split over what it carried (tool definitions, system prompt,
messages) and each share is charged to who produced it: the tool call that gave the result, the model call that said
the turn.

Counts and costs of calls are the provider's. The split within a call is fitted to them (`unspool.recording.prompts`, as
everywhere): the shares of a call sum to its input cost, and all shares to the input cost of the run. Cached input is
the beginning of a prompt, as providers define it; what the provider added itself comes first of all.

The work is linear in the text that is new in each call, not in what was sent: calls form trees (each extends another),
and what a call pays for the part it shares with the one before is handed down to that one.
"""

from __future__ import annotations

import math
from bisect import insort
from typing import NamedTuple

from msgspec import Struct

from unspool.events import SpanID
from unspool.recording.prompts import Prompt
from unspool.trace.fitted import prompts_of
from unspool.trace.from_recording import RecordedProcess, RecordedTrace
from unspool.trace.names import CACHE_WRITE, CACHED, INPUT, OUTPUT, count_of
from unspool.trace.producers import Producer, Producers
from unspool.trace.quiet import gc_paused
from unspool.trace.rates import PriceList, Rates, is_sent, rates_of
from unspool.trace.spans import Span

__all__ = ["CarriedCost", "CarriedEntry", "carried_cost"]


class CarriedEntry(Struct):
    """What one producer put into prompts, and what that cost.

    `tokens` is its size when it was sent first (a message that a window over the history holds again is the same one,
    and a result or a turn that another lane sends too; of what the provider added, its size where it was largest),
    `sends` how often a model call sent it (for a producer of several messages each one counts), `sent_tokens` what
    these calls paid for, of which `cached_tokens` were read from the provider's cache. `cost_usd` is for all of them
    and `first_usd` for the first: the difference is what carrying it cost. Costs are None where no price is known.
    """

    producer: Producer
    tokens: float = 0.0
    sends: int = 0
    sent_tokens: float = 0.0
    cached_tokens: float = 0.0
    cost_usd: float | None = None
    first_usd: float | None = None

    @property
    def carried_usd(self) -> float | None:
        """What it cost to send it again after the first time."""
        return None if self.cost_usd is None else max(self.cost_usd - (self.first_usd or 0.0), 0.0)


class CarriedCost(Struct):
    """The input of all model calls of a run, split over its producers, the dearest first.

    `input_tokens` and `input_usd` are the sums over all calls; `unread_tokens` and `unread_usd` are the part of calls
    whose messages cannot be read. `output_usd` is what the answers cost, `answers` what each did, by span id;
    `unpriced` counts calls that have counts and no price. `needed` are pairs (earlier, later) of span ids of which data
    shows that the later used what the earlier gave.
    """

    entries: list[CarriedEntry]
    input_tokens: int = 0
    input_usd: float | None = None
    unread_tokens: int = 0
    unread_usd: float = 0.0
    output_usd: float | None = None
    unpriced: int = 0
    needed: list[tuple[SpanID, SpanID]] = []
    answers: list[tuple[SpanID, float]] = []


def carried_cost(trace: RecordedTrace, prices: PriceList | None = None) -> CarriedCost:
    """The split for all model calls of a run.

    Args:
        trace: with its readers still open: the messages are read from them.
        prices: without it there are tokens and no costs.
    """
    ledger = _Ledger(prices)
    with gc_paused():
        for process in trace.processes:
            ledger.add(process)
    return ledger.result()


class _Paid(NamedTuple):
    """The first `length` tokens of a prompt were paid for, each with so much; `calls` calls end there."""

    length: float
    usd: float = 0.0
    tokens: float = 0.0
    cached: float = 0.0
    calls: int = 0
    priced: int = 0


class _New(NamedTuple):
    """A message that was not paid for yet: where it stands, its element, and its producer if that made nothing else."""

    start: float
    end: float
    entry: CarriedEntry
    number: int
    key: object


class _Node:
    """One call in the tree of calls: the intervals of tokens it added, and what it and those that extend it paid."""

    __slots__ = ("above", "added", "ends", "kept", "new", "noted", "paid", "start")

    def __init__(self, above: _Node | None, kept: int) -> None:
        self.above, self.kept = above, kept
        self.start = above.end_of(kept) if above is not None else 0.0
        self.ends: list[float] = []  # of the added elements of the message array
        self.added: list[tuple[float, float, CarriedEntry]] = []
        self.new: list[_New] = []  # of these what was not paid for when the call was made
        self.paid: list[_Paid] = []  # by length
        self.noted = False  # what it added was paid for a first time

    def end_of(self, count: int) -> float:
        """Where the first `count` elements of this call end."""
        node = self
        while count <= node.kept:
            if node.above is None:
                return 0.0
            if count == node.kept:
                return node.start
            node = node.above
        return node.ends[min(count - node.kept, len(node.ends)) - 1] if node.ends else node.start


class _Ledger:
    """Charges the calls of one process after the other."""

    def __init__(self, prices: PriceList | None) -> None:
        self._prices = prices
        self._entries: dict[object, CarriedEntry] = {}
        self._noted: set[object] = set()  # producers of one message that was paid for a first time
        self._paid: set[int] = set()  # numbers of elements of the process for which this holds
        self._inputs: list[float] = []
        self._outputs: list[float] = []
        self._found = CarriedCost([], needed=[], answers=[])

    def result(self) -> CarriedCost:
        found = self._found
        found.entries = sorted(
            (one for one in self._entries.values() if one.sends),
            key=lambda one: (-(one.cost_usd or 0.0), -one.sent_tokens, one.producer.sort_key),
        )
        if self._inputs:
            found.input_usd, found.output_usd = math.fsum(self._inputs), math.fsum(self._outputs)
        return found

    def add(self, process: RecordedProcess) -> None:
        """Charge all calls of a process."""
        prompts = prompts_of(process)
        producers = Producers(process, prompts)
        nodes: dict[int, _Node] = {}
        self._paid = set()
        unread = dict(process.calls)
        for prompt in prompts.calls:
            snapshot = prompt.sent.snapshot
            span = unread.pop(snapshot.call, None) if snapshot.call is not None else None
            above = nodes[prompt.before.sent.snapshot.seq_num] if prompt.before is not None else None
            node = nodes[snapshot.seq_num] = _Node(above, prompt.kept)
            self._place(node, prompt, span, producers)
        for span in unread.values():
            if (bill := self._bill(span, None)) is not None:
                self._found.unread_tokens += bill.read
                self._found.unread_usd += bill.usd
        for node in reversed(nodes.values()):  # who extends comes before what it extends
            _settle(node)
        self._found.needed += producers.needed

    def _place(self, node: _Node, prompt: Prompt, span: Span | None, producers: Producers) -> None:
        """Lay what a call added behind what it kept, and note what it paid."""
        point = node.start
        for producer, weight, closes, number in producers.of(prompt, span):
            entry = self._entry(producer)
            node.added.append((point, point + weight, entry))
            if number not in self._paid:
                is_one = producer.key[1] == producer.span.span_id != producers.agent_id
                node.new.append(_New(point, point + weight, entry, number, producer.key if is_one else None))
            point += weight
            if closes:
                node.ends.append(point)
        bill = self._bill(span, prompt) if span is not None else None
        if bill is None:
            return
        tools = bill.unseen + prompt.tools
        header = bill.unseen + prompt.head
        if not header + point:
            self._found.unread_tokens += bill.read
            self._found.unread_usd += bill.usd
            return
        # In the order in which providers put a prompt together: their own, tools, system prompt, messages.
        for producer, start, end in (
            (producers.provider, 0.0, bill.unseen),
            (producers.tool_definitions, bill.unseen, tools),
            (producers.system_prompt, tools, header),
        ):
            if start < end:
                entry = self._entry(producer)
                if not entry.sends:
                    bill.note_first(entry, start, end)
                elif producer is producers.provider:  # another amount in each call: the largest says most
                    entry.tokens = max(entry.tokens, (end - start) * bill.scale)
                _charge(entry, [band for band in bill.bands if band.length > start], start, end)
        self._note_first(node, bill, header)
        for band in bill.bands:
            if band.length > header:
                insort(node.paid, band._replace(length=band.length - header if band.calls == 0 else point))

    def _note_first(self, node: _Node, bill: _Bill, header: float) -> None:
        """Note what is paid for a first time: also what calls it extends had added that failed, or were not sent."""
        up: _Node | None = node
        held = math.inf
        producers: set[object] = set()
        numbers: set[int] = set()
        while up is not None and not up.noted:
            left = []
            for one in up.new:
                if one.start >= held:
                    left.append(one)  # a later call may have kept more of this one
                elif one.number not in self._paid and (one.key is None or one.key not in self._noted):
                    bill.note_first(one.entry, header + one.start, header + one.end)
                    numbers.add(one.number)
                    producers.add(one.key)
            up.new, up.noted = left, not left
            held = min(held, up.start)
            up = up.above
        self._paid |= numbers
        self._noted |= producers - {None}

    def _bill(self, span: Span, prompt: Prompt | None) -> _Bill | None:
        """What a call paid for its input, None if it does not say or was not sent. Adds it up."""
        read = count_of(span, INPUT)
        if read is None or not is_sent(span):
            return None
        rates = rates_of(span, self._prices, read) if self._prices is not None else None
        bill = _Bill(span, read, prompt, rates)
        self._found.input_tokens += read
        if rates is None:
            self._found.unpriced += 1
        else:
            self._inputs.append(bill.usd)
            answer = (count_of(span, OUTPUT) or 0) * rates.output + rates.request
            self._outputs.append(answer)
            self._found.answers.append((span.span_id, answer))
        return bill

    def _entry(self, producer: Producer) -> CarriedEntry:
        entry = self._entries.get(producer.key)
        if entry is None:
            entry = self._entries[producer.key] = CarriedEntry(producer)
        return entry


class _Bill:
    """What one call paid for its input, as payments for beginnings of the prompt that add up.

    Cached tokens are the beginning, those written to the cache follow. `usd` is the sum, 0 without a price; `unseen` is
    what the provider added, in the same units as the prompt's parts.
    """

    __slots__ = ("bands", "priced", "read", "scale", "unseen", "usd")

    def __init__(self, span: Span, read: int, prompt: Prompt | None, rates: Rates | None) -> None:
        cached = min(count_of(span, CACHED) or 0, read)
        written = min(count_of(span, CACHE_WRITE) or 0, read - cached)
        self.read, self.priced = read, rates is not None
        rates = rates or Rates(0.0, 0.0, 0.0, 0.0)
        self.usd = cached * rates.cached + written * rates.cache_write + (read - cached - written) * rates.input
        # Below 1 only where the parts come to more than was counted.
        self.unseen = max(read - prompt.weight, 0.0) if prompt is not None and prompt.weight else 0.0
        weight = self.unseen + prompt.weight if prompt is not None else 0.0
        self.scale = scale = read / weight if weight else 0.0
        self.bands: list[_Paid] = []
        if scale:
            if cached:
                self.bands.append(_Paid(cached / scale, (rates.cached - rates.cache_write) * scale, cached=scale))
            if cached or written:
                self.bands.append(_Paid((cached + written) / scale, (rates.cache_write - rates.input) * scale))
        self.bands.append(_Paid(weight, rates.input * scale, scale, 0.0, 1, int(self.priced)))

    def note_first(self, entry: CarriedEntry, start: float, end: float) -> None:
        """Something is sent for the first time: its size, and what that once cost."""
        entry.tokens += (end - start) * self.scale
        if self.priced:
            usd = sum(max(min(band.length, end) - start, 0.0) * band.usd for band in self.bands)
            entry.first_usd = (entry.first_usd or 0.0) + usd


def _settle(node: _Node) -> None:
    """Charge what a call added with all that was paid for it, and hand the rest to the call it extends."""
    paid = node.paid
    over = _Paid(0.0)  # all that reaches beyond the interval
    for start, end, entry in reversed(node.added):
        within = []
        while paid and paid[-1].length > start:
            band = paid.pop()
            if band.length >= end:
                over = _both(over, band)
            else:
                within.append(band)
        _charge(entry, [over._replace(length=end), *within], start, end)
        for band in within:
            over = _both(over, band)
    while paid and paid[-1].length > node.start:
        over = _both(over, paid.pop())
    above = node.above
    if above is None:
        return
    if over.tokens or over.usd or over.cached:
        insort(paid, over._replace(length=node.start))
    if len(paid) > len(above.paid):
        paid, above.paid = above.paid, paid
    for band in paid:
        insort(above.paid, band)
    node.paid = []


def _both(one: _Paid, other: _Paid) -> _Paid:
    return _Paid(
        one.length,
        one.usd + other.usd,
        one.tokens + other.tokens,
        one.cached + other.cached,
        one.calls + other.calls,
        one.priced + other.priced,
    )


def _charge(entry: CarriedEntry, bands: list[_Paid], start: float, end: float) -> None:
    """Charge what was paid for an interval."""
    usd = 0.0
    priced = 0
    for band in bands:
        part = min(band.length, end) - start
        usd += part * band.usd
        entry.sent_tokens += part * band.tokens
        entry.cached_tokens += part * band.cached
        entry.sends += band.calls
        priced += band.priced
    if priced:
        entry.cost_usd = (entry.cost_usd or 0.0) + usd
