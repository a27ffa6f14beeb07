"""What was done more than once: attempts that failed and were made again, and loops.

A retry is the same call again because it failed: attempts of one model call, or a tool with the same arguments. A loop
is the same call, or the same few calls in turn, with the same arguments three times or more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from msgspec import Struct

from unspool.trace.errors_chain import error_message
from unspool.trace.names import ARGS, LANE, RESULT, RETRY, STEP, count_of
from unspool.trace.spans import Span, SpanStatus, is_failing

__all__ = ["Loop", "Retry", "loops_of", "retries_of"]

LEAST: Final = 3  # repetitions that make a loop
_CALLS: Final = ("tool", "llm")
PERIOD_MAX: Final = 4  # calls that take turns in one


class Retry(Struct):
    """Attempts at one thing, in order. `lost` is the time from the first attempt to the start of the last, in ns."""

    attempts: list[Span]
    lost: int = 0

    @property
    def failures(self) -> list[Span]:
        """The attempts that failed."""
        return [span for span in self.attempts if is_failing(span)]

    @property
    def succeeded(self) -> bool:
        """Whether the last attempt did."""
        return not is_failing(self.attempts[-1])

    @property
    def reason(self) -> str:
        """Why the first one failed, as its span says."""
        return error_message(self.failures[0])


class Loop(Struct):
    """The same `period` calls with the same arguments, again and again.

    `wasted` is the time (ns) from the end of the first round to the end of the last, `tokens` and `cost_usd` are of the
    model calls in between (None where no price is known). `same_results`: every round gave what the first one gave.
    `consecutive` is false if other calls of the same kind came between the rounds.
    """

    spans: list[Span]
    period: int
    rounds: int
    wasted: int = 0
    tokens: int = 0
    cost_usd: float | None = None
    same_results: bool = False
    consecutive: bool = True


def retries_of(spans: Iterable[Span]) -> list[Retry]:
    """What failed and was tried again, by its first attempt."""
    groups: dict[tuple[object, ...], list[Span]] = {}
    # What cannot be a repetition is left out before sorting: most of a large trace.
    for span in _by_start(span for span in spans if (STEP if span.kind == "llm" else ARGS) in span.attributes):
        if span.kind == "llm":
            step = count_of(span, STEP)
            if step is not None:
                groups.setdefault((span.pid, "llm", step, span.attributes.get(LANE)), []).append(span)
        elif ARGS in span.attributes:
            groups.setdefault((span.pid, span.kind, span.name, span.attributes[ARGS]), []).append(span)
    found = []
    for (_, kind, *_), attempts in groups.items():
        if len(attempts) > 1:
            found += _chains(attempts, is_model_call=kind == "llm")
    return sorted(found, key=lambda one: (one.attempts[0].start_time_ns, one.attempts[0].span_id))


def _chains(attempts: list[Span], *, is_model_call: bool) -> list[Retry]:
    """Each run of failed attempts with the attempt that follows it."""
    found: list[Retry] = []
    chain: list[Span] = []
    for span in attempts:
        again = not is_model_call or bool(span.attributes.get(RETRY)) or span.status is SpanStatus.OPEN
        if chain and again:
            chain.append(span)
        else:
            chain = [span]
        if not is_failing(span):
            if len(chain) > 1:
                found.append(_retry(chain))
            chain = []
    if len(chain) > 1:
        found.append(_retry(chain))
    return found


def _retry(attempts: list[Span]) -> Retry:
    return Retry(list(attempts), max(attempts[-1].start_time_ns - attempts[0].start_time_ns, 0))


def loops_of(spans: Iterable[Span]) -> list[Loop]:
    """The loops, the one that took longest first. What was repeated only until it succeeded is a retry and no loop."""
    sequences: dict[tuple[int, str], list[Span]] = {}
    model_calls: dict[int, list[Span]] = {}
    comparable = []
    for span in spans:
        if span.kind in _CALLS and span.attributes.get(ARGS) and not span.attributes.get(RETRY):
            comparable.append(span)
        if span.kind == "llm":
            model_calls.setdefault(span.pid, []).append(span)
    for span in _by_start(comparable):
        sequences.setdefault((span.pid, span.kind), []).append(span)
    found: list[Loop] = []
    for (pid, _), sequence in sequences.items():
        for loop in (*_periodic(sequence), *_scattered(sequence)):
            if not _is_retry(loop):
                _add_cost(loop, model_calls.get(pid, []))
                found.append(loop)
    return sorted(found, key=lambda one: (-one.wasted, one.spans[0].start_time_ns, one.spans[0].span_id))


def _periodic(sequence: Sequence[Span]) -> list[Loop]:
    """Rounds that follow each other, of the shortest period first; each call is in one loop at most."""
    keys = [(span.name, span.attributes[ARGS]) for span in sequence]
    taken = [False] * len(keys)
    found = []
    for period in range(1, PERIOD_MAX + 1):
        start = 0
        while start + period < len(keys):
            end = start + period
            while end < len(keys) and keys[end] == keys[end - period] and not taken[end]:
                end += 1
            rounds = (end - start) // period
            if rounds >= LEAST and not any(taken[start:end]):
                found.append(_loop(sequence[start : start + rounds * period], period, rounds, consecutive=True))
                taken[start:end] = [True] * (end - start)
            start = max(end - period + 1, start + 1)
    return found


def _scattered(sequence: Sequence[Span]) -> list[Loop]:
    """The same call with the same result again and again, with others in between."""
    groups: dict[object, list[Span]] = {}
    for span in sequence:
        if span.kind == "tool" and span.attributes.get(RESULT):
            groups.setdefault((span.name, span.attributes[ARGS], span.attributes[RESULT]), []).append(span)
    places = {span.span_id: place for place, span in enumerate(sequence)}
    found = []
    for spans in groups.values():
        near = any(places[later.span_id] - places[one.span_id] <= PERIOD_MAX for one, later in pairwise(spans))
        if len(spans) >= LEAST and not near:
            found.append(_loop(spans, 1, len(spans), consecutive=False))
    return found


def _loop(spans: Sequence[Span], period: int, rounds: int, *, consecutive: bool) -> Loop:
    results = [span.attributes.get(RESULT) for span in spans]
    same = all(result == results[at % period] for at, result in enumerate(results)) and None not in results[:period]
    return Loop(list(spans), period, rounds, same_results=same, consecutive=consecutive)


def _is_retry(loop: Loop) -> bool:
    return loop.period == 1 and not is_failing(loop.spans[-1]) and all(is_failing(span) for span in loop.spans[:-1])


def _add_cost(loop: Loop, model_calls: Sequence[Span]) -> None:
    first, last = loop.spans[loop.period - 1], loop.spans[-1]
    begin, end = first.end_time_ns or first.start_time_ns, last.end_time_ns or last.start_time_ns
    inside = loop.spans[loop.period :]
    if loop.consecutive:
        loop.wasted = max(end - begin, 0)
        calls = [span for span in model_calls if begin <= span.start_time_ns <= last.start_time_ns]
    else:
        loop.wasted = sum(span.duration for span in inside)
        calls = inside if loop.spans[0].kind == "llm" else []
    loop.tokens = sum(span.tokens_used or 0 for span in calls)
    costs = [span.cost_usd for span in calls if span.cost_usd is not None]
    loop.cost_usd = math.fsum(costs) if costs else None


def _by_start(spans: Iterable[Span]) -> list[Span]:
    return sorted(spans, key=lambda span: (span.start_time_ns, span.span_id))
