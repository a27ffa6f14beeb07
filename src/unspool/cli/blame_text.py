"""The report of `unspool blame` for people: what failed, then where time and money went, in parts that sum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from unspool.cli import amounts
from unspool.cli.causes import cause_lines
from unspool.cli.findings import findings
from unspool.cli.subjects import Subject
from unspool.cli.suspects import suspect_lines
from unspool.cli.table import Column, format_table
from unspool.cli.terminal import bold
from unspool.durations import format_duration
from unspool.text import show_text
from unspool.trace.carried import CarriedCost
from unspool.trace.names import ORIGIN
from unspool.trace.report import TraceReport
from unspool.trace.rollup import Group, Share

__all__ = [
    "ROWS",
    "CostRow",
    "Look",
    "blame_text",
    "cost_rows",
    "head_line",
    "share_name",
    "startup_remark",
    "startup_times",
]

ROWS: Final = 6  # of each table, before the line that sums up the rest
_NAME: Final = 60

_PARTS: Final = (Column("SHARE", "right"),)
_WORDS: Final = {"llm": "model", "other": "", "agent": "own code of", "tool": "tool", "step": ""}


@dataclass(frozen=True)
class Look:
    """How a report looks: what the lines of its tables are and how many, for how many columns (None: any)."""

    group: Group = "call"
    rows: int = ROWS
    color: bool = False
    width: int | None = None


def blame_text(subject: Subject, report: TraceReport, by: str | None, look: Look) -> str:
    """The whole report, or the one part that `by` names. No final newline."""
    title, totals = head_line(subject, report)
    lines = [bold(title, look.color), totals]
    if by is None:
        found = findings(report, look.color, look.width)
        lines += ["", *found] if found else []
    if by in (None, "errors"):
        lines += cause_lines(subject, report, color=look.color, width=look.width, everything=by == "errors")
        lines += suspect_lines(subject, report, color=look.color, width=look.width, asked=by == "errors")
    if by in (None, "time"):
        lines += ["", *_time(subject, report, look)]
    if by == "time" and report.has_times:
        lines += ["", *_path(report, look)]
    no_cost = report.result.summary.total_cost_usd is None
    if by == "tokens" or (by is None and no_cost and report.result.summary.total_tokens):
        lines += ["", *_tokens(report, look)]
    if by in (None, "cost") and (paid := _cost(report, look)):
        lines += ["", *paid]
    elif by == "cost":
        lines += ["", "No cost is known." if report.result.summary.total_tokens else "No model call, no cost."]
    lines += ["", *_remarks(subject)] if _remarks(subject) else []
    return "\n".join(lines)


def head_line(subject: Subject, report: TraceReport) -> tuple[str, str]:
    """`demo (1-2026…)`, and `926ms, 12 model calls, 11 tool calls, 66.9k tokens, $0.0849`."""
    metadata = subject.tree.metadata
    models = tools = unpriced = unknown = served = 0
    for span in report.spans:
        tokens = span.tokens_used
        if span.cost_usd is None and (tokens or (tokens is None and span.kind == "llm")):
            unpriced += 1
        if span.kind == "llm":
            models += 1
            unknown += tokens is None
            served += span.attributes.get(ORIGIN) == "served"
        elif span.kind == "tool":
            tools += 1
    parts = [
        format_duration(metadata.total_duration) if report.has_times else "no times",
        amounts.counted(models, "model call") + (f" ({served} served)" if served else ""),
        amounts.counted(tools, "tool call"),
        f"{amounts.tokens(metadata.total_tokens or (None if unknown else 0), more=unknown > 0)} tokens",
    ]
    if models:
        parts.append(amounts.cost(metadata.total_cost_usd, more=unpriced > 0) + _unknown_cost(metadata.total_cost_usd))
    root = report.tree.root.span
    name = "" if root.synthetic else show_text(root.name, _NAME)
    identity = show_text(subject.name)
    return (f"{name} ({identity})" if name and name != identity else identity), ", ".join(parts)


def _unknown_cost(cost: float | None) -> str:
    return " (no known price)" if cost is None else ""


# --- time ------------------------------------------------------------------------------------------------------------


def _time(subject: Subject, report: TraceReport, look: Look) -> list[str]:
    shares = report.shares(look.group)
    total = report.result.critical_duration
    if not report.has_times:
        return ["No times are known."]
    title = f"Where the {format_duration(total)} went"
    early = startup_times(subject)
    cells = [
        [
            _share(row.critical, total),
            format_duration(row.critical),
            str(row.calls or ""),
            format_duration(row.longest) if row.calls > 1 else "",
            _beside(row),
            ", ".join(filter(None, (share_name(row), startup_remark(row, early)))),
        ]
        for row in shares
        if row.critical
    ]
    rest = _folded(shares, look.rows, lambda row: row.critical, total, format_duration, blanks=3)
    columns = (
        *_PARTS, Column("TIME", "right"), Column("CALLS", "right"), Column("LONGEST", "right", gives_way=2),
        Column("BESIDE", "right", gives_way=1), Column("WHAT", flexible=True, least=20),
    )  # fmt: skip
    aside = (
        "the critical path: what runs beside it is under BESIDE" if any(row[4] for row in cells) else "critical path"
    )
    return [f"{bold(title, look.color)} ({aside})", *_table(columns, cells[: look.rows] + rest, look)]


def startup_remark(row: Share, early: dict[int, int]) -> str:
    """`991ms of it start-up` for an agent that `startup_times` names; "" for anything else."""
    return f"{format_duration(early[row.pid])} of it start-up" if row.kind == "agent" and row.pid in early else ""


def _beside(row: Share) -> str:
    hidden = row.self_time - row.critical
    return format_duration(hidden) if hidden > 0 and hidden * 100 > row.self_time else ""


def startup_times(subject: Subject) -> dict[int, int]:
    """How long agents worked before their first call (ns), where that is much of their time: imports, mostly."""
    found: dict[int, int] = {}
    first: dict[int, int] = {}
    for span in subject.recorded.spans:
        if span.kind != "agent":
            first[span.pid] = min(first.get(span.pid, span.start_time_ns), span.start_time_ns)
    for process in subject.recorded.processes:
        agent = process.agent
        early = first.get(agent.pid, agent.start_time_ns) - agent.start_time_ns
        if early * 10 > agent.duration > 0:
            found[agent.pid] = early
    return found


def _path(report: TraceReport, look: Look) -> list[str]:
    """The critical path in the order of time, neighbours of one name as one line."""
    result = report.result
    start = result.critical_segments[0].start_ns if result.critical_segments else 0
    cells: list[list[str]] = []
    for part in result.critical_segments:
        name = share_name(Share(part.span.kind, part.span.name))
        cells.append(
            [
                f"+{format_duration(part.start_ns - start)}",
                format_duration(part.duration),
                _share(part.duration, result.critical_duration),
                "proven" if part.proven else "",
                name,
            ]
        )
    least = sorted((part.duration for part in result.critical_segments), reverse=True)[: look.rows * 2]
    floor = least[-1] if least else 0
    kept = [row for row, part in zip(cells, result.critical_segments, strict=True) if part.duration >= floor]
    columns = (
        Column("AT", "right"), Column("TIME", "right"), Column("SHARE", "right"), Column("ORDER", gives_way=1),
        Column("WHAT", flexible=True, least=20),
    )  # fmt: skip
    hidden = len(cells) - len(kept)
    more = [f"… and {amounts.counted(hidden, 'shorter part')}"] if hidden else []
    return [
        f"{bold('The critical path, in order', look.color)} (proven: it used the result of the call before)",
        *_table(columns, kept, look),
        *more,
    ]


# --- tokens and cost -------------------------------------------------------------------------------------------------


def _tokens(report: TraceReport, look: Look) -> list[str]:
    shares = sorted(report.shares(look.group), key=lambda row: (-row.tokens, row.name))
    total = report.result.summary.total_tokens
    if not total:
        return ["No tokens are known."]
    cells = [
        [_share(row.tokens, total), f"{row.tokens:,}", str(row.calls or ""), share_name(row)]
        for row in shares
        if row.tokens
    ]
    rest = _folded(shares, look.rows, lambda row: row.tokens, total, lambda n: f"{n:,}", blanks=1)
    columns = (
        *_PARTS, Column("TOKENS", "right"), Column("CALLS", "right"), Column("WHAT", flexible=True, least=20)
    )  # fmt: skip
    lines = [bold(f"Who used the {total:,} tokens", look.color), *_table(columns, cells[: look.rows] + rest, look)]
    carried = report.carried
    if carried is not None and carried.input_tokens:
        lines += ["", *_sent(carried, look)]
    return lines


def _sent(carried: CarriedCost, look: Look) -> list[str]:
    """What the input of all calls was made of."""
    grouped = cost_rows(carried)
    grouped.sort(key=lambda row: (-row.tokens, row.name))
    total = carried.input_tokens
    cells = [
        [_share(row.tokens, total), f"{row.tokens:,.0f}", f"{row.size:,.0f}", f"×{row.sends}", row.name]
        for row in grouped
        if row.tokens and row.sends
    ]
    hidden = cells[look.rows :]
    if len(hidden) > 1:
        amount = sum(row.tokens for row in [one for one in grouped if one.tokens and one.sends][look.rows :])
        cells[look.rows :] = [[_share(amount, total), f"{amount:,.0f}", "", "", f"{len(hidden)} others"]]
    columns = (
        *_PARTS, Column("SENT", "right"), Column("SIZE", "right"), Column("TIMES", "right"),
        Column("WHAT", flexible=True, least=20),
    )  # fmt: skip
    title = f"What the {total:,} tokens of input were (by estimate; each call's parts sum to its own count)"
    return [bold(title, look.color), *_table(columns, cells, look)]


class CostRow:
    """A line of the table of costs: equal producers added up."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.usd = self.first = self.tokens = self.size = 0.0
        self.sends = 0


def cost_rows(carried: CarriedCost) -> list[CostRow]:
    """What was paid, by what it was paid for: the results of each tool, answers, prompts. Sums to the run's cost."""
    rows: dict[tuple[str, str], CostRow] = {}
    words = {"tool": "results of {}", "model": "turns of {}, sent again"}
    for entry in carried.entries:
        producer = entry.producer
        label = words.get(producer.kind, "{}").format(show_text(producer.name, _NAME))
        row = rows.setdefault((producer.kind, producer.name), CostRow(label))
        row.usd += entry.cost_usd or 0.0
        row.first += entry.first_usd or 0.0
        row.tokens += entry.sent_tokens
        row.size += entry.tokens
        row.sends += entry.sends
    found = list(rows.values())
    if carried.output_usd:
        answers = CostRow("answers of models")
        answers.usd = answers.first = carried.output_usd
        found.append(answers)
    if carried.unread_tokens:
        unread = CostRow("input that cannot be read")
        unread.usd = unread.first = carried.unread_usd
        unread.tokens = unread.size = carried.unread_tokens
        unread.sends = 1
        found.append(unread)
    return sorted(found, key=lambda row: (-row.usd, -row.tokens, row.name))


def _cost(report: TraceReport, look: Look) -> list[str]:
    total = report.result.summary.total_cost_usd
    if total is None:
        return []
    carried = report.carried
    lines = []
    if carried is not None and carried.input_usd is not None:
        lines = _cost_by_producer(carried, total, look)
    if not lines or look.group != "call":
        shares = [row for row in report.shares(look.group) if row.cost_usd]
        shares.sort(key=lambda row: (-(row.cost_usd or 0.0), row.name))
        cells = [
            [_share(row.cost_usd or 0.0, total), amounts.cost(row.cost_usd), str(row.calls or ""), share_name(row)]
            for row in shares
        ]
        rest = _folded(shares, look.rows, lambda row: row.cost_usd or 0.0, total, amounts.cost, blanks=1)
        columns = (
            *_PARTS, Column("COST", "right"), Column("CALLS", "right"), Column("WHAT", flexible=True, least=20)
        )  # fmt: skip
        title = bold(f"Whose calls cost {amounts.cost(total)}", look.color)
        lines += ([""] if lines else []) + [title, *_table(columns, cells[: look.rows] + rest, look)]
    unpriced: list[str] = []
    if any(row.unpriced for row in report.shares("call")):
        unpriced = sorted({row.name for row in report.shares("model") if row.unpriced})
    if unpriced:
        lines.append(
            f"Not in it: {', '.join(show_text(name) for name in unpriced)}, whose price is not known "
            "(add it to prices.toml)"
        )
    return lines


def _cost_by_producer(carried: CarriedCost, total: float, look: Look) -> list[str]:
    grouped = cost_rows(carried)
    priced = [row for row in grouped if row.usd]
    cells = [
        [
            _share(row.usd, total),
            amounts.cost(row.usd),
            amounts.cost(row.usd - row.first) if row.usd - row.first > total / 10_000 else "",
            f"{row.size:,.0f}" if row.size else "",
            f"×{row.sends}" if row.sends else "",
            row.name,
        ]
        for row in priced
    ]
    if len(cells) > look.rows + 1:
        hidden = priced[look.rows :]
        amount, again = sum(row.usd for row in hidden), sum(row.usd - row.first for row in hidden)
        cells[look.rows:] = [[
            _share(amount, total), amounts.cost(amount), amounts.cost(again), "", "", f"{len(hidden)} others"
        ]]  # fmt: skip
    columns = (
        *_PARTS, Column("COST", "right"), Column("CARRIED", "right"), Column("TOKENS", "right", gives_way=1),
        Column("SENT", "right", gives_way=2), Column("WHAT", flexible=True, least=20),
    )  # fmt: skip
    title = bold(f"What the {amounts.cost(total)} paid for", look.color)
    return [f"{title} (CARRIED: for sending it again)", *_table(columns, cells, look)]


# --- parts -----------------------------------------------------------------------------------------------------------


def share_name(row: Share) -> str:
    """`tool search`, `model gpt-5`, `own code of demo`."""
    name = show_text(row.name, _NAME)
    if row.kind == "step" and row.pid:
        return f"{name} of PID {row.pid}"
    return f"{_WORDS.get(row.kind, row.kind)} {name}".strip()


def _share(part: float, whole: float) -> str:
    return f"{part / whole * 100:.1f}%" if whole else ""


def _folded(
    shares: Sequence[Share], rows: int, value: Callable[[Share], float], total: float,
    shown: Callable[[int], str] | Callable[[float], str], *, blanks: int,
) -> list[list[str]]:  # fmt: skip
    """The line that sums up the rows that are not shown, so that the shares sum to 100 %."""
    hidden = [row for row in shares if value(row)][rows:]
    if not hidden:
        return []
    amount = sum(value(row) for row in hidden)
    text = shown(amount)  # type: ignore[arg-type]  # durations and tokens are whole numbers
    return [[_share(amount, total), text, *[""] * blanks, amounts.counted(len(hidden), "other")]]


def _table(columns: Sequence[Column], cells: Sequence[Sequence[str]], look: Look) -> list[str]:
    """An indented table; columns in which nothing stands are left out."""
    used = [index for index, column in enumerate(columns) if any(row[index] for row in cells)]
    if not cells:
        return ["  nothing"]
    text = format_table(
        [columns[index] for index in used],
        [[row[index] for index in used] for row in cells],
        look.width - 2 if look.width is not None else None,
        color=look.color,
    )
    return [f"  {line}" for line in text.splitlines()]


def _remarks(subject: Subject) -> list[str]:
    lines = [f"Note: {show_text(note)}" for note in subject.tree.notes]
    lines += [f"Note: left out: {show_text(one)}" for one in subject.skipped]
    carried = subject.carried
    if carried is not None and carried.unread_tokens:
        lines.append(
            f"Note: the messages of calls with {carried.unread_tokens:,} tokens of input are not in the recording."
        )
    return lines
