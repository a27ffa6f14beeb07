"""A bisection in words: what will be tried, what was found."""

from __future__ import annotations

from unspool.replay.bisect import Bisection, Probe, Verdict
from unspool.text import dump_json, show_text

__all__ = ["format_bisection_plan", "format_probe", "format_verdict", "format_verdict_json"]

_LABEL_MAX = 60
_BAR = 20


def format_bisection_plan(bisection: Bisection) -> str:
    """What the search will take, before it starts; no final newline."""
    calls, cost = bisection.expected_calls()
    count = len(bisection.candidates)
    price = "cost unknown" if cost is None else f"${cost:.4f} by the recorded usage" if cost < 1 else f"${cost:.2f}"
    return (
        f"{count} model call{'s' if count != 1 else ''} to search, {bisection.samples} "
        f"fork{'s' if bisection.samples != 1 else ''} at each that is tried: about {calls} live model calls, {price} "
        f"(never more than {bisection.most_calls()} calls if forks are as long as the run)"
    )


def format_probe(probe: Probe) -> str:
    """One line on what the forks at a call came to."""
    rate = probe.flip_rate
    skipped = f", {probe.skipped} not judged" if probe.skipped else ""
    if rate is None:
        return f"call {probe.candidate.call}: no outcome could be judged ({probe.skipped} tried)"
    interval = probe.interval
    return (
        f"call {probe.candidate.call}: {probe.good} of {probe.trials} came out right "
        f"({rate:.0%}, 95 % interval {interval.low:.0%} to {interval.high:.0%}{skipped})"
    )


def format_verdict(verdict: Verdict, *, color: bool = False) -> str:
    """The flip rate of each call that was tried, in order of the run, then the verdict; no final newline."""

    def paint(text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if color else text

    lines = [paint("Flip rate: forks from this call on that came out right", "1")]
    for probe in verdict.probes:
        rate = probe.flip_rate
        filled = round((rate or 0) * _BAR)
        bar = "█" * filled + "·" * (_BAR - filled) if rate is not None else "?" * _BAR
        interval = probe.interval
        tally = f"{probe.good}/{probe.trials}"
        share = f"[{interval.low:>4.0%}, {interval.high:>4.0%}]" if rate is not None else "not judged  "
        said = show_text(probe.candidate.label, _LABEL_MAX)
        mark = paint(" ◄", "91") if verdict.decisive is not None and probe is verdict.decisive else "  "
        lines.append(f"  call {probe.candidate.call:>4}{mark} {bar} {tally:>7}  {share}  {said}".rstrip())
    lines += ["", paint(verdict.reason, "1")]
    return "\n".join(lines)


def format_verdict_json(verdict: Verdict, stopped: str = "") -> str:
    """The same for a program: `decisive`, `settled`, `is_confirmed`, `is_exact`, `probes`, `reason`, `stopped`.

    Args:
        stopped: why the search ended before its time; "" if it did not.
    """

    def one(probe: Probe | None) -> dict[str, object] | None:
        if probe is None:
            return None
        interval = probe.interval
        return {
            "call": probe.candidate.call,
            "seq_num": probe.candidate.seq_num,
            "label": probe.candidate.label,
            "good": probe.good,
            "bad": probe.bad,
            "skipped": probe.skipped,
            "flip_rate": probe.flip_rate,
            "low": interval.low,
            "high": interval.high,
            "records": probe.records,
        }

    document = {
        "decisive": one(verdict.decisive),
        "settled": one(verdict.settled),
        "is_confirmed": verdict.is_confirmed,
        "is_exact": verdict.is_exact,
        "probes": [one(probe) for probe in verdict.probes],
        "reason": verdict.reason,
        "stopped": stopped or None,
    }
    return dump_json(document)
