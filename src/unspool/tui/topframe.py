"""The table of `top` as text: cells, sorting, filtering. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from unspool.cli import amounts
from unspool.cli.table import Column, format_table
from unspool.context import AlertLevel
from unspool.text import show_text
from unspool.tui.agents import Agent, Row
from unspool.tui.fill import bar

__all__ = ["SORTS", "described", "frame", "in_order", "matching", "summary"]

_COLUMNS: Final = (
    Column("AGENT"),
    Column("STATE"),
    Column("TIME", "right", gives_way=5),
    Column("MODEL", flexible=True, least=8, gives_way=6),
    Column("STEP", "right", gives_way=2),
    Column("DOING", flexible=True, least=14),
    Column("CONTEXT"),
    Column("STEPS LEFT", gives_way=3),
    Column("TOK/MIN", "right", gives_way=4),
    Column("$/MIN", "right", gives_way=8),
    Column("TOKENS", "right", gives_way=7),
    Column("COST", "right", gives_way=1),
    Column("ERR", "right"),
    Column("INTENT", flexible=True, least=8, gives_way=9),
)
_BAR_CELLS: Final = 6


def _time(agent: Agent) -> float:
    return amounts.seconds_since(agent.metadata.start_time, agent.metadata.end_time) or 0.0


SORTS: Final[dict[str, Callable[[Agent], Any]]] = {
    "tree": lambda agent: 0,
    "time": _time,
    "tokens": lambda agent: agent.activity.totals.tokens or 0,
    "cost": lambda agent: agent.activity.totals.cost or 0.0,
    "tok/min": lambda agent: agent.tokens_minute or 0.0,
    "context": lambda agent: agent.growth.usage_pct,
    "errors": lambda agent: agent.activity.totals.errors,
}
"""What can be sorted by; all but the tree order the largest first, and draw no branches."""


def in_order(rows: Sequence[Row], sort: str) -> list[Row]:
    """The rows, sorted."""
    if sort == "tree":
        return list(rows)
    return [Row(row.agent, (), True) for row in sorted(rows, key=lambda row: SORTS[sort](row.agent), reverse=True)]


def matching(rows: Sequence[Row], wanted: str) -> list[Row]:
    """Those that mention a text, in any case: in id, state, model, intent, or what they do."""
    text = wanted.casefold()
    return [row for row in rows if not text or any(text in said.casefold() for said in _said(row.agent))]


def _said(agent: Agent) -> list[str]:
    doing = [one.what for one in agent.activity.doing]
    return [agent.metadata.record_id, agent.metadata.intent, agent.model, agent.state, *doing]


def summary(rows: Sequence[Row]) -> str:
    """One line on all of them."""
    agents = [row.agent for row in rows]
    running = [agent for agent in agents if agent.is_running]
    paused = sum(agent.paused for agent in running)
    errors = sum(agent.activity.totals.errors for agent in agents)
    tokens = sum(agent.tokens_minute or 0.0 for agent in running)
    cost = sum(agent.cost_minute or 0.0 for agent in running)
    less_tokens = any(agent.activity.totals.tokens_unknown for agent in running)
    less_cost = any(agent.activity.totals.cost_unknown for agent in running)
    parts = [
        f"{len(running)} running" + (f" ({paused} paused)" if paused else ""),
        f"{len(agents) - len(running)} ended",
    ]
    parts += [
        f"{amounts.tokens(round(tokens), more=less_tokens)} tok/min",
        f"{amounts.cost(cost, more=less_cost)}/min",
        amounts.counted(errors, "error"),
    ]
    return ", ".join(parts)


def described(agent: Agent) -> tuple[str, str]:
    """Two lines on one agent: what it came to and who it is; how full its context is and what it does."""
    metadata, totals = agent.metadata, agent.activity.totals
    age = amounts.age(amounts.seconds_since(metadata.start_time, metadata.end_time))
    who = [
        show_text(agent.model, 40),
        f"{show_text(agent.state, 20)} {'for' if agent.is_running and not agent.paused else 'after'} {age}",
        f"{amounts.tokens(totals.tokens, more=totals.tokens_unknown > 0)} tokens",
        amounts.cost(totals.cost, more=totals.cost_unknown > 0),
        show_text(metadata.record_id),
        show_text(metadata.intent, 60),
    ]
    now = [_fullness(agent)]
    if agent.is_running:
        tokens, cost = _per_minute(agent)
        now += [f"{tokens} tok/min", f"{cost}/min"]
        doing = [
            show_text(one.what, 60) + (f" {amounts.age(one.since_s)}" if one.since_s is not None else "")
            for one in agent.activity.doing
        ]
        now.append(f"doing: {', '.join(doing) or 'nothing that is recorded'}")
    return " · ".join(filter(None, who)), " · ".join(now)


def _fullness(agent: Agent) -> str:
    growth = agent.growth
    if not growth.tokens_used:
        return "context: no model call has been answered"
    used = f"context {amounts.tokens(growth.tokens_used)} tokens"
    if not growth.context_budget:
        return f"{used}, the model's window is unknown"
    used = f"{used} of {amounts.tokens(growth.context_budget)}"
    if not agent.is_running:
        return used
    if not growth.est_remaining:
        return f"{used}, no forecast{f': {show_text(growth.note, 80)}' if growth.note else ''}"
    left = f"full in about {_steps(growth.est_remaining)} steps"
    left += f" ({_steps(growth.est_low)} to {_steps(growth.est_high)})"
    return f"{used}, {left}" + (f", {amounts.age(growth.est_remaining_ms / 1000)}" if growth.est_remaining_ms else "")


def _per_minute(agent: Agent) -> tuple[str, str]:
    """Tokens and cost; `-` for one that has ended."""
    if not agent.is_running:
        return "-", "-"
    totals = agent.activity.totals
    tokens = None if agent.tokens_minute is None else round(agent.tokens_minute)
    return (
        amounts.tokens(tokens, more=totals.tokens_unknown > 0),
        amounts.cost(agent.cost_minute, more=totals.cost_unknown > 0),
    )


def frame(rows: Sequence[Row], width: int | None, *, color: bool = False) -> str:
    """The table with its header; columns that do not fit give way."""
    return format_table(_COLUMNS, [_cells(row) for row in rows], width, color=color)


def _cells(row: Row) -> list[str]:
    agent = row.agent
    metadata, totals = agent.metadata, agent.activity.totals
    branch = ""
    if row.above:
        branch = "".join("│ " if more else "  " for more in row.above[1:]) + ("└─" if row.is_last else "├─")
    unknown = totals.tokens_unknown > 0
    return [
        f"{branch}{metadata.pid}",
        show_text(agent.state, 12),
        amounts.age(amounts.seconds_since(metadata.start_time, metadata.end_time)),
        show_text(agent.model, 40),
        str(totals.steps),
        _doing(agent),
        _context(agent),
        _forecast(agent),
        *_per_minute(agent),
        amounts.tokens(totals.tokens, more=unknown),
        amounts.cost(totals.cost, more=totals.cost_unknown > 0),
        str(totals.errors),
        show_text(metadata.intent, 200),
    ]


def _doing(agent: Agent) -> str:
    doing = agent.activity.doing
    if not doing:
        return "-"
    text = show_text(doing[0].what, 60)
    if doing[0].since_s is not None:
        text += f" {amounts.age(doing[0].since_s)}"
    return text + (f" +{len(doing) - 1}" if len(doing) > 1 else "")


def _context(agent: Agent) -> str:
    growth = agent.growth
    if not growth.tokens_used:
        return "-"
    if not growth.context_budget:
        return f"{amounts.tokens(growth.tokens_used)} of ?"
    mark = {AlertLevel.WARNING: " !", AlertLevel.CRITICAL: " !!"}.get(growth.alert_level, "")
    return bar(growth.tokens_used, growth.context_budget, _BAR_CELLS) + mark


def _forecast(agent: Agent) -> str:
    growth = agent.growth
    if not agent.is_running or not growth.est_remaining:
        return "-"
    low, high = _steps(growth.est_low), _steps(growth.est_high)
    return f"~{_steps(growth.est_remaining)} ({low}–{high})"


def _steps(count: int) -> str:
    return f"{count}" if count < 1000 else ">999"
