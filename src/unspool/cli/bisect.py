"""`unspool bisect`: which step made a run fail, found by running it on from there again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

import click

from unspool.cli.listing import answer_cost
from unspool.cli.options import DOLLARS, Command, json_option, recording_argument, store_option
from unspool.cli.prices import Prices, prices_for, prices_option
from unspool.cli.spending_limit import rules_for_cost
from unspool.cli.supervise import supervise
from unspool.cli.terminal import is_terminal, note, put, use_color
from unspool.errors import UsageError
from unspool.events import LLMResponse, RecordEventType
from unspool.recording.address import resolve
from unspool.recording.reader import RecordReader
from unspool.recording.stdout import STDOUT_NAME, read_stdout
from unspool.replay.bisect import Bisection, Candidate, Probe
from unspool.replay.bisect_format import format_bisection_plan, format_probe, format_verdict, format_verdict_json
from unspool.replay.rerun import Outcome
from unspool.serving.offers import make_plan, open_tree
from unspool.serving.plan import Offer
from unspool.store import Store, find_store
from unspool.text import show_text

__all__ = ["bisect"]

_CANNOT_TELL: Final = 125  # as `git bisect run` has it
_CONFIRMATIONS: Final = 3  # rounds of more samples at the two calls that matter, while chance is not excluded


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
    yes: bool,
    prices: str | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Find the model call that made a run fail.

    Forks the recording at chosen calls: all before is served from it, the model is asked afresh from there on, and the
    check judges how the run comes out. As long as the mistake has not been made, fresh answers can come out right; the
    last call where they do is the one that decided. Calls that cost least for what they tell are tried first.

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
        search = _Search(place, readers, check, live_tools, price_list, max_calls=max_calls, max_cost=max_cost)
        search.refuse_what_passes(address.record_id)
        bisection = Bisection(candidates, samples)
        note("unspool: " + format_bisection_plan(bisection))
        _ask(yes)
        search.run(bisection, every=every, confirm=confirm)
    finally:
        for reader in readers:
            reader.close()
    verdict = bisection.verdict()
    put(format_verdict_json(verdict) if as_json else format_verdict(verdict, color=use_color()))
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
    costs = _costs(readers, prices)
    found = []
    for index, offer in enumerate(model_calls):
        if offer.record_id != root.record_id or offer.retry or offer.snapshot is None or offer.call is None:
            continue
        after = model_calls[index:]
        known = [costs.get((one.record_id, one.call)) for one in after if one.unservable is None]
        total = sum(cost for cost in known if cost is not None) if any(cost is not None for cost in known) else None
        found.append(Candidate(offer.call, offer.snapshot, len(after), total, _label(root, offer)))
    return found


def _costs(readers: Sequence[RecordReader], prices: Prices) -> dict[tuple[str, int | None], float | None]:
    costs: dict[tuple[str, int | None], float | None] = {}
    for reader in readers:
        paths: dict[int | None, str] = {}
        start = reader.metadata.start_time
        for event in reader.bare_events():
            if event.syscall is not None and event.syscall.syscall == "LLMCall":
                paths[event.call] = str(event.syscall.args.get("path", ""))
            elif event.llm is not None:
                at = None if start is None else start + timedelta(microseconds=event.timestamp // 1000)
                costs[reader.record_id, event.call] = answer_cost(prices, paths.get(event.call, ""), event.llm, at)
    return costs


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
    if not kept:
        raise UsageError(
            f"no model call of the run is within {calls}: they are {candidates[0].call} to {candidates[-1].call}"
        )
    return kept


# --- forks and their judgement ---------------------------------------------------------------------------------------


class _Search:
    """Runs the forks that a bisection asks for, within the limits."""

    def __init__(
        self,
        store: Store,
        readers: Sequence[RecordReader],
        check: str,
        live_tools: tuple[str, ...],
        prices: Prices,
        *,
        max_calls: int | None,
        max_cost: float | None,
    ) -> None:
        self.store = store
        self.readers = readers
        self.check = check
        self.live_tools = [name for word in live_tools for name in word.split(",") if name]
        self.prices = prices
        self.calls_left = max_calls
        self.cost_left = max_cost
        self.stopped = ""

    def refuse_what_passes(self, record_id: str) -> None:
        """The run itself must fail the check, else there is nothing to find."""
        verdict = self.judge(record_id)
        if verdict is None:
            raise UsageError(
                f"the check cannot tell about {record_id} itself (exit code {_CANNOT_TELL}): nothing was started"
            )
        if verdict:
            raise UsageError(
                f"{record_id} passes the check: there is no failure to find. Nothing was started. "
                f"What the check got as its input is {self.store.records / record_id / STDOUT_NAME}"
            )

    def run(self, bisection: Bisection, *, every: bool, confirm: bool) -> None:
        """Fork until the call is found, or a limit is reached."""
        if every:
            for candidate in reversed(bisection.candidates):
                if not self.stopped:
                    self.probe(bisection, candidate)
        while not self.stopped and (following := bisection.next_candidate()) is not None:
            self.probe(bisection, following)
        for _ in range(_CONFIRMATIONS if confirm else 0):
            verdict = bisection.verdict()
            if self.stopped or verdict.is_confirmed or verdict.decisive is None or verdict.settled is None:
                return
            for probe in (verdict.settled, verdict.decisive):
                self.probe(bisection, probe.candidate)

    def probe(self, bisection: Bisection, candidate: Candidate) -> Probe | None:
        """Fork at a candidate and note what came out."""
        outcomes: list[bool | None] = []
        records: list[str] = []
        for _ in range(bisection.samples):
            if self.stopped:
                break
            outcome = self.fork(candidate)
            self.spend(outcome)
            if self.stopped and outcome.status != "forked":
                break  # cut off by the limit: it says nothing about the call
            if outcome.rerun is not None:
                records.append(outcome.rerun)
            outcomes.append(self.judge(outcome.rerun) if outcome.status == "forked" and outcome.rerun else None)
            if outcomes[-1] is None:
                note(f"unspool: call {candidate.call}: {_why_not_judged(outcome)}")
        if not outcomes:
            return None
        probe = bisection.add(candidate, outcomes, records)
        note("unspool: " + format_probe(probe))
        return probe

    def fork(self, candidate: Candidate) -> Outcome:
        """One fork without edits: the model is asked afresh from the candidate on. Its output is kept, not shown."""
        plan, offers = make_plan(
            self.readers,
            target=(self.readers[0].record_id, candidate.seq_num),
            live_tools=self.live_tools,
            max_calls=self.calls_left,
            **rules_for_cost(self.readers, self.prices, self.cost_left),
        )
        name = f"bisect call {candidate.call}"
        seq_num = candidate.seq_num
        return supervise(self.store, plan, offers, name=name, forked_at=seq_num, stdout=subprocess.DEVNULL)

    def spend(self, outcome: Outcome) -> None:
        """Count what a fork sent against the limits."""
        if outcome.rerun is None:
            return
        calls, cost = self.sent(outcome.rerun)
        if self.calls_left is not None:
            self.calls_left -= calls
            if self.calls_left <= 0:
                self.stopped = "--max-calls is used up"
        if self.cost_left is not None:
            self.cost_left -= cost
            if self.cost_left <= 0:
                self.stopped = "--max-cost is used up"

    def sent(self, record_id: str) -> tuple[int, float]:
        """Live model calls of a fork, and what they cost as far as prices are known."""
        readers = open_tree(self.store, record_id)
        try:
            live = {
                (reader.record_id, event.call)
                for reader in readers
                for event in reader.bare_events()
                if event.type is RecordEventType.LLM_RESPONSE and event.origin != "served"
            }
            return len(live), sum(cost or 0.0 for key, cost in _costs(readers, self.prices).items() if key in live)
        finally:
            for reader in readers:
                reader.close()

    def judge(self, record_id: str) -> bool | None:
        """What the check says of a run; None if it cannot tell.

        Raises:
            UsageError: the check could not be run at all.
        """
        folder: Path = self.store.records / record_id
        output = read_stdout(folder)
        environ = {**os.environ, "UNSPOOL_RECORD": record_id, "UNSPOOL_STORE": str(self.store.path)}
        done = subprocess.run(
            ["/bin/sh", "-c", self.check], input=output.kept, env=environ, stdout=subprocess.DEVNULL, check=False
        )
        if done.returncode in (126, 127):
            raise UsageError(f"the check could not be run (exit code {done.returncode}): {show_text(self.check, 200)}")
        return None if done.returncode == _CANNOT_TELL else done.returncode == 0


def _why_not_judged(outcome: Outcome) -> str:
    if outcome.status != "forked":
        first = outcome.divergences[0] if outcome.divergences else None
        reason = (first.reason or first.what) if first is not None else "it did not get to its call"
        return f"the fork failed and is not judged: {show_text(reason, 300)}"
    return "the check cannot tell"
