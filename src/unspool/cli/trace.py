"""`unspool trace`: the traces of a store, and one of them as a tree with bars."""

from __future__ import annotations

import json
from typing import Any

import click

from unspool.cli import amounts
from unspool.cli.options import Command, common_options, json_option, recording_argument, store_option
from unspool.cli.prices import prices_for, prices_option
from unspool.cli.subjects import subject_of
from unspool.cli.table import Column, format_table
from unspool.cli.terminal import hint, put, use_color, width
from unspool.cli.timeline import Least, timeline_text
from unspool.cli.tracelist import TraceRow, trace_rows
from unspool.durations import format_duration
from unspool.errors import UsageError
from unspool.store import find_store
from unspool.text import dump_json, show_text
from unspool.trace.report import has_times

__all__ = ["trace"]

_COLUMNS = (
    Column("TRACE"),
    Column("AGE", "right", gives_way=3),
    Column("TIME", "right"),
    Column("SPANS", "right"),
    Column("TOKENS", "right", gives_way=2),
    Column("COST", "right", gives_way=1),
    Column("ERR", "right"),
    Column("ROOT", flexible=True, least=12),
)


@click.group(params=common_options(hidden=True))
def trace() -> None:
    """Show traces: what called what, when, and for how long.

    \b
        unspool trace ls
        unspool trace show last
        unspool trace show last --critical
    """


@trace.command(cls=Command, name="ls")
@click.option(
    "--limit", "-n", type=click.IntRange(min=0), default=20, show_default=True, help="How many; 0 lists all of them."
)
@prices_option
@store_option
@json_option
def list_traces(limit: int, prices: str | None, store: str | None, as_json: bool) -> None:
    """List traces, newest first.

    A trace is all that one command started, and what came in as spans with the same trace id.

    \b
        unspool trace ls -n 5
    """
    place = find_store(store)
    rows, more = trace_rows(place, prices_for(place, prices), limit)
    if as_json:
        put(dump_json([_row_json(row) for row in rows]))
    elif rows:
        put(format_table(_COLUMNS, [_cells(row) for row in rows], width(), color=use_color()))
        if more:
            hint(f"The newest {limit}. All of them: unspool trace ls -n 0")
    else:
        hint(f"No traces in {place.path}. Make one with: unspool run -- python agent.py")


def _cells(row: TraceRow) -> list[str]:
    metadata = row.tree.metadata
    return [
        show_text(row.trace_id)[:12] if len(row.trace_id) == 32 else show_text(row.trace_id, 20),
        amounts.age(amounts.seconds_since(metadata.start_time)),
        format_duration(metadata.total_duration) + ("+" if row.is_running else "")
        if row.is_running or has_times(row.tree)
        else amounts.UNKNOWN,
        f"{metadata.total_spans:,}",
        amounts.tokens(metadata.total_tokens or (None if row.tokens_unknown else 0), more=row.tokens_unknown > 0),
        amounts.cost(metadata.total_cost_usd, more=row.unpriced > 0) if row.model_calls else "",
        str(metadata.error_count),
        show_text(row.tree.root.span.name, 80),
    ]


def _row_json(row: TraceRow) -> dict[str, Any]:
    metadata = row.tree.metadata
    return {
        "trace_id": row.trace_id,
        "records": row.record_ids,
        "root": row.tree.root.span.name,
        "start_time": metadata.start_time,
        "duration_ns": metadata.total_duration if row.is_running or has_times(row.tree) else None,
        "spans": metadata.total_spans,
        "tokens": metadata.total_tokens or (None if row.tokens_unknown else 0),
        "cost_usd": metadata.total_cost_usd,
        "errors": metadata.error_count,
        "running": row.is_running,
        "tokens_unknown": row.tokens_unknown,
        "unpriced_calls": row.unpriced,
    }


class _LeastType(click.ParamType[Any]):
    """`250ms`, `1.5s`, `800us`, or a share of the whole: `2%`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Least:
        try:
            return value if isinstance(value, Least) else Least.parse(str(value))
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


@trace.command(cls=Command, name="show")
@recording_argument("recording", metavar="REC|TRACE")
@click.option("--critical", is_flag=True, help="Only the critical path: what the end was waiting for.")
@click.option("--depth", type=click.IntRange(min=0), help="Levels to show; 0 is the root alone.  [default: all]")
@click.option("--min", "least", type=_LeastType(), help="Leave out spans shorter than this: 10ms, 1.5s, 2%.")
@click.option(
    "--limit", "-n", type=click.IntRange(min=0), default=200, show_default=True,
    help="Lines at most, the shortest spans giving way; 0 for no limit.",
)  # fmt: skip
@prices_option
@store_option
@json_option
def show_trace(
    recording: str,
    *,
    critical: bool,
    depth: int | None,
    least: Least | None,
    limit: int,
    prices: str | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Show a trace as a tree with bars on one axis of time.

    What is on the critical path has full bars, what ran beside it light ones. A + marks what has not ended,
    or whose end is not known.

    \b
        unspool trace show last
        unspool trace show last --critical --min 1%
    """
    place = find_store(store)
    if as_json and (critical or depth is not None or least is not None):
        raise UsageError("--json gives the whole trace: leave --critical, --depth and --min away")
    with subject_of(place, recording, prices_for(place, prices), messages=critical) as subject:
        if as_json:
            put(dump_json(json.loads(subject.tree.to_json())))
            return
        result = subject.report().result
        text = timeline_text(
            subject.tree,
            result,
            only_critical=critical,
            depth=depth,
            least=least,
            limit=limit,
            color=use_color(),
            width=width(),
        )
        put(text)
        hint(f"Next: unspool blame {recording}")
