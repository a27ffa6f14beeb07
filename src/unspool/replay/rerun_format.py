"""The outcome of a rerun as text and as JSON. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from unspool.replay.diff_format import diff_document, format_context_diff
from unspool.replay.divergence import DivergenceReport
from unspool.replay.nearest import Recorded
from unspool.replay.outputs import OutputComparison
from unspool.replay.rerun import Outcome
from unspool.replay.settings import ValueChange
from unspool.serving.journal import Entry
from unspool.text import display_value, dump_json, show_text

__all__ = ["format_divergence", "format_outcome", "format_outcome_json", "outcome_document"]

_RED, _GREEN, _YELLOW, _RESET = "\x1b[91m", "\x1b[32m", "\x1b[33m", "\x1b[0m"
_LISTED: Final = 10  # things of one kind that are listed; the JSON form has all
# What a diff of two contexts says about the costs of the second: nothing is sent here.
_BESIDE_THE_POINT: Final = ("System Prompt: unchanged", "Prefix: ", "Tokens: ")
_WIDE: Final = 300  # code points of one line of a report


def format_outcome(outcome: Outcome, color: bool = False) -> str:
    """What a rerun proved, and what not, for people. Ends with a newline."""
    lines = [_headline(outcome, color)]
    lines += [f"  {name:<11}{text}" for name, text in _facts(outcome)]
    lines += _lists(outcome)
    for report in outcome.divergences:
        lines += ["", format_divergence(report, color).rstrip("\n")]
    if outcome.not_made and outcome.status == "diverged" and not outcome.divergences:
        lines += ["", *_not_made(outcome.not_made)]
    if outcome.stdout is not None and outcome.stdout.diff and outcome.stdout.verdict == "different":
        lines += ["", *_output_diff(outcome.stdout, color)]
    return "\n".join(lines) + "\n"


def format_outcome_json(outcome: Outcome, color: bool = False) -> str:
    """The outcome as one line of JSON.

    Args:
        color: JSON has none; taken because every `format_*` takes it.
    """
    return dump_json(outcome_document(outcome))


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    """What `format_outcome_json` writes, as data."""
    document: dict[str, Any] = {name: getattr(outcome, name) for name in outcome.__struct_fields__}
    document["exit_code"] = outcome.exit_code
    document["divergences"] = [_report_document(report) for report in outcome.divergences]
    return document


def _report_document(report: DivergenceReport) -> dict[str, Any]:
    document: dict[str, Any] = {name: getattr(report, name) for name in report.__struct_fields__}
    if report.context is not None:
        document["context"] = diff_document(report.context)
    return document


# --- the summary -----------------------------------------------------------------------------------------------------


def _headline(outcome: Outcome, color: bool) -> str:
    what = f"unspool: rerun of {show_text(outcome.source)}"
    done = outcome.same_bytes + outcome.same_json
    match outcome.status:
        case "identical":
            return f"{what}: {_painted('identical', _GREEN, color)}"
        case "forked":
            return f"unspool: fork of {show_text(outcome.source)}: {_painted('reached', _GREEN, color)}"
        case "failed":
            return f"{what}: {_painted('failed', _RED, color)}: nothing is proved"
        case "different":
            verdict = _painted("different", _YELLOW, color)
            return f"{what}: {verdict}: every call was the same, but {_what_differs(outcome)}"
    if outcome.divergences:
        return f"{what}: {_painted('diverged', _RED, color)} after {done} of {outcome.exchanges} requests"
    return f"{what}: {_painted('diverged', _RED, color)}: the program did not make every recorded call"


def _what_differs(outcome: Outcome) -> str:
    found = []
    if outcome.live:
        found.append("some went out for real")
    if outcome.stdout is None or outcome.stdout.verdict != "identical":
        unknown = outcome.stdout is None or outcome.stdout.verdict == "unknown"
        found.append("whether it wrote the same is not known" if unknown else "what it wrote was not")
    if outcome.recorded_exit is not None and outcome.recorded_exit != outcome.program_exit:
        found.append("its exit code was not")
    return " and ".join(found)


def _facts(outcome: Outcome) -> Iterator[tuple[str, str]]:
    yield "requests", _requests(outcome)
    if outcome.tools or outcome.tools_live:
        ran = sum(use.count for use in outcome.tools_live)
        within = f" (and with them {outcome.inside_tools} calls made inside of them)" if outcome.inside_tools else ""
        live = f", {ran} ran for real" if ran else ""
        yield "tools", f"{outcome.tools_served} of {outcome.tools} served{within}{live}"
    if outcome.stdout is not None:
        yield "stdout", _output(outcome.stdout)
    if not outcome.divergences and outcome.status != "forked":
        yield "exit code", _exit(outcome)


def _requests(outcome: Outcome) -> str:
    if not outcome.exchanges and not outcome.live:
        return "none were recorded"
    text = f"{outcome.same_bytes} of {outcome.exchanges} byte-identical"
    if outcome.same_json:
        text += f", {outcome.same_json} the same JSON"
    if outcome.edited:
        text += f", {outcome.edited} edited"
    return text + (f", {outcome.live} sent for real" if outcome.live else "")


def _output(found: OutputComparison) -> str:
    also = f" ({show_text(found.reason)})" if found.reason else ""
    match found.verdict:
        case "identical":
            if found.by_tools:
                lines = f"{found.by_tools} line{'s' if found.by_tools > 1 else ''}"
                return f"identical, but for {lines} that served tools wrote when they ran{also}"
            return f"identical, {found.recorded_bytes:,} bytes{also}"
        case "unknown":
            return f"not compared: {show_text(found.reason or 'not recorded')}"
        case "beginning":
            return f"the first {found.rerun_bytes:,} of {found.recorded_bytes:,} bytes, identical{also}"
    return f"differs{also}"


def _exit(outcome: Outcome) -> str:
    if outcome.recorded_exit is None:
        return f"{outcome.program_exit} (the recorded one is not known)"
    if outcome.recorded_exit == outcome.program_exit:
        return f"{outcome.program_exit}, as recorded"
    return f"{outcome.program_exit}, recorded was {outcome.recorded_exit}"


def _lists(outcome: Outcome) -> Iterator[str]:
    for use in outcome.tools_live:
        times = "" if use.count == 1 else f" {use.count} times"
        yield f"  ran for real: {show_text(use.path)}{times}{_at(use.at)}: {show_text(use.reason, _WIDE)}"
    yield from _entries("touched for real", outcome.touched)
    yield from _entries("denied", outcome.denied)
    yield from _entries("not pinned", outcome.pins)
    about = outcome.surroundings
    if about.placeholders:
        yield f"  credentials that are not set now, given as placeholders: {_names(about.placeholders)}"
    if about.missing:
        yield f"  variables that were set then and are not now: {_names(about.missing)}"
    for name, old, new in about.versions:
        yield f"  another version: {show_text(name)} {show_text(old)} then, {show_text(new)} now"
    for text in dict.fromkeys([*about.notes, *outcome.notes]):
        yield f"  note: {show_text(text, _WIDE)}"


def _entries(title: str, entries: Sequence[Entry]) -> Iterator[str]:
    for entry in entries[:_LISTED]:
        reason = f": {show_text(entry.reason, _WIDE)}" if entry.reason else ""
        yield f"  {title}: {show_text(entry.path or '?', _WIDE)}{_at(entry.at)}{reason}"
    if len(entries) > _LISTED:
        yield f"  {title}: … and {len(entries) - _LISTED} more (--json has all)"


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(show_text(name, 60) for name in names[:_LISTED])
    return shown + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _not_made(missed: Sequence[Recorded]) -> Iterator[str]:
    yield f"Recorded calls that the program did not make ({len(missed)}):"
    for place in missed[:_LISTED]:
        yield f"  {_called(place)}"
    if len(missed) > _LISTED:
        yield f"  … and {len(missed) - _LISTED} more (--json has all)"


def _output_diff(found: OutputComparison, color: bool) -> Iterator[str]:
    yield "Standard output (- recorded, + now):"
    yield from _diff_lines(found.diff, color)
    if found.diff_cut:
        yield "  … there is more"


def _diff_lines(lines: Sequence[str], color: bool) -> Iterator[str]:
    for line in lines:
        if line.startswith(("--- ", "+++ ")):
            continue
        paint = _GREEN if line.startswith("+") else _RED if line.startswith("-") else ""
        text = f"  {show_text(line, _WIDE)}"
        yield _painted(text, paint, color) if paint else text


# --- a divergence ----------------------------------------------------------------------------------------------------


def format_divergence(report: DivergenceReport, color: bool = False) -> str:
    """Where the program asked for what the recording does not hold, what exactly, and why. Ends with a newline."""
    lines = [f"{_painted('Divergence', _RED, color)}: {show_text(report.what, _WIDE)}"]
    if report.reason:
        lines.append(f"  {show_text(report.reason, _WIDE)}")
    lines += _where(report)
    if report.expected is not None:
        lines.append(f"  expected  {_called(report.expected)}")
    else:
        lines.append("  expected  nothing: the recording has no further call there")
    lines += _difference(report, color)
    if report.nearest:
        lines.append("Nearest other recorded exchanges:")
        lines += [f"  {_called(near.place)}: {show_text(near.why, _WIDE)}" for near in report.nearest]
    for number, cause in enumerate(report.causes):
        lines.append(f"{'Also possible' if number else 'Likely cause'}: {_CAUSES[cause.kind]}")
        lines += [f"  {show_text(text, _WIDE)}" for text in cause.evidence]
    return "\n".join(lines) + "\n"


_CAUSES: Final = {
    "missing": "the program left out a call",
    "inserted": "the program made a call more",
    "concurrency": "concurrent calls that changed places",
    "tool": "a tool returned something else",
    "clock": "the clock",
    "random": "a random value",
    "number": "a number that is not the same in each run",
    "order": "an order that is not the same in each run",
    "recording": "the recording itself",
    "code": "the program was changed",
    "unknown": "unknown",
}


def _where(report: DivergenceReport) -> Iterator[str]:
    frames = list(dict.fromkeys([*filter(None, [report.at]), *report.stack]))
    for number, frame in enumerate(frames[:_LISTED]):
        yield f"  {'made at' if not number else '':<9} {show_text(frame, _WIDE)}"
    if report.task not in (None, "0"):
        yield f"  {'task':<9} {show_text(report.task or '')}"


def _difference(report: DivergenceReport, color: bool) -> Iterator[str]:
    parts: list[str] = []
    if report.url is not None:
        parts += [f"  - {show_text(report.url[0], _WIDE)}", f"  + {show_text(report.url[1], _WIDE)}"]
    if report.context is not None:
        lines = format_context_diff(report.context, color).splitlines()[2:]
        parts += [f"  {line}" for line in lines if not line.startswith(_BESIDE_THE_POINT)]
    parts += [f"  {_value(change)}" for change in report.values[:_LISTED]]
    parts += _diff_lines(report.lines, color)
    differs = report.detail.get("differs")
    if isinstance(differs, dict):
        for name, sides in list(differs.items())[:_LISTED]:
            if isinstance(sides, dict):
                parts.append(f"  {show_text(str(name), 60)}: {_side(sides, 'recorded')} → {_side(sides, 'asked')}")
    elif "asked" in report.detail:
        parts.append(f"  asked with {show_text(display_value(report.detail['asked']), _WIDE)}")
    if parts:
        yield "Difference to it (recorded → now):" if report.expected is not None else "It asked:"
        yield from parts


def _side(sides: dict[str, Any], name: str) -> str:
    return show_text(display_value(sides[name]), _WIDE // 2) if name in sides else "absent"


def _value(change: ValueChange) -> str:
    path = show_text(change.path, 100)
    before, after = (show_text(display_value(value), _WIDE // 2) for value in (change.before, change.after))
    if change.change == "added":
        return f"{path}: absent → {after}"
    return f"{path}: {before} → absent" if change.change == "removed" else f"{path}: {before} → {after}"


def _called(place: Recorded) -> str:
    if place.kind == "llm":
        point = f"@call:{place.call}" if place.call is not None else f"@{place.seq_num}"
        text = f"{place.record_id}{point}" + (f" ({place.name})" if place.name else "")
    else:
        text = f"{place.record_id}@{place.seq_num} ({place.name})"
    return show_text(text, _WIDE) + _at(place.at)


def _at(place: str | None) -> str:
    return f" at {show_text(place, _WIDE)}" if place else ""


def _painted(text: str, color_code: str, color: bool) -> str:
    return f"{color_code}{text}{_RESET}" if color and color_code else text
