"""Which step made a run fail: where to fork next, and what the outcomes so far say.

A fork at a model call serves everything before it and asks the model afresh from there on. As long as the mistake has
not been made, a fresh sample may come out right; once it stands in the context, hardly any does. So the share of forks
that come out right (the flip rate) falls along the run, and the last call at which it is not zero is the one that
decided. The search is a noisy bisection on that; this module starts nothing, it says what to start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

__all__ = ["Bisection", "Candidate", "Interval", "Probe", "Verdict", "wilson_interval"]

_Z_95: Final = 1.959963984540054  # the 97.5 % quantile of the normal distribution


class Interval(Struct, frozen=True):
    """A range of rates, both ends within 0 and 1."""

    low: float
    high: float


def wilson_interval(successes: int, trials: int, z: float = _Z_95) -> Interval:
    """The Wilson score interval of a rate: honest for few trials, where the textbook interval is not.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927). Without
    trials nothing is known: 0 to 1.

    Raises:
        ValueError: more successes than trials, or a negative number.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials")
    if trials == 0:
        return Interval(0.0, 1.0)
    rate = successes / trials
    scale = 1 + z * z / trials
    centre = (rate + z * z / (2 * trials)) / scale
    half = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials)) / scale
    # Rounding must not leave the rate that was seen outside of its own interval.
    return Interval(max(0.0, min(centre - half, rate)), min(1.0, max(centre + half, rate)))


class Candidate(Struct):
    """A model call a fork can start at.

    Attributes:
        call: its number in the recording.
        seq_num: its snapshot.
        calls_after: model calls of the whole run that start with it or later: what one fork sends, about.
        cost_usd: what those cost when they were recorded; None if unknown.
        label: what the model decided there, for people.
    """

    call: int
    seq_num: int
    calls_after: int
    cost_usd: float | None = None
    label: str = ""


class Probe(Struct):
    """What the forks at one candidate came to.

    Attributes:
        good, bad: outcomes the check accepted and refused.
        skipped: outcomes it could not judge, or forks that failed to run.
        records: record ids of the forks, in order.
    """

    candidate: Candidate
    good: int = 0
    bad: int = 0
    skipped: int = 0
    records: list[str] = []

    @property
    def trials(self) -> int:
        """Outcomes that could be judged."""
        return self.good + self.bad

    @property
    def flip_rate(self) -> float | None:
        """Share of judged outcomes that were good; None without any."""
        return self.good / self.trials if self.trials else None

    @property
    def interval(self) -> Interval:
        """The 95 % interval of the flip rate."""
        return wilson_interval(self.good, self.trials)


class Verdict(Struct):
    """What a bisection found.

    Attributes:
        decisive: the last candidate at which a fork still came out right; None if none did.
        settled: the first candidate from which none did; None if forks flip up to the last call.
        is_confirmed: the intervals of the two do not overlap, so the difference is not chance (at 95 % each).
        is_exact: the two are neighbours, or the end of the run follows: no candidate between them is untried.
        probes: all that was tried, in order of the run.
        reason: the verdict in a sentence.
    """

    decisive: Probe | None
    settled: Probe | None
    is_confirmed: bool
    is_exact: bool
    probes: list[Probe]
    reason: str


class Bisection:
    """The search over the model calls of a failed run.

    Args:
        candidates: in order of the run, at least one.
        samples: forks at each candidate that is tried.

    Raises:
        ValueError: no candidates, or fewer than one sample.
    """

    def __init__(self, candidates: Sequence[Candidate], samples: int) -> None:
        if not candidates:
            raise ValueError("a bisection needs at least one candidate")
        if samples < 1:
            raise ValueError(f"samples must be at least 1, got {samples}")
        self.candidates = list(candidates)
        self.samples = samples
        self.probes: dict[int, Probe] = {}  # by index of the candidate

    def _weight(self, index: int) -> float:
        candidate = self.candidates[index]
        return candidate.cost_usd if candidate.cost_usd else float(candidate.calls_after)

    def _bounds(self) -> tuple[int, int]:
        """Index of the last candidate that flipped (-1: none) and of the first after it that did not (count: none)."""
        flipped = [index for index, probe in self.probes.items() if probe.good]
        low = max(flipped, default=-1)
        still = [index for index, probe in self.probes.items() if probe.trials and not probe.good and index > low]
        return low, min(still, default=len(self.candidates))

    def next_candidate(self) -> Candidate | None:
        """Where to fork next, None when the step is found.

        Of the candidates still open the one that costs least for what it tells: its cost divided by the entropy of its
        outcome, every open position being as likely as another. With equal costs this halves the range; as late calls
        are cheap (little of the run follows), the search leans towards the end.
        """
        low, high = self._bounds()
        open_ones = [index for index in range(low + 1, high) if index not in self.probes]
        if not open_ones:
            return None
        places = len(open_ones) + 1  # the decisive step may also be the one before them all

        def price(item: tuple[int, int]) -> float:
            place, index = item
            share = (place + 1) / places
            entropy = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
            return self._weight(index) / entropy

        _, best = min(enumerate(open_ones), key=price)
        return self.candidates[best]

    def add(self, candidate: Candidate, outcomes: Sequence[bool | None], records: Sequence[str] = ()) -> Probe:
        """Note outcomes of forks at a candidate: True good, False bad, None not to be judged."""
        index = self.candidates.index(candidate)
        probe = self.probes.setdefault(index, Probe(candidate))
        probe.good += sum(outcome is True for outcome in outcomes)
        probe.bad += sum(outcome is False for outcome in outcomes)
        probe.skipped += sum(outcome is None for outcome in outcomes)
        probe.records += records
        return probe

    def expected_calls(self) -> tuple[int, float | None]:
        """Model calls and dollars that the search takes about: the middle of the run at each of its log2 steps.

        The dollars are None where the recorded cost is unknown.
        """
        probes = max(1, math.ceil(math.log2(len(self.candidates) + 1)))
        calls = sum(candidate.calls_after for candidate in self.candidates) / len(self.candidates)
        known = [candidate.cost_usd for candidate in self.candidates if candidate.cost_usd is not None]
        cost = sum(known) / len(known) * probes * self.samples if len(known) == len(self.candidates) else None
        return round(calls * probes * self.samples), cost

    def most_calls(self) -> int:
        """Model calls the search cannot exceed, if forks are as long as the recording: every candidate tried."""
        return sum(candidate.calls_after for candidate in self.candidates) * self.samples

    def verdict(self) -> Verdict:
        """What the outcomes so far say."""
        low, high = self._bounds()
        decisive = self.probes.get(low)
        settled = self.probes.get(high)
        between = [index for index in range(low + 1, high) if index not in self.probes]
        untold = [index for index in range(low + 1, high) if index in self.probes]
        is_exact = not between and not untold
        is_confirmed = decisive is not None and settled is not None and decisive.interval.low > settled.interval.high
        return Verdict(
            decisive=decisive,
            settled=settled,
            is_confirmed=is_confirmed,
            is_exact=is_exact,
            probes=[self.probes[index] for index in sorted(self.probes)],
            reason=_reason(decisive, settled, is_exact=is_exact, is_confirmed=is_confirmed, is_untold=bool(untold)),
        )


def _reason(
    decisive: Probe | None, settled: Probe | None, *, is_exact: bool, is_confirmed: bool, is_untold: bool
) -> str:
    if decisive is None:
        if settled is None:
            return "No fork could be judged, so nothing is known."
        if not is_exact:
            before = "could not all be judged" if is_untold else "was not tried"
            return f"No fork from call {settled.candidate.call} on came out right; what is before it {before}."
        return (
            f"No fork came out right, not even from call {settled.candidate.call}: fresh answers do not help. The "
            "cause is in the prompt, the tools or the program, not in what the model chose; or it takes more samples."
        )
    call = decisive.candidate.call
    if settled is None:
        return f"Forks come out right up to call {call}, the last one tried: the answer of call {call} decided."
    after = settled.candidate.call
    if not is_exact:
        return f"The run was decided between call {call} and call {after}."
    found = (
        f"The answer of call {call} decided: asked afresh there, the run can come out right; from call {after} on it "
        "did not."
    )
    return found if is_confirmed else found + " Too few samples to exclude chance: add --confirm, or more with -n."
