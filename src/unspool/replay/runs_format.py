"""Two aligned runs as text and as JSON. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from unspool.durations import format_duration
from unspool.replay.diff_format import diff_document, format_context_diff
from unspool.replay.pairs import StepPair
from unspool.replay.runs import Relation, RunsDiff, WholeRun
from unspool.replay.steps import LLM_PREFIX, TOOL_PREFIXES, RunStep
from unspool.text import dump_json, show_text

__all__ = ["Used", "format_runs_diff", "format_runs_diff_json", "format_used", "runs_document"]

_RULE = "─" * 37
_TEXT_LIMIT = 160  # code points of what was asked or answered on its line; the JSON form has more
_SHOWN = 40  # entries of the script shown by default
_RED, _GREEN, _YELLOW, _RESET = "\x1b[91m", "\x1b[32m", "\x1b[33m", "\x1b[0m"
_RELATIONS: dict[Relation, str] = {
    "same": "one and the same run",
    "fork": "the second is a fork of the first at event {second.forked_at}",
    "fork_of": "the first is a fork of the second at event {first.forked_at}",
    "rerun": "the second is a rerun of the first",
    "rerun_of": "the first is a rerun of the second",
    "siblings": "both come from {origin}",
}


def format_runs_diff(diff: RunsDiff, color: bool = False, *, limit: int | None = _SHOWN) -> str:
    """Where the runs part, what each did after that, and what they add up to. Ends with a newline.

    `=` did the same, `~` differs, `-` only the first run did it, `+` only the second.

    Args:
        limit: entries shown of what came after the parting; None shows all.
    """
    first, second = diff.first, diff.second
    lines = [f"Runs: {show_text(first.record_id)} → {show_text(second.record_id)}{_relation(diff)}", _RULE]
    lines += [f"Note: {show_text(note)}" for run in (first, second) for note in run.notes]
    lines += _shared(diff)
    if diff.parting is not None:
        lines += _parting(diff, diff.pairs[diff.parting], color)
        after = list(_entries(diff, diff.pairs[diff.parting + 1 :], color))
        if after:
            shown = after if limit is None else after[:limit]
            lines += ["", "After that:", *(line for entry in shown for line in entry)]
            if len(shown) < len(after):
                lines.append(f"  … {len(after) - len(shown)} more (all of them: -n 0)")
    lines += ["", *_table(diff)]
    return "\n".join(lines) + "\n"


def format_runs_diff_json(diff: RunsDiff, color: bool = False) -> str:
    """The same as one line of JSON, with every step.

    Args:
        color: JSON has none; taken because every `format_*` takes it.
    """
    return dump_json(runs_document(diff))


def runs_document(diff: RunsDiff) -> dict[str, Any]:
    """What `format_runs_diff_json` writes, as data."""
    parting = None if diff.parting is None else diff.pairs[diff.parting]
    return {
        "first": _run_document(diff.first),
        "second": _run_document(diff.second),
        "relation": diff.relation or None,
        "same": diff.parting is None,
        "stdout_same": _stdout_same(diff),
        "shared": _shared_pairs(diff),
        "parting": None if parting is None else _pair_document(parting),
        "contexts": None if diff.contexts is None else diff_document(diff.contexts),
        "pairs": [_pair_document(pair) for pair in diff.pairs],
    }


def _run_document(run: WholeRun) -> dict[str, Any]:
    fields = {name: getattr(run, name) for name in run.__struct_fields__ if name not in ("steps", "stdout_sha256")}
    hidden = ("asked_key", "settings_key", "answer_key", "span_id", "inside")
    steps = [
        {name: getattr(step, name) for name in step.__struct_fields__ if name not in hidden} | {"point": step.point}
        for step in run.steps
    ]
    return {**fields, "steps": steps}


def _pair_document(pair: StepPair) -> dict[str, Any]:
    return {
        "first": pair.first,
        "second": pair.second,
        "same": pair.is_same,
        "differs": pair.differs,
        "covered": pair.covered,
    }


# --- the beginning ---------------------------------------------------------------------------------------------------


def _relation(diff: RunsDiff) -> str:
    text = _RELATIONS.get(diff.relation, "")
    origin = diff.first.parent if diff.first.forked_at is not None else diff.first.rerun_of
    return f" ({show_text(text.format(first=diff.first, second=diff.second, origin=origin))})" if text else ""


def _shared_pairs(diff: RunsDiff) -> int:
    return len(diff.pairs) if diff.parting is None else diff.parting


def _shared(diff: RunsDiff) -> Iterator[str]:
    count = _shared_pairs(diff)
    if diff.parting is None:
        yield f"The same from beginning to end{_counted(diff, diff.pairs)}"
    elif not count:
        yield "Nothing is the same at their beginning"
    else:
        yield f"{_span(diff, diff.pairs[:count])} the same{_counted(diff, diff.pairs[:count])}"


def _span(diff: RunsDiff, pairs: Sequence[StepPair]) -> str:
    """`Calls 1–11` where they are that, else how many steps."""
    calls = [step.call for step in _steps(diff.first.steps, pairs) if step.kind == "model"]
    records = {step.record_id for step in _steps(diff.first.steps, pairs)}
    if calls and len(records) == 1 and calls == list(range(calls[0] or 0, (calls[0] or 0) + len(calls))) and calls[0]:
        return f"Call {calls[0]}" if len(calls) == 1 else f"Calls {calls[0]}–{calls[-1]}"
    return f"{len(pairs)} step{'' if len(pairs) == 1 else 's'}"


def _steps(steps: Sequence[RunStep], pairs: Sequence[StepPair]) -> list[RunStep]:
    return [steps[pair.first] for pair in pairs if pair.first is not None and not pair.covered]


def _counted(diff: RunsDiff, pairs: Sequence[StepPair]) -> str:
    kinds = [step.kind for step in _steps(diff.first.steps, pairs)]
    covered = sum(pair.covered for pair in pairs)
    calls, tools = kinds.count("model"), kinds.count("tool")
    nouns = ((calls, "model call"), (tools, "tool call"))
    parts = [f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in nouns if count]
    if covered:
        parts.append(f"{covered} step{'' if covered == 1 else 's'} inside tools that were served")
    return f" ({', '.join(parts)})" if parts else " (neither called a model or a tool)"


def _parting(diff: RunsDiff, pair: StepPair, color: bool) -> Iterator[str]:
    one = None if pair.first is None else diff.first.steps[pair.first]
    other = None if pair.second is None else diff.second.steps[pair.second]
    if one is None or other is None:
        step, mark, which = (other, "+", "second") if one is None else (one, "-", "first")
        assert step is not None
        yield f"They part here: only the {which} run did this ({show_text(step.point)})"
        yield _alone(mark, step, color)
        return
    yield f"They part at {_label(one)}: {_differing(pair, one)}"
    yield f"  {show_text(one.point)} | {show_text(other.point)}{f'  at {show_text(one.at)}' if one.at else ''}"
    if diff.contexts is not None:
        body = format_context_diff(diff.contexts, color).splitlines()[2:]
        yield from (f"  {line}" for line in body)
    yield from _both(pair, one, other, color, skip_request=diff.contexts is not None)


# --- the script ------------------------------------------------------------------------------------------------------


def _entries(diff: RunsDiff, pairs: Sequence[StepPair], color: bool) -> Iterator[list[str]]:
    """What came after: equal steps, and steps that differ in the settings alone, as one entry for all in a row."""
    for kind, group in groupby(pairs, key=_kind):
        several = list(group)
        if kind == "same":
            yield [f"  = {_span(diff, several)} the same{_counted(diff, several)}"]
        elif kind == "settings":
            what = f"{_span(diff, several)} the same but for the settings{_counted(diff, several)}"
            yield [_painted(f"  ~ {what}", _YELLOW, color)]
        else:
            for pair in several:
                yield list(_entry(diff, pair, color))


def _kind(pair: StepPair) -> str:
    if not pair.is_difference:
        return "same"
    return "settings" if pair.differs == ["settings"] else ""


def _entry(diff: RunsDiff, pair: StepPair, color: bool) -> Iterator[str]:
    one = None if pair.first is None else diff.first.steps[pair.first]
    other = None if pair.second is None else diff.second.steps[pair.second]
    if one is not None and other is not None:
        yield _painted(f"  ~ {_label(one)}: {_differing(pair, one)}", _YELLOW, color)
        yield from _both(pair, one, other, color)
    elif one is not None:
        yield _alone("-", one, color)
    elif other is not None:
        yield _alone("+", other, color)


def _label(step: RunStep) -> str:
    if step.kind == "model":
        number = f"call {step.call}" if step.call is not None else f"the call #{step.seq_num:03d}"
        return f"{number} ({show_text(_name(step), 60)})"
    return f"{show_text(_name(step), 60)} #{step.seq_num:03d}"


def _name(step: RunStep) -> str:
    for prefix in (LLM_PREFIX, *TOOL_PREFIXES):
        if step.name.startswith(prefix):
            return step.name.removeprefix(prefix)
    return step.name


def _differing(pair: StepPair, step: RunStep) -> str:
    words = {"request": "the request", "settings": "the settings", "response": "the answer"}
    if step.kind == "tool":
        words = {"request": "the input", "settings": "the settings", "response": "the result"}
    parts = [words[one] for one in pair.differs]
    text = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    return f"{text} {'differs' if len(parts) == 1 and parts[0] != 'the settings' else 'differ'}"


def _both(pair: StepPair, one: RunStep, other: RunStep, color: bool, *, skip_request: bool = False) -> Iterator[str]:
    if "request" in pair.differs and not skip_request:
        yield _painted(f"    - {_shown(one.asked)}", _RED, color)
        yield _painted(f"    + {_shown(other.asked)}", _GREEN, color)
    if "response" in pair.differs:
        yield _painted(f"    - → {_answered(one)}", _RED, color)
        yield _painted(f"    + → {_answered(other)}", _GREEN, color)


def _alone(mark: str, step: RunStep, color: bool) -> str:
    asked = f" {_shown(step.asked)}" if step.kind == "tool" or not step.answered else ""
    line = f"  {mark} {_label(step)}{asked} → {_answered(step)}"
    return _painted(line, _RED if mark == "-" else _GREEN, color)


def _shown(text: str) -> str:
    return show_text(text, _TEXT_LIMIT) or '""'


def _answered(step: RunStep) -> str:
    if step.error:
        return f"error: {show_text(step.error, _TEXT_LIMIT)}"
    return "no answer" if step.answered is None else _shown(step.answered)


# --- the sums --------------------------------------------------------------------------------------------------------


def _table(diff: RunsDiff) -> Iterator[str]:
    first, second = diff.first, diff.second
    mine, theirs = _after(diff, 0), _after(diff, 1)
    rows = [
        ("", "first", "second"),
        ("Outcome", _outcome(first), _outcome(second)),
        ("Model calls", *map(_with_after, (first.totals.model_calls, second.totals.model_calls), (mine[0], theirs[0]))),
        ("Tool calls", *map(_with_after, (first.totals.tool_calls, second.totals.tool_calls), (mine[1], theirs[1]))),
        ("Tokens in", *(format_used(run).tokens_in for run in (first, second))),
        ("Tokens out", *(format_used(run).tokens_out for run in (first, second))),
        ("Cost", *(format_used(run).cost for run in (first, second))),
        ("Time", _time(first), _time(second)),
        ("Errors", *(str(run.totals.errors) for run in (first, second))),
    ]  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    yield from (f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}".rstrip() for row in rows)
    same = _stdout_same(diff)
    if same is not None:
        yield f"Output on stdout: {'the same' if same else 'differs'}"
    if first.last_answer != second.last_answer:
        yield f"Last answer of the first:  {_shown(first.last_answer) if first.last_answer else 'none'}"
        yield f"Last answer of the second: {_shown(second.last_answer) if second.last_answer else 'none'}"
    elif first.last_answer:
        yield f"Last answer of both: {_shown(first.last_answer)}"
    for which, run in (("first", first), ("second", second)):
        if run.last_error:
            yield f"Last error of the {which}: {show_text(run.last_error, _TEXT_LIMIT)}"


def _stdout_same(diff: RunsDiff) -> bool | None:
    known = (diff.first.stdout_sha256, diff.second.stdout_sha256)
    if None in known:
        return None
    # A tool that was served has not printed what it prints.
    served = any(
        step.origin == "served" for run in (diff.first, diff.second) for step in run.steps if step.kind == "tool"
    )
    return None if served and known[0] != known[1] else known[0] == known[1]


def _after(diff: RunsDiff, side: int) -> tuple[int, int]:
    """Model calls and tool calls of a run from the parting on."""
    pairs = [] if diff.parting is None else diff.pairs[diff.parting :]
    run, key = ((diff.first, "first"), (diff.second, "second"))[side]
    positions = [position for pair in pairs if (position := getattr(pair, key)) is not None]
    kinds = [run.steps[position].kind for position in positions]
    return kinds.count("model"), kinds.count("tool")


def _with_after(count: int, after: int) -> str:
    return f"{count} ({after} after)" if after else str(count)


def _outcome(run: WholeRun) -> str:
    if run.status == "recording":
        return "still running"
    return f"exit {run.exit_code}" if run.exit_code is not None and run.status == "completed" else str(run.status)


def _tokens(count: int | None, unknown: int) -> str:
    return "?" if count is None else f"{count:,}{'+' if unknown else ''}"


class Used(NamedTuple):
    """What a run used, as text."""

    tokens_in: str
    tokens_out: str
    cost: str


def format_used(run: WholeRun) -> Used:
    """What a run used; of one to which a recording served calls, what of it was sent and so had to be paid."""
    totals = run.totals
    sent = [step for step in run.steps if step.kind == "model" and step.origin != "served"]

    def text(whole: str, part: str) -> str:
        return f"{whole} ({part} sent, {totals.served_calls} served)" if totals.served_calls else whole

    def tokens(whole: int | None, parts: list[int | None]) -> str:
        known = [one for one in parts if one is not None]
        part = sum(known) if known or not parts else None
        return text(_tokens(whole, totals.tokens_unknown), _tokens(part, 0))

    return Used(
        tokens(totals.input_tokens, [step.input_tokens for step in sent]),
        tokens(totals.output_tokens, [step.output_tokens for step in sent]),
        text(_usd(totals.cost_usd, totals.cost_unknown), _usd(totals.sent_usd, 0)),
    )


def _usd(amount: float | None, unknown: int) -> str:
    if amount is None:
        return "?"
    mark = "+" if unknown else ""
    return f"${amount:.4f}{mark}" if 0 < amount < 1 else f"${amount:,.2f}{mark}" if amount else f"$0{mark}"


def _time(run: WholeRun) -> str:
    return "?" if run.totals.wall_ns is None else format_duration(run.totals.wall_ns)


def _painted(text: str, paint: str, color: bool) -> str:
    return f"{paint}{text}{_RESET}" if color else text
