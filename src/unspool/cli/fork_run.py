"""`unspool fork --run`: the program again, served up to the point of the fork and live from there on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click
from msgspec import Struct, field

from unspool.cli import amounts
from unspool.cli.listing import answer_cost
from unspool.cli.live_calls import live_calls, why_unanswered
from unspool.cli.live_tools import say_unknown_tools, tool_paths
from unspool.cli.moved import rules_for_server, say_server
from unspool.cli.prices import Prices
from unspool.cli.spending_limit import rules_for_cost
from unspool.cli.supervise import supervise
from unspool.cli.terminal import is_terminal, note
from unspool.durations import later
from unspool.errors import UsageError
from unspool.events import RecordEventType
from unspool.recording.reader import RecordReader
from unspool.replay.forkplan import ForkPlan
from unspool.replay.rerun import Outcome
from unspool.serving.offers import make_plan, open_tree
from unspool.serving.plan import Offer
from unspool.serving.tools import is_allowed_live
from unspool.store import Store
from unspool.text import show_text

__all__ = ["Fork", "Forks", "Running", "Spent", "run_forks"]


class Spent(Struct):
    """What the live calls of a fork used; `cost` in US dollars, `unknown` counts calls whose price is not known."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    unknown: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cost + other.cost,
            self.unknown + other.unknown,
        )


class Running(Struct):
    """How to run.

    Attributes:
        prices: what the calls cost.
        samples: how many forks.
        live_tools: tools that may run for real behind the point; `*` is all.
        is_allowed: all of them may, and nobody is asked.
        max_calls, max_cost: limits of all forks together; None is none.
        base_url: the server that the program is to ask, as the vendor's SDK takes it; None is the recorded one.
    """

    prices: Prices
    samples: int = 1
    live_tools: list[str] = field(default_factory=list)
    is_allowed: bool = False
    max_calls: int | None = None
    max_cost: float | None = None
    base_url: str | None = None


class Fork(Struct):
    """What came of one fork, and what it used; `unanswered` says why none of its live calls was answered."""

    outcome: Outcome
    used: Spent
    unanswered: str | None = None


class Forks(Struct):
    """What came of several forks; `stopped` says why there were no more."""

    record_id: str
    seq_num: int
    done: list[Fork] = field(default_factory=list)
    stopped: str | None = None

    @property
    def spent(self) -> Spent:
        """What all of them used."""
        return sum((fork.used for fork in self.done), Spent())

    @property
    def exit_code(self) -> int:
        """The worst of theirs: 0 got to its point and the program ended with code 0, 1 did not, 3 was stopped."""
        return max((_exit_code(fork.outcome) for fork in self.done), default=1)

    def document(self) -> dict[str, Any]:
        """For a program."""
        forks = [_document(fork) for fork in self.done]
        return {"record_id": self.record_id, "seq_num": self.seq_num, "forks": forks, "stopped": self.stopped}

    def text(self) -> str:
        """For people; the last line is what to type next."""
        lines = [_report(fork) for fork in self.done]
        if self.stopped is not None:
            lines.append(f"unspool: stopped after {amounts.counted(len(self.done), 'fork')}: {self.stopped}")
        if len(self.done) > 1:
            lines.append(f"unspool: {amounts.counted(len(self.done), 'fork')}: {_costs(self.spent)}")
        last = next((fork.outcome for fork in reversed(self.done) if fork.outcome.rerun), None)
        if last is not None:
            lines.append(f"Next: unspool diff {last.source} {last.rerun}, or unspool log")
        return "\n".join(lines)


def run_forks(place: Store, record_id: str, plan: ForkPlan, how: Running, *, aside: bool) -> Forks:
    """Run a fork as many times as is asked for, within the limits.

    Args:
        record_id: the recording the point is in.
        aside: what the program writes goes to standard error, because something else is on standard output.

    Raises:
        UsageError: the program cannot be run, or not with that server.
        click.exceptions.Exit: a person did not want its tools to run.
    """
    readers = open_tree(place, _root_of(place, record_id))
    forks = Forks(record_id, plan.point.seq_num)
    try:
        root = readers[0].metadata
        server = rules_for_server(how.base_url, root, [(plan.point.provider, plan.point.url)])
        say_server(root, base_url=how.base_url)
        say_unknown_tools(readers, how.live_tools)
        after_fork = _tools_after(readers, how)
        for _ in range(how.samples):
            forks.stopped = _used_up(how, forks.spent)
            if forks.stopped is not None:
                break
            spent = forks.spent
            rules: dict[str, Any] = {"live_tools": how.live_tools, "after_fork": after_fork, **server}
            if how.max_calls is not None:
                rules["max_calls"] = how.max_calls - spent.calls
            if how.max_cost is not None:
                rules |= rules_for_cost(readers, how.prices, how.max_cost - spent.cost, plan.edits.model)
            outcome = _run_once(place, readers, plan, rules, aside=aside)
            forks.done.append(_fork(place, outcome, how.prices))
    finally:
        for reader in readers:
            reader.close()
    return forks


def _root_of(place: Store, record_id: str) -> str:
    """The recording of the process whose program is run: that of the whole run tree."""
    with RecordReader(place.records / record_id, live=True) as reader:
        root = reader.metadata.root or record_id
    if not (place.records / root).is_dir():
        raise UsageError(
            f"{record_id} is part of the run {root}, whose recording is not here: its program cannot be run"
        )
    return root


def _run_once(
    place: Store,
    readers: Sequence[RecordReader],
    fork: ForkPlan,
    rules: dict[str, Any],
    *,
    aside: bool,
) -> Outcome:
    """One fork."""
    plan, offers = make_plan(
        readers,
        target=(fork.point.record_id, fork.point.seq_num),
        **rules,
        edits=None if fork.edits.is_empty and not fork.edits.states else fork.edits.to_plan(),
    )
    assert plan.target is not None, "make_plan was given one"
    target = next(offer for offer in offers if offer.number == plan.target.offer)
    stdout = sys.stderr.fileno() if aside else None
    return supervise(place, plan, offers, forked_at=_seq_in_root(plan.root, target, offers), stdout=stdout)


def _seq_in_root(root: str, target: Offer, offers: Sequence[Offer]) -> int:
    """The event at which the root's own recording is left: that of the target, or the last before one in a child."""
    if target.record_id == root and target.snapshot is not None:
        return target.snapshot
    before = [offer for offer in offers if offer.record_id == root and offer.number < target.number]
    seqs = [seq for offer in before if (seq := offer.snapshot or offer.syscall) is not None]
    return max(seqs, default=1)


# --- leave -----------------------------------------------------------------------------------------------------------


def _tools_after(readers: Sequence[RecordReader], how: Running) -> str:
    """What happens to tools behind the point that `live_tools` does not name: `run` or `refuse`. Asks if it can.

    Raises:
        click.exceptions.Exit: the answer was no.
    """
    if how.is_allowed:
        return "run"
    paths = [path for path in tool_paths(readers) if not is_allowed_live(path, how.live_tools)]
    names = [path.rpartition("/")[2] for path in paths]
    if not names:
        return "refuse"
    said = ", ".join(show_text(name) for name in names)
    if not is_terminal(sys.stdin):
        note(
            f"unspool: tools behind the fork are refused ({said}): there is no terminal to ask at. "
            "Allow them with --live-tools NAME, --live-tools '*', or --yes"
        )
        return "refuse"
    note(f"unspool: behind the fork these tools would run for real: {said}")
    if not click.confirm("Let them?", err=True, default=False):
        raise click.exceptions.Exit(1)
    return "run"


def _used_up(how: Running, spent: Spent) -> str | None:
    """Why there may be no more; None if there may."""
    if how.max_cost is not None and spent.unknown:
        return "the price of a call is not known, so --max-cost cannot be kept"
    if how.max_cost is not None and spent.cost >= how.max_cost:
        return f"--max-cost {how.max_cost:g} is used up"
    if how.max_calls is not None and spent.calls >= how.max_calls:
        return f"--max-calls {how.max_calls} is used up"
    return None


# --- what came of it -------------------------------------------------------------------------------------------------


def _fork(place: Store, outcome: Outcome, prices: Prices) -> Fork:
    """What a fork sent; an answer that was given or served cost nothing."""
    if outcome.rerun is None:
        return Fork(outcome, Spent())
    readers = open_tree(place, outcome.rerun)
    try:
        used = sum((_spent_in(reader, prices) for reader in readers), Spent())
        return Fork(outcome, used, why_unanswered(live_calls(readers)))
    finally:
        for reader in readers:
            reader.close()


def _spent_in(reader: RecordReader, prices: Prices) -> Spent:
    spent = Spent()
    paths: dict[int | None, str] = {}
    start = reader.metadata.start_time
    for event in reader.bare_events():
        if event.syscall is not None and event.syscall.syscall == "LLMCall":
            paths[event.call] = str(event.syscall.args.get("path", ""))
        if event.type is not RecordEventType.LLM_RESPONSE or event.llm is None or event.origin != "live":
            continue
        data = event.llm
        spent.calls += 1
        spent.input_tokens += data.request_tokens or 0
        spent.output_tokens += data.response_tokens or 0
        at = later(start, event.timestamp)
        cost = answer_cost(prices, paths.get(event.call, ""), data, at)
        if cost is None:
            spent.unknown += data.error is None
        else:
            spent.cost += cost
    return spent


def _costs(spent: Spent) -> str:
    said = f"{amounts.counted(spent.calls, 'live call')}"
    if not spent.calls:
        return said
    tokens = f"{spent.input_tokens:,} → {spent.output_tokens:,} tokens"
    if spent.unknown == spent.calls:
        return f"{said}, {tokens}, cost unknown"
    return f"{said}, {tokens}, {amounts.cost(spent.cost, more=spent.unknown > 0)}"


def _exit_code(outcome: Outcome) -> int:
    return 1 if outcome.status == "forked" and outcome.program_exit else outcome.exit_code


def _report(fork: Fork) -> str:
    """The closing lines of one fork."""
    outcome, used = fork.outcome, fork.used
    lines: list[str] = []
    served = outcome.same_bytes + outcome.same_json
    if outcome.status == "forked":
        head = f"unspool: forked {outcome.source} as {outcome.rerun}"
    else:
        head = f"unspool: the fork of {outcome.source} {_ended(outcome)}" + (
            f"; as far as it got it is {outcome.rerun}" if outcome.rerun else ""
        )
    tools = f" and {amounts.counted(outcome.tools_served, 'tool call')}" if outcome.tools_served else ""
    lines.append(f"{head}: {amounts.counted(served, 'exchange')}{tools} served, {_costs(used)}")
    for divergence in outcome.divergences:
        lines.append(f"  stopped: {show_text(divergence.reason or divergence.what)}")
        if divergence.at:
            lines.append(f"  at {show_text(divergence.at)}")
    lines += [f"  note: {show_text(text)}" for text in dict.fromkeys(outcome.notes)]
    if outcome.surroundings.placeholders and outcome.status == "forked" and used.calls:
        names = ", ".join(outcome.surroundings.placeholders)
        lines.append(f"  note: not set in this environment, so a placeholder was used: {show_text(names)}")
    if fork.unanswered is not None:
        lines.append(f"  no live call was answered: {fork.unanswered}. For another server: --base-url URL")
    if outcome.program_exit:
        lines.append(f"  the program ended with code {outcome.program_exit}")
    return "\n".join(lines)


def _ended(outcome: Outcome) -> str:
    if outcome.status == "diverged":
        return "stopped"
    return "recorded nothing" if outcome.rerun is None else "never came to its point"


def _document(fork: Fork) -> dict[str, Any]:
    outcome, used = fork.outcome, fork.used
    return {
        "record_id": outcome.rerun,
        "status": outcome.status,
        "exit_code": _exit_code(outcome),
        "program_exit": outcome.program_exit,
        "served": outcome.same_bytes + outcome.same_json,
        "tools_served": outcome.tools_served,
        "live": used.calls,
        "unanswered": fork.unanswered,
        "input_tokens": used.input_tokens,
        "output_tokens": used.output_tokens,
        "cost_usd": None if used.unknown else used.cost,
        "divergences": outcome.divergences,
        "notes": outcome.notes,
    }
