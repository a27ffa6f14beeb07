"""Fitting token estimates to the provider's counts: the counts are the truth, the split within them is fitted.

Two successive counts of one conversation differ by what was added between them, so every pair is an equation for the
scale of the estimates. Their weighted median is taken, with what is known of tokenizers in general as one more vote: a
run of three calls says little, and one odd pair (a cut history, an image, thinking that the provider dropped) must not
decide. What a count holds beyond the scaled estimates nobody can see in the request (instructions that the provider
puts in front, tools of its own): it is `unseen`, one number for each prompt head.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from statistics import fmean, median
from typing import Final

from msgspec import Struct

from unspool.events import CtxMessage

__all__ = ["Calibration", "Counted", "answer_tokens", "calibrate"]

# Tokens of an estimated one, and how many estimated tokens that is worth as evidence. Claude's recent tokenizers make
# more tokens of English and code than the weights in `unspool.tokens` say: 1.3, in the Claude Code sessions. Of other
# models less is known, so their own counts say more.
_PRIORS: Final = (("claude", 1.3, 4_000.0), ("gemini", 1.0, 600.0), ("", 1.1, 600.0))
_LEAST, _MOST = 0.4, 3.0
_LEAST_DIFFERENCE: Final = 8.0  # below it a difference is the noise of frames and separators
# A prompt cannot hold less than what is seen in it, so the scale is at most the count by the estimate, or nearly.
_ABOVE_WHOLE: Final = 1.02
_ANCHORS: Final = 48  # counted calls, the nearest in time, among which the most alike is looked for
_WORTH_ANCHOR: Final = 0.35  # of a prompt that must be shared before another one's count says anything of it
# An answer's own count is exact, yet some logs write it before the answer has ended, and some providers count what
# is not sent again. One that is this far from the estimate is not believed.
_PLAUSIBLE: Final = (0.4, 2.5)


class Counted(Struct, frozen=True):
    """One model call for the fit.

    Attributes:
        head: what its prompt begins with: calls with the same model, system prompt and tools have the same.
        estimate: estimated tokens of all of the prompt that can be seen, without those of `exact`.
        exact: tokens of it whose count is known: earlier answers.
        tokens: the provider's count; None is unknown.
        model: decides the prior.
        parts: (identity, estimated tokens) of each part, for `tokens` None: what it shares with other calls.
    """

    head: Hashable
    estimate: float
    exact: float = 0.0
    tokens: int | None = None
    model: str = ""
    parts: Mapping[Hashable, float] | None = None


class Calibration(Struct, frozen=True):
    """How estimates become the provider's tokens.

    Attributes:
        scale: tokens of an estimated one.
        unseen: tokens of a prompt beyond what can be seen of it, by head.
        error: mean error of a count that is predicted from the others, as a share of it; None with too few counts.
        checked: of how many counts.
        pairs: how many differences of counts the scale is fitted to.
        predicted: for each call, in order: its count, or the tokens it must have had.
    """

    scale: float
    unseen: dict[Hashable, int]
    error: float | None
    checked: int
    pairs: int
    predicted: list[int]


def answer_tokens(
    message: CtxMessage, estimate: float, output: int | None, reasoning: int | None, provider: str | None
) -> float | None:
    """Tokens of an answer that is sent again, by its own count; None if that cannot be the count of this message.

    Args:
        output: as the provider counted the answer, with `reasoning` among it. Reasoning is counted again where it is
            sent again, and with Gemini, whose answers carry it along in a signature.
    """
    if output is None:
        return None
    said = output - (reasoning or 0)
    if not _PLAUSIBLE[0] * estimate <= said <= _PLAUSIBLE[1] * estimate + 16:
        return None
    is_resent = provider == "gemini" or any(part.kind == "reasoning" for part in message.parts or ())
    return float(output if is_resent else said)


def calibrate(calls: Sequence[Counted]) -> Calibration:
    """Fit the calls of one run, in the order in which they were made."""
    known = [index for index, call in enumerate(calls) if call.tokens]
    scale, pairs = _fit(calls, known)
    unseen = _unseen(calls, known, scale)
    predicted = [call.tokens or _predict(calls, known, index, scale, unseen) for index, call in enumerate(calls)]
    errors = [
        abs(_predict(calls, _neighbours(known, place), index, scale, unseen) - (calls[index].tokens or 0))
        / (calls[index].tokens or 1)
        for place, index in enumerate(known)
        if len(known) > 2
    ]
    return Calibration(scale, unseen, fmean(errors) if errors else None, len(errors), pairs, predicted)


def _neighbours(known: Sequence[int], place: int) -> list[int]:
    """The other calls with a count, those around it in time."""
    return [*known[max(place - _ANCHORS, 0) : place], *known[place + 1 : place + 1 + _ANCHORS]]


def _fit(calls: Sequence[Counted], known: Sequence[int]) -> tuple[float, int]:
    samples: list[tuple[float, float]] = []
    last: dict[Hashable, Counted] = {}
    wholes: list[float] = []
    for index in known:
        call = calls[index]
        tokens = call.tokens or 0
        if call.estimate > 0:
            wholes.append((tokens - call.exact) / call.estimate)
        before = last.get(call.head)
        last[call.head] = call
        if before is None:
            continue
        added = call.estimate - before.estimate
        ratio = (tokens - (before.tokens or 0) - call.exact + before.exact) / added if added else 0.0
        if abs(added) >= _LEAST_DIFFERENCE and ratio > 0:
            samples.append((min(max(ratio, _LEAST), _MOST), abs(added)))
    model = calls[known[-1]].model.lower() if known else ""
    prior, worth = next((value, worth) for name, value, worth in _PRIORS if name in model)
    scale = _weighted_median([*samples, (prior, worth)])
    if wholes:
        scale = min(scale, max(_ABOVE_WHOLE * median(wholes), _LEAST))
    return min(max(scale, _LEAST), _MOST), len(samples)


def _weighted_median(samples: list[tuple[float, float]]) -> float:
    samples.sort()
    half = sum(weight for _, weight in samples) / 2
    for (value, _), reached in zip(samples, itertools.accumulate(weight for _, weight in samples), strict=True):
        if reached >= half:
            return value
    raise AssertionError("the prior is always among the samples")


def _unseen(calls: Sequence[Counted], known: Sequence[int], scale: float) -> dict[Hashable, int]:
    rests: defaultdict[Hashable, list[float]] = defaultdict(list)
    for index in known:
        call = calls[index]
        rests[call.head].append((call.tokens or 0) - call.exact - scale * call.estimate)
    return {head: max(round(median(values)), 0) for head, values in rests.items()}


def _predict(
    calls: Sequence[Counted], known: Sequence[int], index: int, scale: float, unseen: Mapping[Hashable, int]
) -> int:
    """Tokens of a call from the counts of others: of the most alike one, and what the two do not share."""
    call = calls[index]
    visible = call.exact + scale * call.estimate
    near = sorted(known, key=lambda other: abs(other - index))[:_ANCHORS]
    best, least = None, (1 - _WORTH_ANCHOR) * (call.estimate + call.exact)
    for other in near:
        distance = _distance(call, calls[other])
        if distance < least or (best is not None and distance == least and other == index - 1):
            best, least = other, distance
    if best is not None:
        anchor = calls[best]
        return max(round((anchor.tokens or 0) + visible - anchor.exact - scale * anchor.estimate), 1)
    ratios = [
        (calls[other].tokens or 0) / whole
        for other in near
        if (whole := calls[other].exact + scale * calls[other].estimate) > 0 and calls[other].model == call.model
    ]
    if ratios and call.head not in unseen:
        return max(round(visible * median(ratios)), 1)
    return max(round(visible + unseen.get(call.head, 0)), 1)


def _distance(one: Counted, other: Counted) -> float:
    """Estimated tokens that one of the two has and the other has not."""
    if one.parts is not None and other.parts is not None:
        small, large = sorted((one.parts, other.parts), key=len)
        shared = sum(weight for part, weight in small.items() if part in large)
        return sum(one.parts.values()) + sum(other.parts.values()) - 2 * shared
    if one.head == other.head:
        return abs(one.estimate + one.exact - other.estimate - other.exact)
    return one.estimate + other.estimate
