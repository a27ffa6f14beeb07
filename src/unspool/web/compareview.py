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
from unspool.replay.runs import RunsDiff, RunTotals, WholeRun, diff_runs
from unspool.replay.steps import RunStep
from unspool.web.links import Links
from unspool.web.shelf import Shelf

__all__ = ["ComparePage", "compare_runs"]

PAGE: Final = 200  # pairs of a page
_FOLD: Final = 3  # equal pairs in a row that are folded


@dataclass
class Cell:
    """A step in one column."""

    kind: str
    name: str
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


@dataclass
class Fact:
    """A number of both runs, and by how much it changed."""

    name: str
    first: str
    second: str
    change: str


@dataclass
class ComparePage:
    """The comparison. `parting` is the row of the first difference, None where none differs."""

    first: WholeRun
    second: WholeRun
    relation: str
    facts: list[Fact]
    parting: PairRow | None
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
        facts=_facts(diff.first.totals, diff.second.totals),
        parting=parting,
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
        differs=list(pair.differs),
        state=state,
    )


def _cell(step: RunStep, links: Links) -> Cell:
    said = [format_duration(step.duration_ns)] if step.duration_ns is not None else []
    if step.kind == "model":
        said.append(f"{amounts.tokens(step.input_tokens)} → {amounts.tokens(step.output_tokens)} tokens")
        said.append(amounts.cost(step.cost_usd))
    if step.origin:
        said.append(step.origin)
    return Cell(
        kind="llm" if step.kind == "model" else "tool",
        name=step.name.removeprefix("/dev/").partition("/")[2],
        href=links.step(step.record_id, step.seq_num),
        asked=step.asked,
        said=step.answered or "",
        error=step.error,
        amounts=", ".join(said),
        seq_num=step.seq_num,
        record_id=step.record_id,
    )


def _facts(one: RunTotals, other: RunTotals) -> list[Fact]:
    def plain(value: float) -> str:
        return f"{value:,}"

    def row(name: str, first: float | None, second: float | None, shown: Callable[[Any], str] = plain) -> Fact:
        def text(value: float | None) -> str:
            return amounts.UNKNOWN if value is None else shown(value)

        change = ""
        if first is not None and second is not None and first != second:
            change = f"{'+' if second > first else '−'}{text(abs(second - first))}"
        return Fact(name, text(first), text(second), change)

    return [
        row("model calls", one.model_calls, other.model_calls),
        row("tool calls", one.tool_calls, other.tool_calls),
        row("errors", one.errors, other.errors),
        row("input tokens", one.input_tokens, other.input_tokens),
        row("output tokens", one.output_tokens, other.output_tokens),
        row("cost", one.cost_usd, other.cost_usd, amounts.cost),
        row("time", one.wall_ns, other.wall_ns, format_duration),
    ]
