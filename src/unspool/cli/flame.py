"""`unspool flame`: a run as folded stacks or as a flame graph."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from unspool.cli.options import Command, json_option, recording_argument, store_option
from unspool.cli.prices import prices_for, prices_option
from unspool.cli.subjects import subject_of
from unspool.cli.terminal import hint, note, put
from unspool.errors import UsageError
from unspool.store import find_store
from unspool.text import dump_json
from unspool.trace.flame import FlameMeasure, fold_stacks, format_folded
from unspool.trace.flame_svg import flame_svg
from unspool.trace.report import has_times

__all__ = ["flame"]


@click.command(cls=Command)
@recording_argument("recording", metavar="REC|TRACE")
@click.option(
    "--by",
    type=click.Choice(get_args(FlameMeasure)),
    default="time",
    show_default=True,
    help="What widths are: self time (µs), tokens, cost (millionths of a dollar) of each call, or that cost charged to "
    "what was sent.",
)
@click.option("--svg", type=click.Path(dir_okay=False), help="Write a flame graph into this file instead.")
@click.option("--force", is_flag=True, help="Overwrite the file.")
@prices_option
@store_option
@json_option
def flame(
    recording: str,
    *,
    by: FlameMeasure,
    svg: str | None,
    force: bool,
    prices: str | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Print folded stacks, or draw a flame graph.

    A line is the names from the agent down to a call and a number: what flamegraph.pl, speedscope and others read.
    With --svg it is a picture that needs nothing else: widths are shares, and each frame says on hover what it is.

    \b
        unspool flame last --svg flame.svg
        unspool flame last --by carried --svg cost.svg
        unspool flame last | flamegraph.pl > flame.svg
    """
    place = find_store(store)
    if svg is not None and Path(svg).exists() and not force:
        raise UsageError(f"{svg} exists. Overwrite it with --force.")
    with subject_of(place, recording, prices_for(place, prices), messages=by == "carried") as subject:
        if by == "carried" and subject.carried is None:
            raise UsageError(
                f"{recording} has no recorded messages, so nothing is known of what was sent: use --by cost"
            )
        is_known = by != "time" or has_times(subject.tree)
        stacks = fold_stacks(subject.tree, by, subject.carried) if is_known else {}
        title = subject.tree.root.span.name
    if not stacks and not as_json:
        note(f"Nothing to show: {recording} has no {by} that is known.")
        return
    if svg is not None:
        Path(svg).write_text(flame_svg(stacks, by, title), encoding="utf-8")
        hint(f"Written: {svg}. Open it in a browser.")
    if as_json:
        put(dump_json([{"stack": [name for _, name in stack], "kinds": [kind for kind, _ in stack], "value": value}
                       for stack, value in sorted(stacks.items())]))  # fmt: skip
    elif svg is None:
        put(format_folded(stacks))
