"""`unspool diff`: what changed between the contexts at two points."""

from __future__ import annotations

import click

from unspool.cli.options import Command, json_option, recording_argument, store_option
from unspool.cli.terminal import put, use_color
from unspool.errors import UsageError
from unspool.recording.address import Address, resolve
from unspool.recording.reader import RecordReader
from unspool.replay import ReplaySession, format_context_diff, format_context_diff_json
from unspool.store import Store, find_store

__all__ = ["diff"]


@click.command(cls=Command)
@recording_argument("before", metavar="REC@POINT")
@recording_argument("after", metavar="REC@POINT")
@store_option
@json_option
def diff(before: str, after: str, store: str | None, as_json: bool) -> None:
    """Show what changed between the contexts at two points.

    Messages added, removed, edited and moved; the system prompt, tools and parameters; tokens; and where the
    beginning of the prompt, which providers cache, first differs. The points may be in two recordings.

    \b
        unspool diff last@call:4 last@call:5
        unspool diff 12@step:3 15@step:3
    """
    place = find_store(store)
    first, second = _point(place, before), _point(place, after)
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


def _point(store: Store, text: str) -> Address:
    address = resolve(store, text)
    if address.point is None:
        raise UsageError(f"diff compares two points: write {text}@call:N, {text}@step:N or {text}@SEQ")
    return address
