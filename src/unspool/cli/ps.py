"""`unspool ps`: agents that are running, as a tree."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import click

from unspool.cli import amounts
from unspool.cli.activity import Activity, activity_of
from unspool.cli.listing import Totals
from unspool.cli.options import Command, json_option, store_option
from unspool.cli.table import Column, format_table
from unspool.cli.terminal import hint, put, use_color, width
from unspool.errors import CorruptRecording
from unspool.events import RecordMetadata, RecordStatus
from unspool.recording.address import is_root, newest_first
from unspool.recording.manager import RecordManager
from unspool.store import Store, find_store, writer_is_alive
from unspool.text import dump_json, show_text

__all__ = ["ps"]

_COLUMNS = (
    Column("PID"),
    Column("OS PID", "right", gives_way=3),
    Column("STATE"),
    Column("AGE", "right"),
    Column("STEPS", "right", gives_way=2),
    Column("TOKENS", "right", gives_way=1),
    Column("COST", "right", gives_way=4),
    Column("DOING", flexible=True, least=16),
    Column("INTENT", flexible=True, least=12),
)


@click.command(cls=Command)
@click.option("--all", "-a", "everything", is_flag=True, help="Those that have ended too.")
@store_option
@json_option
def ps(everything: bool, store: str | None, as_json: bool) -> None:
    """Show the agents that are running.

    A tree: sub-agents and the processes an agent started are below it. DOING is what was begun last and has not ended;
    +N says how many more are in flight. Times are seconds, minutes, hours.

    \b
        unspool ps
        unspool ps --all --json
    """
    place = find_store(store)
    records = list(newest_first(place)) if everything else _running(place)
    rows = [(depth, last, metadata, _look_at(place, metadata)) for depth, last, metadata in _tree(records)]
    if as_json:
        put(dump_json([_json(metadata, activity) for _, _, metadata, activity in rows]))
    elif rows:
        put(format_table(_COLUMNS, [_cells(*row) for row in rows], width(), color=use_color()))
    else:
        hint(f"No agent is running in {place.path}. What was recorded: unspool ls")


def _running(store: Store) -> list[RecordMetadata]:
    """Recordings with a live writer. Asking for the lock is much cheaper than reading what has ended."""
    try:
        names = os.listdir(store.records)
    except FileNotFoundError:
        return []
    manager = RecordManager(store.records)
    found = [manager.describe(store.records / name) for name in names if writer_is_alive(store.records / name)]
    return [one for one in found if one is not None and one.status is RecordStatus.RECORDING]


@dataclass
class _Node:
    metadata: RecordMetadata
    children: list[_Node]


def _tree(records: Iterable[RecordMetadata]) -> Iterator[tuple[tuple[bool, ...], bool, RecordMetadata]]:
    """Recordings in order of PID, children under parents, each with how to draw its branch: which of its ancestors have
    siblings below them, and whether it is the last of its parent's."""
    nodes = {one.record_id: _Node(one, []) for one in sorted(records, key=lambda one: one.pid)}
    roots = []
    for node in nodes.values():
        parent = None if is_root(node.metadata) else nodes.get(node.metadata.parent or "")
        # A parent has the lower number; a damaged file may say otherwise and must not close a circle.
        if parent is None or parent.metadata.pid >= node.metadata.pid:
            roots.append(node)
        else:
            parent.children.append(node)
    stack: list[tuple[tuple[bool, ...], bool, _Node]] = [((), True, root) for root in reversed(roots)]
    while stack:
        above, is_last, node = stack.pop()
        yield above, is_last, node.metadata
        below = (*above, not is_last)
        children = [(below, index == len(node.children) - 1, child) for index, child in enumerate(node.children)]
        stack.extend(reversed(children))


def _look_at(store: Store, metadata: RecordMetadata) -> Activity:
    try:
        return activity_of(store, metadata, amounts.seconds_since(metadata.start_time))
    except CorruptRecording:  # removed between the two looks
        return Activity("?", Totals(tokens=None, cost=None), [])


def _cells(above: tuple[bool, ...], is_last: bool, metadata: RecordMetadata, activity: Activity) -> list[str]:
    branch = ""
    if above:
        branch = "".join("│ " if more else "  " for more in above[1:]) + ("└─" if is_last else "├─")
    totals = activity.totals
    return [
        f"{branch}{metadata.pid}",
        amounts.count(metadata.os_pid),
        activity.state,
        amounts.age(amounts.seconds_since(metadata.start_time, metadata.end_time)),
        str(totals.steps),
        amounts.tokens(totals.tokens, more=totals.tokens_unknown > 0),
        amounts.cost(totals.cost, more=totals.cost_unknown > 0),
        _doing(activity),
        show_text(metadata.intent, 200),
    ]


def _doing(activity: Activity) -> str:
    if not activity.doing:
        return "-"
    first = activity.doing[0]
    text = show_text(first.what, 60)
    if first.since_s is not None:
        text += f" {amounts.age(first.since_s)}"
    return text + (f" +{len(activity.doing) - 1}" if len(activity.doing) > 1 else "")


def _json(metadata: RecordMetadata, activity: Activity) -> dict[str, Any]:
    return {
        "pid": metadata.pid,
        "record_id": metadata.record_id,
        "parent_pid": metadata.parent_pid,
        "parent": metadata.parent,
        "os_pid": metadata.os_pid,
        "role": metadata.role,
        "state": activity.state,
        "status": metadata.status,
        "intent": metadata.intent,
        "start_time": metadata.start_time,
        "age_s": amounts.seconds_since(metadata.start_time, metadata.end_time),
        "doing": [asdict(one) for one in activity.doing],
        **activity.totals.to_dict(),
    }
