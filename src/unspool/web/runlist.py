"""The list of runs: what is asked for, which runs fit, in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from unspool.cli import amounts
from unspool.cli.history import Node
from unspool.cli.ls import state_text
from unspool.events import RecordStatus
from unspool.recording.address import is_fork
from unspool.text import cut
from unspool.web.search import Needle
from unspool.web.shelf import Shelf, Summary

__all__ = ["PAGE", "Query", "RunRow", "RunsPage", "list_runs"]

PAGE: Final = 100  # rows of a page
SORTS: Final = ("age", "steps", "tokens", "cost", "errors")
STATES: Final = ("running", "completed", "failed", "stopped", "interrupted")


@dataclass
class Query:
    """What the list is asked for: each field narrows it, empty ones do not. `sort` "" keeps forks under their runs."""

    text: str = ""
    state: str = ""
    model: str = ""
    tool: str = ""
    errors: bool = False
    sort: str = ""
    page: int = 1

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Query:
        """From the address of the page; what makes no sense is left out."""
        page = given.get("page", "1")
        sort = given.get("sort", "")
        state = given.get("state", "")
        return cls(
            text=given.get("q", "").strip(),
            state=state if state in STATES else "",
            model=given.get("model", ""),
            tool=given.get("tool", ""),
            errors=given.get("errors", "") not in ("", "0"),
            sort=sort if sort in SORTS else "",
            page=max(int(page), 1) if page.isascii() and page.isdigit() and len(page) < 8 else 1,
        )

    @property
    def is_narrow(self) -> bool:
        """Whether it leaves any run out."""
        return bool(self.text or self.state or self.model or self.tool or self.errors)

    def query(self, **change: Any) -> dict[str, Any]:
        """The fields of an address, with some changed."""
        now = {
            "q": self.text, "state": self.state, "model": self.model, "tool": self.tool,
            "errors": "1" if self.errors else "", "sort": self.sort,
        }  # fmt: skip
        return {name: value for name, value in {**now, **change}.items() if value not in ("", None)}


@dataclass
class RunRow:
    """A run in the list. `depth` counts the runs it was forked from, one from the other."""

    record_id: str
    depth: int
    state: str
    is_live: bool
    intent: str
    command: list[str]
    age_s: float | None
    age: str
    models: list[str]
    steps: int
    calls: int
    tokens: str
    cost: str
    errors: int
    lost: int
    processes: int
    came_from: str
    edits: list[str]
    found: str = ""


@dataclass
class RunsPage:
    """One page of the list, and what can be chosen from."""

    query: Query
    rows: list[RunRow]
    total: int
    pages: int
    models: list[str] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)
    states: tuple[str, ...] = STATES
    store: str = ""
    live: int = 0


def list_runs(shelf: Shelf, query: Query) -> RunsPage:
    """The runs that fit, a page of them.

    Only the runs of the page are read, unless what is asked for is in the recordings themselves.
    """
    every = list(_with_depth(shelf.history()))
    if query.sort or query.is_narrow:
        every = [(node, 0) for node in _by_age([node for node, _ in every])]
    needle = Needle(query.text) if query.text else None
    needs_sums = bool(query.model or query.tool or query.errors or query.sort not in ("", "age"))
    fitting: list[tuple[Node, int, str]] = []
    for node, depth in every:
        if query.state and not _has_state(node, query.state):
            continue
        if needs_sums and not _uses(shelf.summary(node.run.records), query):
            continue
        found = ""
        if needle is not None:
            hit = _mentioned(node, query.text) or next(
                (hit for one in node.run.records if (hit := needle.find(shelf.store.records / one.record_id))), None
            )
            if hit is None:
                continue
            found = hit
        fitting.append((node, depth, found))
    if query.sort and query.sort != "age":
        fitting.sort(key=lambda item: -_amount(shelf.summary(item[0].run.records), query.sort))
    first = (query.page - 1) * PAGE
    rows = [_row(shelf, *item) for item in fitting[first : first + PAGE]]
    models = sorted({model for row in rows for model in row.models} | ({query.model} if query.model else set()))
    shown = [shelf.summary(item[0].run.records) for item in fitting[first : first + PAGE]]
    tools = sorted({tool for one in shown for tool in one.tools} | ({query.tool} if query.tool else set()))
    return RunsPage(
        query=query,
        rows=rows,
        total=len(fitting),
        pages=max(-(-len(fitting) // PAGE), 1),
        models=models,
        tools=tools,
        store=str(shelf.store.path),
        live=sum(node.run.is_running for node, _ in every),
    )


def _with_depth(top: list[Node]) -> Iterator[tuple[Node, int]]:
    """All runs, what came from a run under it."""
    waiting = [(node, 0) for node in reversed(top)]
    while waiting:
        node, depth = waiting.pop()
        yield node, depth
        waiting += [(child, depth + 1) for child in reversed(node.children)]


def _by_age(nodes: list[Node]) -> list[Node]:
    def began(node: Node) -> tuple[float, int]:
        start = node.root.start_time
        return (0.0 if start is None else start.timestamp()), node.root.pid

    return sorted(nodes, key=began, reverse=True)


def _has_state(node: Node, state: str) -> bool:
    root = node.root
    if state == "running":
        return node.run.is_running
    if state == "failed":
        return bool(root.exit_code)
    return str(root.status) == state and not root.exit_code


def _uses(summary: Summary, query: Query) -> bool:
    return (
        (not query.model or query.model in summary.models)
        and (not query.tool or query.tool in summary.tools)
        and (not query.errors or summary.totals.errors > 0)
    )


def _mentioned(node: Node, text: str) -> str | None:
    wanted = text.casefold()
    for one in node.run.records:
        for what in (one.record_id, one.intent, " ".join(one.command or [])):
            if wanted in what.casefold():
                return what
    return None


def _amount(summary: Summary, sort: str) -> float:
    totals = summary.totals
    value = {"steps": totals.steps, "tokens": totals.tokens, "cost": totals.cost, "errors": totals.errors}[sort]
    return -1.0 if value is None else float(value)


def _row(shelf: Shelf, node: Node, depth: int, found: str) -> RunRow:
    root, summary = node.root, shelf.summary(node.run.records)
    totals = summary.totals
    seconds = amounts.seconds_since(root.start_time)
    came_from = ""
    if node.origin is not None:
        verb = "fork" if is_fork(root) else "rerun"
        at = f" at event {root.forked_at}" if root.forked_at is not None else ""
        came_from = f"{verb} of {node.origin}{at}"
    return RunRow(
        record_id=root.record_id,
        depth=depth,
        state="running" if node.run.is_running else state_text(root),
        is_live=any(one.status is RecordStatus.RECORDING for one in node.run.records),
        intent=cut(root.intent, 300),
        command=root.command or [],
        age_s=seconds,
        age=amounts.age(seconds),
        models=summary.models,
        steps=totals.steps,
        calls=totals.calls,
        tokens=amounts.tokens(totals.tokens, more=totals.tokens_unknown > 0),
        cost=amounts.cost(totals.cost, more=totals.cost_unknown > 0),
        errors=totals.errors,
        lost=totals.lost,
        processes=len(node.run.records),
        came_from=came_from,
        edits=node.edits,
        found=found,
    )
