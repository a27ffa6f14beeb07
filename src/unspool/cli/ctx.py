"""`unspool ctx`: what fills a context, what of it is used, and what it would be without the rest."""

from __future__ import annotations

from typing import Any

import click

from unspool.cli.ctx_json import context_json
from unspool.cli.ctx_text import context_text, lives_text
from unspool.cli.ctx_view import view_of
from unspool.cli.options import Command, json_option, recording_argument, store_option
from unspool.cli.prices import prices_for, prices_option
from unspool.cli.terminal import hint, put, use_color, width
from unspool.errors import UsageError
from unspool.recording.address import resolve
from unspool.recording.reader import RecordReader
from unspool.store import find_store
from unspool.text import dump_json

__all__ = ["ctx"]

_ROWS = 6


@click.command(cls=Command)
@recording_argument("recording", metavar="REC[@POINT]")
@click.option(
    "--all", "-a", "is_all", is_flag=True, help="The life of every block: came, used, cost, should have gone."
)
@click.option("--rows", "-n", type=click.IntRange(min=1), default=_ROWS, show_default=True, help="Lines of a table.")
@click.option(
    "--without",
    metavar="BLOCK",
    multiple=True,
    help="The run without this block: its number (7 or #7), the id of a tool call, or tool:NAME. Repeatable.",
)
@click.option("--leaked", is_flag=True, help="The run without what leaked.")
@click.option(
    "--verify",
    is_flag=True,
    help="With --without or --leaked: send the first request after each block went cold without it, for real, and "
    "compare the answer with the recorded one.",
)
@click.option(
    "--samples", metavar="N", type=click.IntRange(min=1), default=1, help="With --verify: times each is sent."
)
@click.option(
    "--max-calls",
    metavar="N",
    type=click.IntRange(min=1),
    default=5,
    help="With --verify: calls at most.  [default: 5]",
)
@click.option("--base-url", metavar="URL", help="With --verify: send to another server.")
@click.option("--key-env", metavar="NAME", help="With --verify: the variable with the key.  [default: the provider's]")
@prices_option
@store_option
@json_option
def ctx(recording: str, *, store: str | None, as_json: bool, **given: Any) -> None:
    """Show what fills a context, and what of it is used.

    Of the call at the point, by default the last one of the run's largest conversation: its tokens by category, tool
    and message (the provider's count, divided by a fit to all counts of the run), how each block is used, with the
    evidence, what it cost over all calls that sent it, what broke the provider's cache, and what to do.

    \b
        unspool ctx last
        unspool ctx 12@call:40 --json
        unspool ctx last --all
        unspool ctx last --leaked --verify
    """
    from unspool.cli.ctx_whatif import run_without, without_json, without_text

    place = find_store(store)
    address = resolve(place, recording)
    is_whatif = bool(given["without"] or given["leaked"])
    if given["verify"] and not is_whatif:
        raise UsageError("--verify needs to know what to leave out: add --leaked or --without BLOCK")
    prices = prices_for(place, given["prices"])
    with RecordReader(address.record_dir, live=True) as reader:
        seq_num = address.point.seq_num(reader) if address.point is not None else None
        view = view_of(reader, prices, seq_num)
        if is_whatif:
            found = run_without(view, given["without"], leaked=given["leaked"])
            if given["verify"]:
                from unspool.cli.ctx_verify import Verifying, verify

                how = Verifying(prices, given["samples"], given["max_calls"], given["base_url"], given["key_env"])
                found.checks = verify(reader, found, how)
            put(dump_json(without_json(found)) if as_json else without_text(found, color=use_color(), width=width()))
            if not as_json and not given["verify"] and found.dropped:
                hint("Next: --verify sends the request without them, and compares the answers")
            return
        if as_json:
            put(dump_json(context_json(view)))
        elif given["is_all"]:
            put(lives_text(view, color=use_color(), width=width()))
        else:
            put(context_text(view, given["rows"], color=use_color(), width=width()))
            hint(f"Next: unspool ctx {recording} --all, or unspool ctx {recording} --leaked --verify")
