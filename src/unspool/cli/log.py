"""`unspool log`: the tree of runs and forks."""

from __future__ import annotations

import click

from unspool.catalog.catalog import Catalog
from unspool.cli.history import format_history, history, node_json, sum_up
from unspool.cli.options import Command, json_option, recording_argument, store_option
from unspool.cli.prices import prices_for, prices_option
from unspool.cli.terminal import hint, put, use_color
from unspool.recording.address import resolve
from unspool.store import find_store
from unspool.text import dump_json

__all__ = ["log"]


@click.command(cls=Command)
@recording_argument("recording", metavar="[REC]", required=False)
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="How many originals, each with all that came from it; 0 shows all of them.",
)
@prices_option
@store_option
@json_option
def log(recording: str | None, limit: int, prices: str | None, store: str | None, as_json: bool) -> None:
    """Draw the tree of runs and forks, newest first.

    Forks and kept reruns stand above the run they came from, with the call they left it at and what was changed. REC
    shows the tree it is in. Costs are by public prices and count what was sent, not what was served; ? is unknown, +
    marks a sum that lacks some calls.

    \b
        unspool log
        unspool log last -n 1 --json
    """
    place = find_store(store)
    with Catalog(place, prices_for(place, prices)) as catalog:
        _log(catalog, recording, limit, as_json=as_json)


def _log(catalog: Catalog, recording: str | None, limit: int, *, as_json: bool) -> None:
    place = catalog.store
    nodes = history(place, (entry.metadata for entry in catalog.entries()))
    if recording is not None:
        wanted = resolve(place, recording).record_id
        nodes = [
            top for top in nodes if any(one.record_id == wanted for node in top.tree() for one in node.run.records)
        ]
    shown = nodes[: limit or None]
    for top in shown:
        for node in top.tree():
            sum_up(catalog, node)
    if as_json:
        put(dump_json([node_json(node) for top in shown for node in top.tree()]))
    elif shown:
        put(format_history(shown, color=use_color()))
        if len(shown) < len(nodes):
            hint(f"The newest {len(shown)} of {len(nodes)}. All of them: unspool log -n 0")
    else:
        hint(f"No recordings in {place.path}. Make one with: unspool run -- python agent.py")
