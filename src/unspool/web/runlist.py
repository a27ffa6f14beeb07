"""The list of runs: which runs fit what is asked for, in which order, and how each is shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from unspool.cli import amounts
from unspool.cli.history import Node
from unspool.cli.ls import state_text
from unspool.durations import format_duration
from unspool.events import RecordMetadata, RecordStatus
from unspool.recording.address import is_fork
from unspool.text import show_text
from unspool.web.render import short
from unspool.web.runquery import SORTS, STATES, TIMES, Query
from unspool.web.shelf import Listing, Shelf, Summary

__all__ = ["PAGE", "Query", "RunRow", "RunsPage", "list_runs"]

PAGE: Final = 100  # rows of a page
_AROUND: Final = 60  # characters shown on each side of what was found
_CHOICES_MAX: Final = 500  # models or tools to choose from


@dataclass
class RunRow:
    """A run in the list. `depth` counts the runs it was forked from, one from the other.

    Attributes:
        found: what stands around the text that was looked for; `found_in` and `found_at` are the recording and the
            event it is in, "" and 0 where it is the id, the intent or the command.
    """

    record_id: str
    depth: int
    state: str
    is_live: bool
    intent: str
    command: list[str]
    age_s: float | None
    age: str
    duration: str
    models: list[str]
    steps: int
    calls: int
    tokens: str
    cost: str
    cost_usd: float | None
    errors: int
    lost: int
    processes: int
    came_from: str
    edits: list[str]
    found: str = ""
    found_in: str = ""
    found_at: int = 0


@dataclass
class RunsPage:
    """One page of the list, and what can be chosen from.

    Attributes:
        total: runs that fit, of those that are known.
        recordings: how many there are in the store: a run has one for each of its processes.
        unread: recordings that are still being read, and are missing or as they were before.
        unsearched: recordings whose texts could not be searched yet.
        uncached: why what is read now has to be read again by the next server; "" if it has not.
    """

    query: Query
    rows: list[RunRow]
    total: int
    pages: int
    models: list[str] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)
    states: tuple[str, ...] = STATES
    sorts: tuple[str, ...] = SORTS
    times: tuple[str, ...] = TIMES
    store: str = ""
    live: int = 0
    recordings: int = 0
    unread: int = 0
    unsearched: int = 0
    uncached: str = ""


def list_runs(shelf: Shelf, query: Query) -> RunsPage:
    """The runs that fit, a page of them."""
    listing = shelf.listing(query.text)
    every = list(_with_depth(listing.top))
    live = sum(node.run.is_running for node, _ in every)
    if query.sort or query.is_narrow:
        every = [(node, 0) for node in _by_age([node for node, _ in every])]
        every = list(_fitting(shelf, listing, query, [node for node, _ in every]))
    if query.sort and query.sort != "age":
        amounts_of = {
            node.root.record_id: _amount(node, summary, query.sort)
            for (node, _), summary in zip(every, shelf.summaries(node for node, _ in every), strict=True)
        }
        every.sort(key=lambda item: -amounts_of[item[0].root.record_id])
    pages = max(-(-len(every) // PAGE), 1)
    query = replace(query, page=min(query.page, pages))
    first = (query.page - 1) * PAGE
    shown = every[first : first + PAGE]
    summaries = shelf.summaries(node for node, _ in shown)
    rows = [_row(node, depth, summary) for (node, depth), summary in zip(shown, summaries, strict=True)]
    for row, (node, _) in zip(rows, shown, strict=True):
        _say_where(shelf, listing, query, row, node)
    return RunsPage(
        query=query,
        rows=rows,
        total=len(every),
        pages=pages,
        models=_choices(listing.models, query.model),
        tools=_choices(listing.tools, query.tool),
        store=str(shelf.store.path),
        live=live,
        recordings=listing.recordings,
        unread=listing.unread,
        unsearched=listing.unsearched,
        uncached=shelf.catalog.database.why_private,
    )


def _choices(names: list[str], chosen: str) -> list[str]:
    found = names[:_CHOICES_MAX]
    return found if not chosen or chosen in found else [*found, chosen]


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


# --- which runs fit --------------------------------------------------------------------------------------------------


def _fitting(shelf: Shelf, listing: Listing, query: Query, nodes: list[Node]) -> Iterator[tuple[Node, int]]:
    first, last = query.first, query.last
    nodes = [
        node
        for node in nodes
        if (not query.state or _has_state(node, query.state))
        and (first is None or (node.root.start_time is not None and node.root.start_time >= first))
        and (last is None or (node.root.start_time is not None and node.root.start_time < last))
    ]
    if listing.found is not None:
        texts, wanted = listing.found.texts, query.text.casefold()
        nodes = [
            node
            for node in nodes
            if any(one.record_id in texts for one in node.run.records) or _mentioned(node, wanted) is not None
        ]
    if query.model or query.tool or query.errors or query.asks_for_cost:
        summaries = shelf.summaries(nodes)
        nodes = [node for node, summary in zip(nodes, summaries, strict=True) if _uses(summary, query)]
    yield from ((node, 0) for node in nodes)


def _has_state(node: Node, state: str) -> bool:
    root = node.root
    if state == "running":
        return node.run.is_running
    if state == "failed":
        return bool(root.exit_code)
    return str(root.status) == state and not root.exit_code


def _uses(summary: Summary, query: Query) -> bool:
    cost = summary.totals.cost
    return (
        (not query.model or query.model in summary.models)
        and (not query.tool or query.tool in summary.tools)
        and (not query.errors or summary.totals.errors > 0)
        and (query.least is None or (cost is not None and cost >= query.least))
        # A sum that lacks some calls may be higher than it says.
        and (query.most is None or (cost is not None and not summary.totals.cost_unknown and cost <= query.most))
    )


def _mentioned(node: Node, wanted: str) -> str | None:
    for one in node.run.records:
        for what in (one.record_id, one.intent, " ".join(one.command or [])):
            if wanted in what.casefold():
                return what
    return None


def _say_where(shelf: Shelf, listing: Listing, query: Query, row: RunRow, node: Node) -> None:
    """Fill in where the text that was looked for stands: in a message if it can, which says most."""
    found = listing.found
    if found is None:
        return
    name = next((one.record_id for one in node.run.records if one.record_id in found.texts), None)
    if name is not None:
        at, text = shelf.indexer.words.place(found, name, _AROUND)
        row.found, row.found_in, row.found_at = show_text(" ".join(text.split())), name, at
    if not row.found:
        row.found = show_text(_mentioned(node, query.text.casefold()) or "", 2 * _AROUND)


# --- how a run is shown ----------------------------------------------------------------------------------------------


def _amount(node: Node, summary: Summary, sort: str) -> float:
    totals = summary.totals
    if sort == "duration":
        value = _seconds(node.root)
    else:
        value = {"steps": totals.steps, "tokens": totals.tokens, "cost": totals.cost, "errors": totals.errors}[sort]
    return -1.0 if value is None else float(value)


def _seconds(root: RecordMetadata) -> float | None:
    """How long a run took, until now if it goes on; None if that is not known."""
    if root.end_time is None and root.status is not RecordStatus.RECORDING:
        return None
    return amounts.seconds_since(root.start_time, root.end_time)


def _row(node: Node, depth: int, summary: Summary) -> RunRow:
    root = node.root
    totals = summary.totals
    seconds, took = amounts.seconds_since(root.start_time), _seconds(root)
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
        intent=short(root.intent, 300),
        command=root.command or [],
        age_s=seconds,
        age=amounts.age(seconds),
        duration=amounts.UNKNOWN if took is None else format_duration(int(took * 1e9)),
        models=summary.models,
        steps=totals.steps,
        calls=totals.calls,
        tokens=amounts.tokens(totals.tokens, more=totals.tokens_unknown > 0),
        cost=amounts.cost(totals.cost, more=totals.cost_unknown > 0),
        cost_usd=totals.cost,
        errors=totals.errors,
        lost=totals.lost,
        processes=len(node.run.records),
        came_from=came_from,
        edits=node.edits,
    )
