"""The forks that a bisection asks for: run one after the other within the limits, and judged."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final

from msgspec import Struct, field

from unspool.cli.listing import answer_cost
from unspool.cli.live_calls import LiveCall, live_calls, why_unanswered
from unspool.cli.prices import Prices
from unspool.cli.spending_limit import rules_for_cost
from unspool.cli.supervise import supervise
from unspool.cli.terminal import note
from unspool.durations import later
from unspool.errors import UsageError
from unspool.events import RecordEventType
from unspool.recording.reader import RecordReader
from unspool.recording.stdout import STDOUT_NAME, read_stdout
from unspool.replay.bisect import Bisection, Candidate, Probe
from unspool.replay.bisect_format import format_probe
from unspool.replay.rerun import Outcome
from unspool.serving.offers import make_plan, open_tree
from unspool.store import Store, new_hex_id
from unspool.text import show_text

__all__ = ["Search", "Searching", "call_costs"]

_CANNOT_TELL: Final = 125  # as `git bisect run` has it
_CONFIRMATIONS: Final = 3  # rounds of more samples at the two calls that matter, while chance is not excluded
_LAST_WORDS: Final = 4096  # bytes of what a program wrote to standard error, of which the last line is shown


class Searching(Struct):
    """How to search.

    Attributes:
        check: the shell command that judges an outcome.
        prices: what the calls cost.
        live_tools: tools that may run for real; `*` is all.
        rules: more fields of the plan of each fork.
        max_calls, max_cost: limits of all forks together; None is none.
    """

    check: str
    prices: Prices
    live_tools: list[str] = field(default_factory=list)
    rules: dict[str, Any] = field(default_factory=dict)
    max_calls: int | None = None
    max_cost: float | None = None


class Search:
    """Runs the forks that a bisection asks for.

    Attributes:
        stopped: why there were no more; "" if there were enough.
    """

    def __init__(self, store: Store, readers: Sequence[RecordReader], how: Searching) -> None:
        self.store = store
        self.readers = readers
        self.how = how
        self.calls_left = how.max_calls
        self.cost_left = how.max_cost
        self.stopped = ""
        self._id = new_hex_id()[:16]
        self._forks = 0

    def refuse_what_passes(self, record_id: str) -> None:
        """The run itself must fail the check, else there is nothing to find.

        Raises:
            UsageError: it passes, or the check cannot tell.
        """
        verdict = self._judge(record_id)
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
        """Fork until the call is found, a limit is reached, or the model cannot be.

        Raises:
            UsageError: the check could not be run at all.
        """
        if every:
            for candidate in reversed(bisection.candidates):
                if not self.stopped:
                    self._probe(bisection, candidate)
        while not self.stopped and (following := bisection.next_candidate()) is not None:
            self._probe(bisection, following)
        for _ in range(_CONFIRMATIONS if confirm else 0):
            verdict = bisection.verdict()
            if self.stopped or verdict.is_confirmed or verdict.decisive is None or verdict.settled is None:
                return
            for probe in (verdict.settled, verdict.decisive):
                self._probe(bisection, probe.candidate)

    def _probe(self, bisection: Bisection, candidate: Candidate) -> Probe | None:
        """Fork at a candidate and note what came out."""
        outcomes: list[bool | None] = []
        records: list[str] = []
        for _ in range(bisection.samples):
            if self.stopped:
                break
            with tempfile.TemporaryFile() as said:
                outcome = self._fork(candidate, said)
                calls = self._spend(outcome)
                if self.stopped and outcome.status != "forked":
                    break  # cut off by the limit: it says nothing about the call
                if outcome.rerun is not None:
                    records.append(outcome.rerun)
                why = self._why_no_judgement(outcome, calls)
                outcomes.append(self._judge(outcome.rerun) if why is None and outcome.rerun is not None else None)
                if outcomes[-1] is None:
                    note(f"unspool: call {candidate.call}: {why or 'the check cannot tell'}{_last_words(said)}")
        if not outcomes:
            return None
        probe = bisection.add(candidate, outcomes, records)
        note("unspool: " + format_probe(probe))
        return probe

    def _fork(self, candidate: Candidate, said: IO[bytes]) -> Outcome:
        """One fork without edits: the model is asked afresh from the candidate on. Its output is kept, not shown."""
        plan, offers = make_plan(
            self.readers,
            target=(self.readers[0].record_id, candidate.seq_num),
            live_tools=self.how.live_tools,
            max_calls=self.calls_left,
            **self.how.rules,
            **rules_for_cost(self.readers, self.how.prices, self.cost_left),
        )
        self._forks += 1
        return supervise(
            self.store,
            plan,
            offers,
            name=f"bisect call {candidate.call}",
            forked_at=candidate.seq_num,
            stdout=subprocess.DEVNULL,
            stderr=said.fileno(),
            bisect=(self._id, self._forks),
        )

    def _spend(self, outcome: Outcome) -> list[LiveCall]:
        """Count what a fork sent against the limits; the calls of it that have ended."""
        if outcome.rerun is None:
            return []
        readers = open_tree(self.store, outcome.rerun)
        try:
            sent, cost = _sent(readers, self.how.prices)
            calls = live_calls(readers)
        finally:
            for reader in readers:
                reader.close()
        if self.calls_left is not None:
            self.calls_left -= sent
            if self.calls_left <= 0:
                self.stopped = "--max-calls is used up"
        if self.cost_left is not None:
            self.cost_left -= cost
            if self.cost_left <= 0:
                self.stopped = "--max-cost is used up"
        return calls

    def _why_no_judgement(self, outcome: Outcome, calls: Sequence[LiveCall]) -> str | None:
        """Why a fork says nothing about its call, so that the check is not asked; None if it is to be."""
        if outcome.status != "forked":
            first = outcome.divergences[0] if outcome.divergences else None
            reason = (first.reason or first.what) if first is not None else "it did not get to its call"
            return f"the fork failed and is not judged: {show_text(reason, 300)}"
        unanswered = why_unanswered(calls)
        if unanswered is not None:
            # The next would fare no better, and each one takes the time of all tries of the program's client.
            self.stopped = (
                f"the model cannot be reached ({unanswered}). Start it again, or name another server: --base-url URL"
                if calls[-1].status is None
                else f"the model refuses to answer ({unanswered}). The program has the keys of this environment"
            )
            return "the model answered no call of the fork, which is not judged"
        if calls and not calls[-1].is_answered:
            return f"the model failed during the fork, which is not judged: {show_text(calls[-1].error, 200)}"
        return None

    def _judge(self, record_id: str) -> bool | None:
        """What the check says of a run; None if it cannot tell.

        Raises:
            UsageError: the check could not be run at all.
        """
        folder: Path = self.store.records / record_id
        output = read_stdout(folder)
        environ = {**os.environ, "UNSPOOL_RECORD": record_id, "UNSPOOL_STORE": str(self.store.path)}
        check = self.how.check
        done = subprocess.run(
            ["/bin/sh", "-c", check], input=output.kept, env=environ, stdout=subprocess.DEVNULL, check=False
        )
        if done.returncode in (126, 127):
            raise UsageError(f"the check could not be run (exit code {done.returncode}): {show_text(check, 200)}")
        return None if done.returncode == _CANNOT_TELL else done.returncode == 0


def call_costs(readers: Sequence[RecordReader], prices: Prices) -> dict[tuple[str, int | None], float | None]:
    """What each model call cost in US dollars, by record id and number; None is unknown."""
    costs: dict[tuple[str, int | None], float | None] = {}
    for reader in readers:
        paths: dict[int | None, str] = {}
        start = reader.metadata.start_time
        for event in reader.bare_events():
            if event.syscall is not None and event.syscall.syscall == "LLMCall":
                paths[event.call] = str(event.syscall.args.get("path", ""))
            elif event.llm is not None:
                at = later(start, event.timestamp)
                costs[reader.record_id, event.call] = answer_cost(prices, paths.get(event.call, ""), event.llm, at)
    return costs


def _sent(readers: Sequence[RecordReader], prices: Prices) -> tuple[int, float]:
    """Live model calls of a fork, and what they cost as far as prices are known."""
    live = {
        (reader.record_id, event.call)
        for reader in readers
        for event in reader.bare_events()
        if event.type is RecordEventType.LLM_RESPONSE and event.origin != "served"
    }
    return len(live), sum(cost or 0.0 for key, cost in call_costs(readers, prices).items() if key in live)


def _last_words(said: IO[bytes]) -> str:
    """The last line of what a program wrote to standard error, to be put behind what is said of it."""
    size = said.seek(0, os.SEEK_END)
    said.seek(max(size - _LAST_WORDS, 0))
    lines = [line for line in said.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return f". The program's last line: {show_text(lines[-1].strip(), 200)}" if lines else ""
