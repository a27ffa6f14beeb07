"""`unspool diff`: two runs step by step, or the contexts at two points."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from unspool.cli.listing import answer_cost
from unspool.cli.options import Command, json_option, recording_argument, store_option
from unspool.cli.prices import prices_for, prices_option
from unspool.cli.runs import descendants
from unspool.cli.terminal import put, use_color
from unspool.errors import UsageError
from unspool.recording.address import Address, resolve
from unspool.recording.reader import RecordReader
from unspool.replay import ReplaySession, format_context_diff, format_context_diff_json
from unspool.replay.runs import diff_runs
from unspool.replay.runs_format import format_runs_diff, format_runs_diff_json
from unspool.store import Store, find_store

__all__ = ["diff"]


@click.command(cls=Command)
@recording_argument("before", metavar="REC[@POINT]")
@recording_argument("after", metavar="REC[@POINT]")
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(min=0),
    default=40,
    show_default=True,
    help="Of two runs: how much of what came after they parted; 0 shows all of it.",
)
@prices_option
@store_option
@json_option
def diff(  # noqa: PLR0917 - an option each
    before: str, after: str, limit: int, prices: str | None, store: str | None, as_json: bool
) -> None:
    """Compare two runs step by step, or the contexts at two points.

    REC1 REC2: where the runs part (the request, the answer, a tool's input or result), what each did after that, and
    how they ended: tokens, cost, time, errors. Ids that providers invent, and reasoning, do not count as differences.

    REC@POINT REC@POINT: messages added, removed, edited and moved; the system prompt, tools and parameters; tokens; and
    where the beginning of the prompt, which providers cache, first differs. The points may be in two recordings.

    \b
        unspool diff last last-fork
        unspool diff last@call:4 last@call:5
        unspool diff 12@step:3 15@step:3
    """
    place = find_store(store)
    first, second = resolve(place, before), resolve(place, after)
    if first.point is not None and second.point is not None:
        _put_contexts(first, second, as_json=as_json)
    elif first.point is None and second.point is None:
        found = diff_runs(
            *(_folders(place, one) for one in (first, second)), price=partial(answer_cost, prices_for(place, prices))
        )
        if as_json:
            put(format_runs_diff_json(found))
        else:
            put(format_runs_diff(found, color=use_color(), limit=limit or None).rstrip("\n"))
    else:
        without = before if first.point is None else after
        raise UsageError(
            f"diff compares two runs, or two points: write {without}@call:N, {without}@step:N or {without}@SEQ, "
            f"or leave the point of the other away"
        )


def _put_contexts(first: Address, second: Address, *, as_json: bool) -> None:
    with RecordReader(first.record_dir, live=True) as one, RecordReader(second.record_dir, live=True) as other:
        assert first.point is not None
        assert second.point is not None
        found = ReplaySession(one).diff_with(
            ReplaySession(other), first.point.seq_num(one), second.point.seq_num(other)
        )
        if as_json:
            put(format_context_diff_json(found))
        else:
            put(format_context_diff(found, color=use_color()).rstrip("\n"))


def _folders(store: Store, address: Address) -> list[Path]:
    """The recordings of a run: its root's, and those of the processes it started, parents before children."""
    started = sorted(descendants(store, address.record_id), key=lambda one: one.pid)
    return [address.record_dir, *(store.records / one.record_id for one in started)]
