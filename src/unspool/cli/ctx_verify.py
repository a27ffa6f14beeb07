"""`unspool ctx --verify`: a fork without the blocks, and whether the model's next output stays the same.

The blocks are left out together, in the first request by which all of them have gone cold; that request is sent for
real, and what the model says is compared with what it had said. Each answer is kept as a fork. Where it is another one,
each block is tried alone, at its own point, to tell which was needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec
from msgspec import Struct

from unspool.cli.ctx_edits import answered_from, holds, plan_without
from unspool.cli.fork_record import keep_sent_fork
from unspool.cli.fork_send import Sending, send_samples
from unspool.cli.prices import Prices
from unspool.cli.terminal import note
from unspool.context.calls import Call
from unspool.context.whatif import Dropped
from unspool.errors import StoreError, UsageError
from unspool.events import LLMResponse, RecordMetadata, ToolCall
from unspool.recording.reader import RecordReader
from unspool.replay.livecall import SendFailed, live_request
from unspool.store import Store

if TYPE_CHECKING:
    from unspool.cli.ctx_whatif import Without

__all__ = ["Check", "Outcome", "Verifying", "compare_answers", "said", "verify"]

Outcome: TypeAlias = Literal["same", "same tool calls", "different", "failed"]


class Verifying(Struct):
    """How to verify.

    Attributes:
        prices: what calls cost.
        samples: how often each request is sent.
        max_calls, max_cost: of all requests together; the cost in US dollars, None is no limit.
        base_url, key_env: as in `Sending`.
        is_each: each block is tried alone as well, whatever came of all together.
    """

    prices: Prices
    samples: int = 1
    max_calls: int = 5
    max_cost: float | None = None
    base_url: str | None = None
    key_env: str | None = None
    is_each: bool = False


class Check(Struct):
    """What the model said at one call without some blocks.

    Attributes:
        outcomes: of each sample.
        recorded, answers: what it had said, and what it says now.
        forks: where the samples are kept.
        problem: why nothing could be sent.
    """

    blocks: list[str]
    call: str
    outcomes: list[Outcome] = []
    recorded: str = ""
    answers: list[str] = []
    forks: list[RecordMetadata] = []
    cost_usd: float | None = None
    problem: str | None = None

    @property
    def is_proven(self) -> bool:
        """Whether the model did without the blocks every time."""
        return bool(self.outcomes) and all(one in ("same", "same tool calls") for one in self.outcomes)


def verify(store: Store, reader: RecordReader, found: Without, how: Verifying) -> list[Check]:
    """Leave the blocks out, all together first, and ask.

    Raises:
        UsageError: there is no key for the server, or it may not have it.
    """
    asking = _Asking(store, reader, how)
    checks: list[Check] = []
    places: list[tuple[Dropped, Call]] = []
    for one in found.dropped:
        call = answered_from(found.view.run, found.view.call, one)
        if call is None:
            nothing = "no later call was answered, so there is nothing to compare with"
            checks.append(Check([one.life.block.key], "–", problem=nothing))
        else:
            places.append((one, call))
    while places:
        # A block that the last of these calls no longer holds has left the context before: it is asked for apart.
        last = max((call for _, call in places), key=lambda call: call.position)
        group = [(one, call) for one, call in places if holds(last, one)]
        places = [place for place in places if place not in group]
        together = asking.ask(last, [one for one, _ in group])
        if together is not None:
            checks.append(together)
        is_other = together is not None and bool(together.outcomes) and not together.is_proven
        if len(group) > 1 and (how.is_each or is_other):
            alone = (asking.ask(call, [one]) for one, call in group)
            checks += [check for check in alone if check is not None]
    if asking.stopped is not None:
        note(f"unspool: not all is checked: {asking.stopped}")
    return checks


class _Asking:
    """Sends, within the limits."""

    def __init__(self, store: Store, reader: RecordReader, how: Verifying) -> None:
        self._store, self._reader, self._how = store, reader, how
        self._left = how.max_calls
        self._cost: float | None = 0.0
        self.stopped: str | None = None

    def ask(self, call: Call, blocks: Sequence[Dropped]) -> Check | None:
        """What the model says at a call without these blocks; None if a limit allows no more."""
        check = Check([one.life.block.key for one in blocks], call.name)
        limit = self._limit()
        if limit is not None:
            self.stopped = limit
            return None
        try:
            plan = plan_without(self._reader, call, blocks)
        except UsageError as exc:
            check.problem = str(exc)
            return check
        recorded = plan.point.answer
        assert recorded is not None, "only answered calls are taken"
        check.recorded = said(recorded)
        how = self._how
        request = live_request(plan, how.base_url)
        samples, costs = min(how.samples, self._left), []
        for _ in range(samples):
            if self._limit() is not None:
                break
            self._left -= 1  # also where no answer comes: it may have been paid for
            try:
                [sample] = send_samples(plan, Sending(how.prices, 1, how.base_url, how.key_env))
            except SendFailed as exc:
                check.problem = str(exc)
                break
            answer = sample.answer.response
            check.outcomes.append("failed" if answer.error is not None else compare_answers(recorded, answer))
            check.answers.append(said(answer))
            costs.append(sample.cost)
            self._pay(sample.cost)
            try:
                check.forks.append(keep_sent_fork(self._store, self._reader, plan, request, sample.answer))
            except (StoreError, OSError) as exc:
                note(f"unspool: the answer is not kept as a fork: {exc}")
        known = [cost for cost in costs if cost is not None]
        check.cost_usd = sum(known) if known else None
        return check

    def _pay(self, cost: float | None) -> None:
        self._cost = None if cost is None or self._cost is None else self._cost + cost

    def _limit(self) -> str | None:
        how = self._how
        if self._left <= 0:
            return f"--max-calls {how.max_calls} is used up"
        if how.max_cost is None:
            return None
        if self._cost is None:
            return "the price of a call is not known, so --max-cost cannot be kept"
        return f"--max-cost {how.max_cost:g} is used up" if self._cost >= how.max_cost else None


def compare_answers(recorded: LLMResponse, answer: LLMResponse) -> Outcome:
    """Whether two answers say the same: tool calls by name and arguments, texts but for white space."""
    if _calls(recorded.tool_calls) != _calls(answer.tool_calls):
        return "different"
    if recorded.text.split() == answer.text.split():
        return "same"
    # What an agent does next is in its tool calls; the words beside them vary from one answer to the next.
    return "same tool calls" if answer.tool_calls else "different"


def _calls(calls: list[ToolCall]) -> list[tuple[str, str]]:
    return [(call.name, _canonical(call.arguments)) for call in calls]


def _canonical(arguments: str) -> str:
    try:
        return msgspec.json.encode(msgspec.json.decode(arguments), order="sorted").decode()
    except (msgspec.DecodeError, RecursionError):
        return arguments.strip()


def said(answer: LLMResponse) -> str:
    """An answer in one line."""
    if answer.error is not None:
        return f"error {answer.error.type}: {answer.error.message}"
    calls = [f"→ {call.name}({call.arguments})" for call in answer.tool_calls]
    return " ".join([*filter(None, [answer.text.strip()]), *calls])
