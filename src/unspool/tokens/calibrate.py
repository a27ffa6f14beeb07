"""Fitting token estimates to the provider's counts: the counts are the truth, the split within them is fitted.

Two successive counts of one conversation differ by what was added between them, so every pair is an equation for the
scale of the estimates; so is the whole of a prompt that holds little the request does not. Their weighted median is
taken for each model, with what is known of tokenizers in general as one more vote: a run of three calls says little,
and one odd pair (a cut history, an image, thinking that the provider dropped) must not decide. What a count holds
beyond the scaled estimates nobody can see in the request (instructions that the provider puts in front, tools of its
own): it is `unseen`, one number for each prompt head, and never handed on to another one.

A call is `beyond` where its recording shows that its count holds content of its own that no request has: pages that
the provider searched, a conversation that it keeps. Such counts say nothing of other calls and take no part.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from statistics import fmean, median
from typing import Final, NamedTuple

from msgspec import Struct

from unspool.events import CtxMessage
from unspool.tokens.prompts import answer_frame, family_of

__all__ = ["BELIEVED_WHOLE", "PRIOR", "Calibration", "Counted", "Prior", "answer_tokens", "calibrate"]


class Prior(NamedTuple):
    """What is assumed of a tokenizer before a run has counts: tokens of an estimated one, and how much that is worth.

    `worth` is as evidence, in estimated tokens.
    """

    scale: float = 1.0
    worth: float = 4_000.0


PRIOR: Final = Prior()

_LEAST, _MOST = 0.4, 3.0
_MOST_WORTH: Final = 2_000.0  # estimated tokens of one pair: a single log of numbers must not decide for all prose
_LEAST_DIFFERENCE: Final = 8.0  # below it a difference is the noise of frames and separators
# How far from the prior the whole of a prompt may lie to be believed; beyond it something unseen is likelier.
BELIEVED_WHOLE: Final = 0.15
# A prompt cannot hold less than what is seen in it, so the scale is at most the count by the estimate, or nearly.
_ABOVE_WHOLE: Final = 1.02
_ANCHORS: Final = 48  # counted calls, the nearest in time, among which the most alike is looked for
# As a share of a prompt: how far the count of one whose content is whole may lie from its estimate.
_NOISE: Final = 0.1
_TELLING: Final = 0.2  # difference of two prompts, as a share of the larger, that says how the error grows
_COMPARED: Final = 6  # of the most alike
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
        model: calls of the same one share a scale.
        parts: (identity, tokens) of each part, those of `exact` too: what it shares with other calls.
        own: tokens that the provider is known to add to such a prompt.
        beyond: whether the count holds content of this call alone that no request has.
        kept: what its messages name and do not hold; only calls that name the same can be compared.
        again: tokens that each tool which ran at the provider left: behind each the prompt is read, and counted, again.
    """

    head: Hashable
    estimate: float
    exact: float = 0.0
    tokens: int | None = None
    model: str = ""
    parts: Mapping[Hashable, float] | None = None
    own: float = 0.0
    beyond: bool = False
    kept: Hashable = ()
    again: tuple[float, ...] = ()


class Calibration(Struct, frozen=True):
    """How estimates become the provider's tokens.

    Attributes:
        scale: tokens of an estimated one, for the model with the most of them; `scales` for each model.
        unseen: tokens of a prompt beyond what can be seen of it, by head.
        error: mean error of a count that is predicted from the others, as a share of it; None with too few counts.
        checked: of how many counts.
        pairs: how many differences of counts the scales are fitted to.
        predicted: for each call, in order: its count, or the tokens it must have had.
    """

    scale: float
    unseen: dict[Hashable, int]
    error: float | None
    checked: int
    pairs: int
    predicted: list[int]
    scales: dict[str, float] = {}

    def scale_of(self, model: str) -> float:
        """Tokens of an estimated one, for this model."""
        return self.scales.get(model, self.scale)


def answer_tokens(
    message: CtxMessage, estimate: float, counts: tuple[int | None, int | None], provider: str | None, model: str = ""
) -> float | None:
    """Tokens of an answer that is sent again, by its own count; None if that cannot be the count of this message.

    Args:
        counts: of the answer, as the provider gave them: all of it, and the reasoning in it. Reasoning is counted
            again where it is sent again, and with Gemini from 3 on, whose answers carry it along in a signature.
    """
    output, reasoning = counts
    if output is None:
        return None
    said = output - (reasoning or 0)
    if not _PLAUSIBLE[0] * estimate <= said <= _PLAUSIBLE[1] * estimate + 16:
        return None
    family = family_of(provider, model)
    is_carried = family == "gemini" and not any(older in model for older in ("gemini-1", "gemini-2"))
    is_resent = is_carried or any(part.kind == "reasoning" for part in message.parts or ())
    return float((output if is_resent else said) + answer_frame(family))


def calibrate(calls: Sequence[Counted], prior: Prior = PRIOR, *, check: bool = True) -> Calibration:
    """Fit the calls of one run, in the order in which they were made.

    Args:
        check: predict each count from the others, too, to know the error.
    """
    fit = _Fit(calls, prior)
    known = [index for index, call in enumerate(calls) if call.tokens]
    predicted = [call.tokens or fit.predict(index, fit.plain) for index, call in enumerate(calls)]
    checked = fit.plain if check and len(fit.plain) > 2 else []
    errors = [
        abs(fit.predict(index, _neighbours(fit.plain, place)) - (calls[index].tokens or 0)) / (calls[index].tokens or 1)
        for place, index in enumerate(checked)
    ]
    sizes: defaultdict[str, float] = defaultdict(float)
    for index in known or range(len(calls)):
        sizes[calls[index].model] += calls[index].estimate
    main = max(sizes, key=lambda model: sizes[model], default="")
    return Calibration(
        fit.scales.get(main, prior.scale), fit.unseen, fmean(errors) if errors else None, len(errors), fit.pairs,
        predicted, fit.scales,
    )  # fmt: skip


def _neighbours(known: Sequence[int], place: int) -> list[int]:
    """The other calls with a count, those around it in time."""
    return [*known[max(place - _ANCHORS, 0) : place], *known[place + 1 : place + 1 + _ANCHORS]]


class _Fit:
    """The scales of the models and what is unseen of each prompt head; `plain` are the calls that say so."""

    def __init__(self, calls: Sequence[Counted], prior: Prior) -> None:
        self._calls, self._prior = calls, prior
        self.plain = [index for index, call in enumerate(calls) if call.tokens and not call.beyond]
        self._beyond = [index for index, call in enumerate(calls) if call.tokens and call.beyond]
        self.pairs = 0
        by_model: defaultdict[str, list[int]] = defaultdict(list)
        for index in self.plain:
            by_model[calls[index].model].append(index)
        self.scales = {model: self._scale(indexes) for model, indexes in by_model.items()}
        for call in calls:
            self.scales.setdefault(call.model, prior.scale)
        rests: defaultdict[Hashable, list[float]] = defaultdict(list)
        for index in self.plain:
            rests[calls[index].head].append((calls[index].tokens or 0) - self._visible(calls[index]))
        self.unseen: dict[Hashable, int] = {head: max(round(median(values)), 0) for head, values in rests.items()}

    def _visible(self, call: Counted) -> float:
        return call.exact + self.scales[call.model] * call.estimate

    def _scale(self, indexes: Sequence[int]) -> float:
        prior = self._prior.scale
        samples: list[tuple[float, float]] = [self._prior]
        last: dict[Hashable, Counted] = {}
        wholes: list[float] = []
        for index in indexes:
            call = self._calls[index]
            tokens = call.tokens or 0
            before = last.get(call.head)
            last[call.head] = call
            if call.estimate > 0 and not call.kept:
                wholes.append((tokens - call.exact) / call.estimate)
                whole = (tokens - call.exact - call.own) / call.estimate
                if before is None and abs(whole - prior) <= BELIEVED_WHOLE * prior:
                    samples.append((whole, call.estimate))
            if before is None or before.kept != call.kept:
                continue
            added = call.estimate - before.estimate
            ratio = (tokens - (before.tokens or 0) - call.exact + before.exact) / added if added else 0.0
            if abs(added) >= _LEAST_DIFFERENCE and ratio > 0:
                self.pairs += 1
                samples.append((min(max(ratio, _LEAST), _MOST), min(abs(added), _MOST_WORTH)))
        scale = _weighted_median(samples)
        if wholes:
            scale = min(scale, max(_ABOVE_WHOLE * median(wholes), _LEAST))
        return min(max(scale, _LEAST), _MOST)

    def predict(self, index: int, known: Sequence[int]) -> int:
        """Tokens of a call from the counts of others: of the most alike one, and what the two do not share."""
        call = self._calls[index]
        alike = [one for one in self._beyond if self._calls[one].head == call.head and one != index]
        if call.beyond and alike:
            return self._predict(call, index, alike)
        once = self._predict(call, index, known)
        return once + sum(once + round(left) for left in itertools.accumulate(call.again))

    def _predict(self, call: Counted, index: int, known: Sequence[int]) -> int:
        """Tokens of a prompt that is read once."""
        visible = self._visible(call)
        place = bisect_left(known, index)
        window = known[max(place - _ANCHORS, 0) : place + _ANCHORS]
        near = sorted(window, key=lambda other: abs(other - index))[:_ANCHORS]
        direct = visible + call.own
        anchors: list[_Anchor] = []
        for other in near:
            known_call = self._calls[other]
            shared = _shared(call, known_call)
            if known_call.kept == call.kept and shared and shared >= _WORTH_ANCHOR * (call.estimate + call.exact):
                size = known_call.estimate + known_call.exact
                distance = max(call.estimate + call.exact + size - 2 * shared, 0.0)
                rest = (known_call.tokens or 0) - self._visible(known_call) - known_call.own
                anchors.append(_Anchor(distance, shared, size, rest, known_call.head == call.head))
        if not anchors:
            return max(round(visible + self.unseen.get(call.head, call.own)), 1)
        anchors.sort()
        slope = _slope([one for one in anchors if one.is_kin][:_COMPARED])
        weights = [1 / (one.distance + 1) ** 2 for one in anchors[:2]]
        said = [direct + one.rest - one.noise(slope) * (1 - one.shared / one.size) for one in anchors[:2]]
        tokens = sum(weight * one for weight, one in zip(weights, said, strict=True)) / sum(weights)
        return max(round(tokens), 1)


class _Anchor(NamedTuple):
    """A counted call that shares much with one that is asked for; `rest` is what its estimate does not explain.

    One with the same head is kin.
    """

    distance: float
    shared: float
    size: float
    rest: float
    is_kin: bool

    def noise(self, slope: float | None) -> float:
        """The part of the rest that is the estimate's error and so lies anywhere in it.

        What is beyond that is something unseen, which the two have in common. Without a known slope a small rest is
        taken for an error.
        """
        most = _NOISE * self.size
        return min(max(self.rest if slope is None else slope * self.size, -most), most)


def _slope(anchors: Sequence[_Anchor]) -> float | None:
    """How the rest grows with the size; None where the sizes are too alike to tell."""
    slopes = [
        (one.rest - other.rest) / (one.size - other.size)
        for one, other in itertools.combinations(anchors, 2)
        if abs(one.size - other.size) > _TELLING * max(one.size, other.size)
    ]
    return median(slopes) if len(slopes) > 1 else None  # one pair can be an odd one


def _weighted_median(samples: list[tuple[float, float]]) -> float:
    samples.sort()
    half = sum(weight for _, weight in samples) / 2
    for (value, _), reached in zip(samples, itertools.accumulate(weight for _, weight in samples), strict=True):
        if reached >= half:
            return value
    raise AssertionError("the prior is always among the samples")


def _shared(one: Counted, other: Counted) -> float:
    """Estimated tokens that two prompts have in common."""
    if one.parts is not None and other.parts is not None:
        small, large = sorted((one.parts, other.parts), key=len)
        return sum(weight for part, weight in small.items() if part in large)
    if one.head == other.head:
        return min(one.estimate + one.exact, other.estimate + other.exact)
    return 0.0
