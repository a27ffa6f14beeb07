"""`unspool ls`: recordings, newest first."""

from __future__ import annotations

from itertools import islice
from typing import Any

import click

from unspool.cli import amounts
from unspool.cli.listing import Totals, tally
from unspool.cli.options import Command, json_option, store_option
from unspool.cli.runs import Row, fold_workers
from unspool.cli.table import Column, format_table
from unspool.cli.terminal import hint, put, use_color, width
from unspool.events import RecordMetadata, RecordStatus
from unspool.recording.address import newest_first
from unspool.store import Store, find_store
from unspool.text import dump_json, show_text

__all__ = ["ls", "row_json", "state_text"]

_COLUMNS = (
    Column("ID"),
    Column("STATE"),
    Column("AGE", "right", gives_way=4),
    Column("STEPS", "right", gives_way=3),
    Column("CALLS", "right", gives_way=5),
    Column("TOKENS", "right", gives_way=2),
    Column("COST", "right", gives_way=1),
    Column("ERR", "right"),
    Column("INTENT", flexible=True, least=16),
)


@click.command(cls=Command)
@click.argument("text", required=False)
@click.option(
    "--limit", "-n", type=click.IntRange(min=0), default=20, show_default=True, help="How many; 0 lists all of them."
)
@click.option("--flat", is_flag=True, help="A line for each worker too, instead of folding it into its agent's.")
@store_option
@json_option
def ls(text: str | None, limit: int, flat: bool, store: str | None, as_json: bool) -> None:
    """List recordings, newest first.

    TEXT keeps those whose id, intent, command or state has it. A worker is a process that an agent started by itself;
    its calls count in the line of that agent. TOKENS are read and written; COST is by public prices; ? is unknown, +
    marks a sum that lacks some calls, and ! a recording that lost events (disk full).

    \b
        unspool ls
        unspool ls nightly -n 5 --json
    """
    place = find_store(store)
    rows = fold_workers(place, newest_first(place)) if not flat else map(Row, newest_first(place))
    wanted = (row for row in rows if text is None or _mentions(row, text.casefold()))
    shown = list(islice(wanted, limit or None))
    if as_json:
        put(dump_json([row_json(row, tally(place, row.records)) for row in shown]))
    elif shown:
        lines = [_cells(row, tally(place, row.records)) for row in shown]
        put(format_table(_COLUMNS, lines, width(), color=use_color()))
        if limit and len(shown) == limit and next(wanted, None) is not None:
            hint(f"The newest {limit}. All of them: unspool ls -n 0")
    else:
        hint(_nothing(place, text))


def _nothing(store: Store, text: str | None) -> str:
    if text is not None:
        return f"No recordings in {store.path} have {text!r} in their id, intent, command or state."
    return f"No recordings in {store.path}. Make one with: unspool run -- python agent.py"


def _mentions(row: Row, text: str) -> bool:
    return any(
        text in field.casefold()
        for one in row.records
        for field in (one.record_id, one.intent, " ".join(one.command or []), state_text(one), str(one.status))
    )


def state_text(metadata: RecordMetadata) -> str:
    """`running`, `completed`, `exit 1`, `stopped`, `interrupted`."""
    if metadata.status is RecordStatus.RECORDING:
        return "running"
    if metadata.exit_code:
        return f"exit {metadata.exit_code}"
    return str(metadata.status)


def _cells(row: Row, totals: Totals) -> list[str]:
    agent = row.agent
    intent = show_text(agent.intent, 200)
    if row.workers:
        intent = f"{intent} (+{amounts.counted(len(row.workers), 'worker')})".strip()
    if agent.rerun_of is not None:
        intent = f"rerun of {show_text(agent.rerun_of.partition('-')[0], 20)}: {intent}"
    return [
        show_text(agent.record_id),
        state_text(agent),
        amounts.age(amounts.seconds_since(agent.start_time)),
        str(totals.steps),
        str(totals.calls),
        amounts.tokens(totals.tokens, more=totals.tokens_unknown > 0),
        amounts.cost(totals.cost, more=totals.cost_unknown > 0),
        f"{totals.errors}" + ("!" if totals.lost else ""),
        intent,
    ]


def row_json(row: Row, totals: Totals) -> dict[str, Any]:
    """A line of the list for a program."""
    agent = row.agent
    return {
        "record_id": agent.record_id,
        "pid": agent.pid,
        "parent_pid": agent.parent_pid,
        "parent": agent.parent,
        "forked_at": agent.forked_at,
        "rerun_of": agent.rerun_of,
        "role": agent.role,
        "intent": agent.intent,
        "status": agent.status,
        "exit_code": agent.exit_code,
        "start_time": agent.start_time,
        "end_time": agent.end_time,
        "age_s": amounts.seconds_since(agent.start_time),
        "command": agent.command,
        "trace_id": agent.trace_id,
        "os_pid": agent.os_pid,
        "workers": [one.record_id for one in row.workers],
        **totals.to_dict(),
    }
