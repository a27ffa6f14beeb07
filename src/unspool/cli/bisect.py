"""`unspool bisect`: which step made a run fail, found by running it on from there again."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from unspool.cli.bisect_search import Search, Searching, call_costs
from unspool.cli.live_tools import say_unknown_tools, tool_names
from unspool.cli.moved import rules_for_server, say_server, urls_of
from unspool.cli.options import DOLLARS, Command, json_option, recording_argument, store_option
from unspool.cli.prices import Prices, prices_for, prices_option
from unspool.cli.terminal import is_terminal, note, put, use_color
from unspool.errors import UsageError
from unspool.events import LLMResponse
from unspool.recording.address import resolve
from unspool.recording.reader import RecordReader
from unspool.replay.bisect import Bisection, Candidate
from unspool.replay.bisect_format import format_bisection_plan, format_verdict, format_verdict_json
from unspool.serving.offers import make_plan, open_tree
from unspool.serving.plan import Offer
from unspool.store import find_store

__all__ = ["bisect"]


@click.command(cls=Command)
@recording_argument("recording", metavar="REC")
@click.option(
    "--check",
    metavar="CMD",
    required=True,
    help="Shell command that judges an outcome: exit code 0 is right, 125 cannot tell, anything else is wrong. It gets "
    "the program's standard output as input, and UNSPOOL_RECORD and UNSPOOL_STORE.",
)
@click.option(
    "--samples",
    "-n",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Forks at each call that is tried.",
)
@click.option(
    "--confirm",
    is_flag=True,
    help="Sample the two calls that matter on, until chance is excluded (3 more rounds at most).",
)
@click.option("--calls", metavar="A-B", help="Search only these model calls.  [default: all]")
@click.option(
    "--all", "every", is_flag=True, help="Try every call instead of searching: the whole curve, at its price."
)
@click.option("--live-tools", metavar="NAME", multiple=True, help="Tools that may run for real after a fork; * is all.")
@click.option(
    "--max-calls", type=click.IntRange(min=1), metavar="N", help="Stop before more live model calls than this."
)
@click.option("--max-cost", type=DOLLARS, metavar="USD", help="Stop when the forks have cost this.")
@click.option("--base-url", metavar="URL", help="Have the program ask another server, given as the SDK takes it.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask before it starts.")
@prices_option
@store_option
@json_option
def bisect(  # noqa: PLR0917 - an option each
    recording: str,
    check: str,
    samples: int,
    confirm: bool,
    calls: str | None,
    every: bool,
    live_tools: tuple[str, ...],
    max_calls: int | None,
    max_cost: float | None,
    base_url: str | None,
    yes: bool,
    prices: str | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Find the model call that made a run fail.

    Forks the recording at chosen calls: all before is served from it, the model is asked afresh from there on, and the
    check judges how the run comes out. As long as the mistake has not been made, fresh answers can come out right; the
    last call where they do is the one that decided. Calls that cost least for what they tell are tried first. A fork
    whose live calls the model does not answer is not judged, and ends the search. Exit code 0: the call was found; 1:
    it was not, or the search was stopped before.

    \b
        unspool bisect last --check 'grep -q "355.32 USD"' --live-tools '*'
        unspool bisect 12 --check './judge.sh' -n 10 --max-cost 2.50
    """
    place = find_store(store)
    address = resolve(place, recording)
    if address.point is not None:
        raise UsageError(f"bisect searches a whole run, {recording!r} is a point in one. Narrow it with --calls A-B")
    readers = open_tree(place, address.record_id)
    try:
        price_list = prices_for(place, prices)
        candidates = _within(_candidates(readers, price_list), calls)
        if not candidates:
            raise UsageError(f"{address.record_id} has no model call to fork at: there is nothing to search")
        root = readers[0].metadata
        how = Searching(
            check=check,
            prices=price_list,
            live_tools=tool_names(live_tools),
            rules=rules_for_server(base_url, root, urls_of(readers)),
            max_calls=max_calls,
            max_cost=max_cost,
        )
        search = Search(place, readers, how)
        search.refuse_what_passes(address.record_id)
        bisection = Bisection(candidates, samples)
        note("unspool: " + format_bisection_plan(bisection))
        say_server(root, base_url=base_url)
        say_unknown_tools(readers, how.live_tools)
        _ask(yes)
        search.run(bisection, every=every, confirm=confirm)
    finally:
        for reader in readers:
            reader.close()
    verdict = bisection.verdict()
    put(format_verdict_json(verdict, search.stopped) if as_json else format_verdict(verdict, color=use_color()))
    if search.stopped:
        note(f"unspool: stopped: {search.stopped}")
    elif verdict.decisive is not None and verdict.decisive.records and not as_json:
        note(f"unspool: compare with: unspool diff {address.record_id} {verdict.decisive.records[0]}")
    raise click.exceptions.Exit(0 if verdict.decisive is not None else 1)


def _ask(yes: bool) -> None:
    if yes:
        return
    if not is_terminal(sys.stdin):
        raise UsageError("bisect sends live model calls. There is no terminal to ask at: add --yes")
    if not click.confirm("Start?", err=True, default=True):
        raise click.exceptions.Exit(1)


# --- candidates ------------------------------------------------------------------------------------------------------


def _candidates(readers: Sequence[RecordReader], prices: Prices) -> list[Candidate]:
    """The model calls of the root's own process; retries are part of the call they repeat."""
    _, offers = make_plan(readers)
    model_calls = [offer for offer in offers if offer.kind == "llm"]
    root = readers[0]
    costs = call_costs(readers, prices)
    found = []
    for index, offer in enumerate(model_calls):
        if offer.record_id != root.record_id or offer.retry or offer.snapshot is None or offer.call is None:
            continue
        after = model_calls[index:]
        known = [costs.get((one.record_id, one.call)) for one in after if one.unservable is None]
        total = sum(cost for cost in known if cost is not None) if any(cost is not None for cost in known) else None
        found.append(Candidate(offer.call, offer.snapshot, len(after), total, _label(root, offer)))
    return found


def _label(reader: RecordReader, offer: Offer) -> str:
    """What the model decided: the tools it called, or the beginning of what it said."""
    if offer.response is None:
        return "(no answer)"
    answer: LLMResponse | None = reader.response_of(reader.event(offer.response))
    if answer is None:
        return "(no answer)"
    if answer.tool_calls:
        return ", ".join(f"{call.name}({call.arguments})" for call in answer.tool_calls)
    return answer.text or "(nothing)"


def _within(candidates: list[Candidate], calls: str | None) -> list[Candidate]:
    if calls is None:
        return candidates
    first, dash, last = calls.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        raise UsageError(f"--calls {calls!r} is no range: write --calls 3-9, or --calls 7")
    low, high = int(first), int(last) if dash else int(first)
    kept = [one for one in candidates if low <= one.call <= high]
    ends = f"they are {candidates[0].call} to {candidates[-1].call}" if candidates else "it has none"
    if not kept:
        raise UsageError(f"no model call of the run is within {calls}: {ends}")
    if low < candidates[0].call or high > candidates[-1].call:
        raise UsageError(f"--calls {calls} goes beyond the model calls of the run: {ends}")
    return kept
