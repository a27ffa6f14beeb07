"""`unspool ctx`: what fills a context, what of it is used, and what it would be without the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from unspool.cli.ctx_json import context_json
from unspool.cli.ctx_text import context_text, lives_text
from unspool.cli.ctx_view import ContextView, calls_elsewhere, view_of
from unspool.cli.options import DOLLARS, Command, json_option, recording_argument, store_option
from unspool.cli.prices import Prices, prices_for, prices_option
from unspool.cli.terminal import hint, note, put, use_color, width
from unspool.errors import UsageError
from unspool.recording.address import resolve
from unspool.recording.reader import RecordReader
from unspool.store import Store, find_store
from unspool.text import dump_json

__all__ = ["ctx"]

if TYPE_CHECKING:
    from unspool.cli.ctx_whatif import Without

_ROWS = 6
_MOST_CALLS = 6  # that --verify sends without being told
_OF_VERIFY = {
    "--samples": "samples",
    "--max-calls": "max_calls",
    "--max-cost": "max_cost",
    "--base-url": "base_url",
    "--key-env": "key_env",
}


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
    help="With --without or --leaked: a fork without these blocks. The request by which they have gone cold is sent "
    "for real without them, and the answer compared with the recorded one.",
)
@click.option(
    "--each", "is_each", is_flag=True, help="With --verify: try every block alone as well, not only all together."
)
@click.option(
    "--run",
    "is_run",
    is_flag=True,
    help="With --verify: run the program to its end without the blocks, as unspool fork --run does, and compare the "
    "outcomes.",
)
@click.option(
    "--samples", metavar="N", type=click.IntRange(min=1), help="With --verify: times each is sent or run.  [default: 1]"
)
@click.option(
    "--max-calls",
    metavar="N",
    type=click.IntRange(min=1),
    help="With --verify: live model calls at most, together.  [default: 6; with --run no limit]",
)
@click.option("--max-cost", metavar="USD", type=DOLLARS, help="With --verify: what they may cost.")
@click.option("--base-url", metavar="URL", help="With --verify: send to another server.")
@click.option("--key-env", metavar="NAME", help="With --verify: the variable with the key.  [default: the provider's]")
@click.option(
    "--live-tools",
    metavar="NAME",
    multiple=True,
    help="With --run: let a tool run for real behind the point; * is all. Repeatable.  [default: asks on a terminal]",
)
@click.option("--yes", "-y", is_flag=True, help="With --run: ask nothing, tools behind the point may run.")
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
        unspool ctx last --leaked --verify --run --max-cost 0.50
    """
    place = find_store(store)
    address = resolve(place, recording)
    is_whatif = bool(given["without"] or given["leaked"])
    _check_options(given, is_whatif=is_whatif)
    prices = prices_for(place, given["prices"])
    with RecordReader(address.record_dir, live=True) as reader:
        seq_num = address.point.seq_num(reader) if address.point is not None else None
        with calls_elsewhere(place, address.record_id, "ctx"):
            view = view_of(reader, prices, seq_num)
        if is_whatif:
            _what_if(place, reader, view, prices, given, as_json=as_json)
        elif as_json:
            put(dump_json(context_json(view)))
        elif given["is_all"]:
            put(lives_text(view, color=use_color(), width=width()))
        else:
            put(context_text(view, given["rows"], color=use_color(), width=width()))
            hint(f"Next: unspool ctx {recording} --all, or unspool ctx {recording} --leaked --verify")


def _check_options(given: dict[str, Any], *, is_whatif: bool) -> None:
    """Refuse options that mean nothing without another.

    Raises:
        UsageError: one is missing.
    """
    if given["verify"] and not is_whatif:
        raise UsageError("--verify needs to know what to leave out: add --leaked or --without BLOCK")
    if given["is_each"] and not given["verify"]:
        raise UsageError("--each goes with --verify: it tries every block alone as well")
    idle = [name for name, key in _OF_VERIFY.items() if given[key] is not None]
    if idle and not given["verify"]:
        raise UsageError(f"{' and '.join(idle)} without --verify: nothing is sent without it")
    if given["is_run"] and not given["verify"]:
        raise UsageError("--run goes with --verify: it runs the program to its end without the blocks")
    if given["is_run"] and (given["base_url"] or given["key_env"] or given["is_each"]):
        raise UsageError(
            "--run starts the program, which has its own server and key, with all blocks left out: leave --base-url, "
            "--key-env and --each away"
        )
    if (given["live_tools"] or given["yes"]) and not given["is_run"]:
        raise UsageError("--live-tools and --yes go with --verify --run: nothing else runs tools")


def _what_if(
    place: Store, reader: RecordReader, view: ContextView, prices: Prices, given: dict[str, Any], *, as_json: bool
) -> None:
    """The run without some blocks; verified if asked for."""
    from unspool.cli.ctx_whatif import run_without, without_json, without_text

    found = run_without(view, given["without"], leaked=given["leaked"])
    if given["is_run"] and found.dropped:
        from unspool.cli.ctx_run import run_without_them
        from unspool.cli.fork_run import Running

        running = Running(
            prices=prices,
            samples=given["samples"] or 1,
            live_tools=[name for word in given["live_tools"] for name in word.split(",") if name],
            is_allowed=given["yes"],
            max_calls=given["max_calls"],
            max_cost=given["max_cost"],
        )
        found.rerun = run_without_them(place, reader, found, running, aside=as_json)
        if not as_json:
            note(found.rerun.forks.text())
    elif given["verify"]:
        from unspool.cli.ctx_verify import Verifying, verify

        how = Verifying(
            prices=prices,
            samples=given["samples"] or 1,
            max_calls=given["max_calls"] or _MOST_CALLS,
            max_cost=given["max_cost"],
            base_url=given["base_url"],
            key_env=given["key_env"],
            is_each=given["is_each"],
        )
        found.checks = verify(place, reader, found, how)
    put(dump_json(without_json(found)) if as_json else without_text(found, color=use_color(), width=width()))
    if not as_json and found.dropped:
        hint(_next(found))


def _next(found: Without) -> str:
    forks = [fork for check in found.checks or () for fork in check.forks]
    if forks:
        return f"Next: unspool diff {found.view.record_id.partition('-')[0]} {forks[0].pid}, or unspool log"
    if found.rerun is not None or found.checks is not None:
        return "Next: unspool log"
    return "Next: --verify sends the request without them, and compares the answers"
