"""`unspool blame`: why a run was slow, dear or wrong, or slower or dearer than another."""

from __future__ import annotations

from typing import Any, get_args

import click

from unspool.cli.blame_diff import comparison_json, comparison_text
from unspool.cli.blame_json import blame_json
from unspool.cli.blame_text import ROWS, Look, blame_text
from unspool.cli.options import Command, json_option, recording_argument, store_option
from unspool.cli.prices import prices_for, prices_option
from unspool.cli.subjects import Subject, subject_of
from unspool.cli.terminal import hint, put, use_color, width
from unspool.store import find_store
from unspool.text import dump_json
from unspool.trace.compare import Measure, compare_traces
from unspool.trace.report import has_times
from unspool.trace.rollup import GROUPS, Group

__all__ = ["blame"]


@click.command(cls=Command)
@recording_argument("one", metavar="REC|TRACE")
@recording_argument("other", metavar="[OTHER]", required=False)
@click.option("--by", type=click.Choice(get_args(Measure)), help="Only this part, in more detail.  [default: all]")
@click.option(
    "--group", type=click.Choice(GROUPS), default="call", show_default=True, help="What the lines of the tables are."
)
@click.option(
    "--rows", "-n", type=click.IntRange(min=1), help=f"Lines of a table.  [default: {ROWS}, with --by {2 * ROWS}]"
)
@prices_option
@store_option
@json_option
def blame(
    one: str,
    other: str | None,
    *,
    by: Measure | None,
    group: Group,
    rows: int | None,
    prices: str | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Say why a run was slow, dear or wrong.

    What failed first, with the root cause; loops and retries; then where the time went (the critical path: its parts
    sum to the whole duration) and what the money paid for: every result, answer and prompt with all the calls that
    sent it again. Of two runs: what made OTHER slower or dearer.

    \b
        unspool blame last
        unspool blame last --by cost --group tool
        unspool blame 12 15 --by time
    """
    place = find_store(store)
    list_of_prices = prices_for(place, prices)
    rows = rows or (ROWS if by is None else 2 * ROWS)
    with subject_of(place, one, list_of_prices, messages=other is None) as subject:
        if other is not None:
            with subject_of(place, other, list_of_prices, messages=False) as second:
                _compare(subject, second, by, rows, as_json=as_json)
            return
        report = subject.report()
        if as_json:
            put(dump_json(blame_json(subject, report)))
            return
        put(blame_text(subject, report, by, Look(group, rows, use_color(), width())))
        hint(f"Next: unspool trace show {one}, or unspool flame {one} --svg flame.svg")


def _compare(one: Subject, other: Subject, by: Measure | None, rows: int, *, as_json: bool) -> None:
    found = compare_traces(one.tree, one.report().result, other.tree, other.report().result)
    names = (one.name, other.name)
    if as_json:
        document: dict[str, Any] = comparison_json(found, names)
        put(dump_json(document))
    else:
        timed = has_times(one.tree) and has_times(other.tree)
        put(comparison_text(found, names, by=by, rows=rows, color=use_color(), width=width(), timed=timed))
