"""Two runs side by side: aligned steps with equal stretches folded, and what differs first on top."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from unspool.cli import amounts
from unspool.cli.listing import answer_cost
from unspool.cli.runs import descendants
from unspool.durations import format_duration
from unspool.events import LLMResponseData
from unspool.recording.address import resolve
from unspool.replay.diff import ContextDiff
from unspool.replay.pairs import StepPair
from unspool.replay.runs import RunsDiff, WholeRun, diff_runs
from unspool.replay.runs_format import format_used
from unspool.replay.steps import RunStep
from unspool.web.links import Links
from unspool.web.shelf import Shelf

__all__ = ["ComparePage", "compare_runs"]

PAGE: Final = 200  # pairs of a page
_FOLD: Final = 3  # equal pairs in a row that are folded
_SETTINGS: Final = 4  # of a model call that are named


@dataclass
class Cell:
    """A step in one column. `call` is the number of a model call, None where it has none."""

    kind: str
    name: str
    call: int | None
    href: str
    asked: str
    said: str
    error: str
    amounts: str
    seq_num: int
    record_id: str


@dataclass
class PairRow:
    """A pair of steps, or a stretch of `folded` equal ones. `differs` says in what they do."""

    number: int
    first: Cell | None
    second: Cell | None
    differs: list[str]
    state: str
    folded: int = 0

    @property
    def difference(self) -> str:
        """`the system prompt and the answer`."""
        return amounts.joined([f"the {one}" for one in self.differs])


@dataclass
class Fact:
    """A number of both runs, and by how much it changed."""

    name: str
    first: str
    second: str
    change: str


@dataclass
class ComparePage:
    """The comparison. `parting` is the row of the first difference, None where none differs; `parting_at` names it."""

    first: WholeRun
    second: WholeRun
    relation: str
    facts: list[Fact]
    parting: PairRow | None
    parting_at: str
    contexts: ContextDiff | None
    rows: list[PairRow]
    differences: int
    page: int
    pages: int
    diff_href: str


_RELATIONS: Final = {
    "same": "the same run twice",
    "fork": "the second is a fork of the first",
    "fork_of": "the first is a fork of the second",
    "rerun": "the second is a rerun of the first",
    "rerun_of": "the first is a rerun of the second",
    "siblings": "both come from one run",
}


def compare_runs(shelf: Shelf, one: str, other: str, links: Links, page: int = 1) -> ComparePage:
    """Align two runs.

    Raises:
        RecordingNotFound, AmbiguousRecordID, InvalidID, CorruptRecording: as they say.
    """

    def price(path: str, data: LLMResponseData, at: datetime | None) -> float | None:
        return answer_cost(shelf.prices, path, data, at)

    def folders(name: str) -> list[str]:
        root = resolve(shelf.store, name).record_id
        return [root, *(child.record_id for child in descendants(shelf.store, root))]

    records = shelf.store.records
    diff = diff_runs(
        [records / name for name in folders(one)], [records / name for name in folders(other)], price=price
    )
    rows = _rows(diff, links)
    parting = None if diff.parting is None else _pair(diff, diff.parting, links)
    same_record = parting is not None and parting.first is not None and parting.second is not None
    return ComparePage(
        first=diff.first,
        second=diff.second,
        relation=_RELATIONS.get(diff.relation, ""),
        facts=_facts(diff.first, diff.second),
        parting=parting,
        parting_at="" if parting is None else _place(parting, len(diff.pairs)),
        contexts=diff.contexts,
        rows=rows[(page - 1) * PAGE : page * PAGE],
        differences=sum(pair.is_difference for pair in diff.pairs),
        page=page,
        pages=max(-(-len(rows) // PAGE), 1),
        diff_href="" if not same_record else parting.second.href if parting and parting.second else "",
    )


def _rows(diff: RunsDiff, links: Links) -> list[PairRow]:
    rows: list[PairRow] = []
    run: list[int] = []

    def flush() -> None:
        if len(run) > _FOLD:
            rows.append(PairRow(run[0] + 1, None, None, [], "folded", len(run)))
        else:
            rows.extend(_pair(diff, number, links) for number in run)
        run.clear()

    for number, pair in enumerate(diff.pairs):
        if pair.is_same:
            run.append(number)
            continue
        flush()
        rows.append(_pair(diff, number, links))
    flush()
    return rows


def _pair(diff: RunsDiff, number: int, links: Links) -> PairRow:
    pair = diff.pairs[number]
    state = "same" if pair.is_same else "covered" if pair.covered else "differs"
    if pair.first is None:
        state = "added" if state == "differs" else state
    elif pair.second is None:
        state = "removed" if state == "differs" else state
    return PairRow(
        number=number + 1,
        first=None if pair.first is None else _cell(diff.first.steps[pair.first], links),
        second=None if pair.second is None else _cell(diff.second.steps[pair.second], links),
        differs=_words(diff, pair),
        state=state,
    )


def _place(row: PairRow, count: int) -> str:
    """`call 10 (step 23 of 30)`."""
    step = f"step {row.number:,} of {count:,}"
    cell = row.first or row.second
    if cell is None:
        return step
    name = f"call {cell.call}" if cell.kind == "llm" and cell.call is not None else f"{cell.name} #{cell.seq_num}"
    return f"{name} ({step})"


def _words(diff: RunsDiff, pair: StepPair) -> list[str]:
    """In what two steps differ, in the words of `unspool diff`; of the settings those that do, where that is known."""
    if pair.first is None or pair.second is None:
        return []
    one, other = diff.first.steps[pair.first], diff.second.steps[pair.second]
    words = {"request": "input", "response": "result"} if one.kind == "tool" else {"response": "answer"}
    found: list[str] = []
    for name in pair.differs:
        found += _settings(diff, one, other) if name == "settings" else [words.get(name, name)]
    return found


def _settings(diff: RunsDiff, one: RunStep, other: RunStep) -> list[str]:
    """Which settings differ: known of the first difference, and of every later step that differs in the same way."""
    parting = None if diff.parting is None else diff.pairs[diff.parting]
    contexts = diff.contexts
    if parting is None or contexts is None or parting.first is None or parting.second is None:
        return ["settings"]
    keys = (diff.first.steps[parting.first].settings_key, diff.second.steps[parting.second].settings_key)
    if keys != (one.settings_key, other.settings_key):
        return ["settings"]
    tools = contexts.tools
    found = ["system prompt"] if contexts.system_prompt.changed else []
    found += ["tool definitions"] if tools.added or tools.removed or tools.changed or tools.reordered else []
    found += [change.path for change in contexts.params[:_SETTINGS]]
    found += ["other settings"] if len(contexts.params) > _SETTINGS else []
    return found or ["settings"]


def _name(path: str) -> str:
    """A model or tool as all pages name it: `gpt-5`, `search`."""
    kind, _, name = path.removeprefix("/dev/").partition("/")
    return name.partition("/")[2] or name if kind == "llm" else name


def _cell(step: RunStep, links: Links) -> Cell:
    said = [format_duration(step.duration_ns)] if step.duration_ns else []  # 0 where an import does not know it
    if step.kind == "model":
        said.append(f"{amounts.tokens(step.input_tokens)} → {amounts.tokens(step.output_tokens)} tokens")
        said.append(amounts.cost(step.cost_usd))
    if step.origin:
        said.append(step.origin)
    return Cell(
        kind="llm" if step.kind == "model" else "tool",
        name=_name(step.name),
        call=step.call if step.kind == "model" else None,
        href=links.step(step.record_id, step.seq_num),
        asked=step.asked,
        said=step.answered or "",
        error=step.error,
        amounts=", ".join(said),
        seq_num=step.seq_num,
        record_id=step.record_id,
    )


def _facts(first_run: WholeRun, second_run: WholeRun) -> list[Fact]:
    one, other = first_run.totals, second_run.totals
    used, other_used = format_used(first_run), format_used(second_run)

    def plain(value: float) -> str:
        return f"{value:,}"

    def row(
        name: str,
        first: float | None,
        second: float | None,
        shown: Callable[[Any], str] = plain,
        said: tuple[str, str] | None = None,
    ) -> Fact:
        def text(value: float | None) -> str:
            return amounts.UNKNOWN if value is None else shown(value)

        change = ""
        if first is not None and second is not None and first != second:
            change = f"{'+' if second > first else '−'}{text(abs(second - first))}"
        texts = said or (text(first), text(second))
        return Fact(name, *texts, change)

    return [
        row("model calls", one.model_calls, other.model_calls),
        row("tool calls", one.tool_calls, other.tool_calls),
        row("errors", one.errors, other.errors),
        row("input tokens", one.input_tokens, other.input_tokens, said=(used.tokens_in, other_used.tokens_in)),
        row("output tokens", one.output_tokens, other.output_tokens, said=(used.tokens_out, other_used.tokens_out)),
        row("cost", one.cost_usd, other.cost_usd, amounts.cost, said=(used.cost, other_used.cost)),
        row("time", one.wall_ns, other.wall_ns, format_duration),
    ]
