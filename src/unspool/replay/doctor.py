"""What makes an agent irreproducible: from one recorded run, and one rerun of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct, field

from unspool.recording.reader import RecordReader
from unspool.replay.cause import Cause
from unspool.replay.nearest import Recorded
from unspool.replay.rerun import Outcome
from unspool.replay.varying import varying_pieces
from unspool.text import show_text

__all__ = ["Diagnosis", "Finding", "Pinned", "diagnose", "format_diagnosis"]

_NONDET_NAME: Final = "nondet.jsonl"
_LISTED: Final = 20
_GREEN, _RED, _YELLOW, _RESET = "\x1b[32m", "\x1b[91m", "\x1b[33m", "\x1b[0m"

FindingKind = Literal["divergence", "missing call", "stdout", "exit code", "pin", "tool", "effect"]


class Finding(Struct, frozen=True):
    """Something that keeps the agent from being run again as it ran.

    Attributes:
        kind: what showed it.
        what: in a sentence.
        at: the line of the agent's code it comes from, where that is known.
        why: causes and evidence.
        breaks: whether the rerun was not the same because of it; otherwise it only happened for real again.
    """

    kind: FindingKind
    what: str
    at: str | None = None
    why: list[str] = field(default_factory=list)
    breaks: bool = True


class Pinned(Struct, frozen=True):
    """A source of noise that does no harm under unspool: its values are recorded and given again.

    Attributes:
        what: `time`, `uuid4`, `random.state`, …
        at: `file:line`; None for the state of a generator that many lines draw from.
        count: how often it was read.
    """

    what: str
    at: str | None
    count: int


class Diagnosis(Struct):
    """What the doctor found.

    Attributes:
        reproducible: whether the rerun was identical.
        findings: what is in the way, what broke the rerun first.
        pinned: noise that is neutralised.
        hash_seed: the recorded one, that the order of sets of strings hangs on; None where it is not pinned.
        outcome: of the rerun.
    """

    reproducible: bool
    findings: list[Finding]
    pinned: list[Pinned]
    outcome: Outcome
    hash_seed: str | None = None


class _Read(Struct):
    k: str
    at: str | None = None


def diagnose(outcome: Outcome, recorded: Sequence[Path], *, pin: bool = True) -> Diagnosis:
    """Findings of a rerun, and the noise that was neutralised.

    Args:
        outcome: of the rerun.
        recorded: folders of the recordings that it was served from, the first process first.
        pin: whether clock, random numbers and the hash seed were given as recorded.
    """
    findings = [*_findings(outcome)]
    findings.sort(key=lambda one: not one.breaks)
    pinned, seed = (_pinned(recorded), _hash_seed(recorded)) if pin else ([], None)
    return Diagnosis(outcome.status == "identical", findings, pinned, outcome, seed)


def _hash_seed(recorded: Sequence[Path]) -> str | None:
    if not recorded:
        return None
    with RecordReader(recorded[0], live=True) as reader:
        return (reader.metadata.env or {}).get("PYTHONHASHSEED")


def _findings(outcome: Outcome) -> Iterator[Finding]:
    if outcome.status == "failed":
        yield Finding("divergence", "the program could not be served: unspool was not able to enter it the second time")
        return
    for report in outcome.divergences:
        why = [text for cause in report.causes for text in _cause_lines(cause)]
        what = f"asked for something else: {report.what}" + (f" ({report.reason})" if report.reason else "")
        yield Finding("divergence", what, report.at, why)
    if not outcome.divergences:
        yield from (
            Finding("missing call", f"did not make the recorded call of {_name(place)}", place.at)
            for place in outcome.not_made
        )
    output = outcome.stdout
    # After a divergence the program was stopped: its output is a beginning, which says nothing more.
    if output is not None and not outcome.divergences and output.verdict != "identical":
        if output.verdict == "unknown":
            yield Finding("stdout", f"standard output could not be compared: {output.reason}")
        else:
            yield Finding("stdout", "standard output differs", None, [*_varying_output(output.diff), *output.diff])
    if not outcome.divergences and outcome.recorded_exit not in (None, outcome.program_exit):
        yield Finding("exit code", f"ended with {outcome.program_exit}, {outcome.recorded_exit} the first time")
    for entry in outcome.pins:
        why = [entry.reason] if entry.reason else []
        yield Finding("pin", f"{entry.path} was read otherwise than the first time", entry.at, why, breaks=False)
    for use in outcome.tools_live:
        yield Finding("tool", f"{use.path} ran for real: {use.reason}", use.at, breaks=False)
    for entry in outcome.touched:
        what = f"{entry.path}" + (f": {entry.reason}" if entry.reason else "")
        yield Finding("effect", f"touched for real: {what}", entry.at, breaks=False)


def _varying_output(diff: Sequence[str]) -> list[str]:
    """What of the lines that differ is a time, an id or a number, where nothing else of them differs."""
    old, new = ([line[1:] for line in diff if line[:1] == sign and line[:3] != sign * 3] for sign in "-+")
    pieces = [piece for pair in zip(old, new, strict=False) for piece in varying_pieces(*pair)]
    return [f"{kind}: {before} the first time, {after} the second" for kind, before, after in pieces[:5]]


def _name(place: Recorded) -> str:
    return f"{place.name or place.kind}" + (f" (model call {place.call})" if place.kind == "llm" and place.call else "")


def _cause_lines(cause: Cause) -> list[str]:
    return [f"{cause.kind}: {text}" for text in cause.evidence]


def _pinned(recorded: Sequence[Path]) -> list[Pinned]:
    """What agent code read from clock and random sources, most read first."""
    counts: Counter[tuple[str, str | None]] = Counter()
    for folder in recorded:
        try:
            lines = (folder / _NONDET_NAME).read_bytes().split(b"\n")[:-1]
        except OSError:  # nothing was read
            continue
        for line in lines:
            try:
                read = msgspec.json.decode(line, type=_Read)
            except msgspec.DecodeError:
                continue
            if not read.k.endswith(".start"):  # the state everything begins with is no draw
                counts[read.k, read.at] += 1
    return [Pinned(what, at, count) for (what, at), count in counts.most_common()]


def format_diagnosis(diagnosis: Diagnosis, color: bool = False) -> str:
    """The diagnosis for people. Ends with a newline."""
    breaking = [one for one in diagnosis.findings if one.breaks]
    others = [one for one in diagnosis.findings if not one.breaks]
    if diagnosis.reproducible:
        verdict = f"{_GREEN}reproducible{_RESET}" if color else "reproducible"
        lines = [f"unspool doctor: {verdict}: {_proof(diagnosis.outcome)}"]
    else:
        verdict = f"{_RED}not reproducible{_RESET}" if color else "not reproducible"
        lines = [f"unspool doctor: {verdict}"]
    if breaking:
        lines += ["", "What is in the way:"]
        for finding in breaking[:_LISTED]:
            lines += _finding(finding)
    if others:
        lines += ["", "What happened for real again, and may give something else each time:"]
        for finding in others[:_LISTED]:
            lines += _finding(finding)
    if diagnosis.pinned or diagnosis.hash_seed is not None:
        lines += ["", "Pinned, fine under unspool (recorded, and given again):"]
        for noise in diagnosis.pinned[:_LISTED]:
            times = "once" if noise.count == 1 else f"{noise.count} times"
            lines.append(f"  {show_text(noise.what)}{_at(noise.at)}, {times}")
        if len(diagnosis.pinned) > _LISTED:
            lines.append(f"  … and {len(diagnosis.pinned) - _LISTED} more places")
        if diagnosis.hash_seed is not None:
            lines.append(f"  the order of sets of strings (PYTHONHASHSEED={show_text(diagnosis.hash_seed, 20)})")
    return "\n".join(lines) + "\n"


def _proof(outcome: Outcome) -> str:
    written = outcome.stdout.recorded_bytes if outcome.stdout is not None else 0
    return f"{outcome.same_bytes} of {outcome.exchanges} requests byte-identical, {written:,} bytes of output the same"


def _finding(finding: Finding) -> Iterator[str]:
    yield f"  {show_text(finding.what, 300)}{_at(finding.at)}"
    yield from (f"      {show_text(text, 300)}" for text in finding.why[:_LISTED])


def _at(place: str | None) -> str:
    return f" at {show_text(place, 300)}" if place else ""
