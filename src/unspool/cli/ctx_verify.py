"""`unspool ctx --verify`: a request without a block, sent for real, and whether the model says the same."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from unspool.cli import amounts
from unspool.cli.fork_send import Sending, send_samples
from unspool.cli.prices import Prices
from unspool.context.calls import Block, Call
from unspool.context.whatif import Dropped
from unspool.errors import UsageError
from unspool.events import LLMResponse, ToolCall
from unspool.recording.reader import RecordReader
from unspool.replay.forkplan import ForkOptions, ForkPlan, draft_of, plan_fork
from unspool.replay.forkpoint import kept_state, point_of
from unspool.replay.livecall import SendFailed
from unspool.replay.restore import SnapshotRestorer
from unspool.text import show_text

if TYPE_CHECKING:
    from unspool.cli.ctx_whatif import Without

__all__ = ["Check", "Outcome", "Verifying", "check_json", "check_lines", "compare_answers", "verify"]

Outcome: TypeAlias = Literal["same", "same tool calls", "different", "failed"]


class Verifying(Struct):
    """How to verify: `max_calls` is the number of requests sent at most; the rest is as in `Sending`."""

    prices: Prices
    samples: int = 1
    max_calls: int = 5
    base_url: str | None = None
    key_env: str | None = None


class Check(Struct):
    """What the model said at one call without one block.

    Attributes:
        outcomes: of each sample.
        recorded, answers: what it had said, and what it says now.
        problem: why nothing could be sent.
    """

    block: str
    call: str
    outcomes: list[Outcome]
    recorded: str = ""
    answers: list[str] = []
    cost_usd: float | None = None
    problem: str | None = None

    @property
    def is_proven(self) -> bool:
        """Whether the model did without the block every time."""
        return bool(self.outcomes) and all(one in ("same", "same tool calls") for one in self.outcomes)


def verify(reader: RecordReader, found: Without, how: Verifying) -> list[Check]:
    """Send the first request after each dropped block went cold without it, those that save the most first.

    Raises:
        UsageError: there is no key for the server, or it may not have it.
    """
    checks: list[Check] = []
    left = how.max_calls
    for one in found.dropped:
        if left <= 0:
            break
        samples = min(how.samples, left)
        checks.append(_check(reader, found, one, how, samples))
        left -= samples
    return checks


def _check(reader: RecordReader, found: Without, one: Dropped, how: Verifying, samples: int) -> Check:
    block = one.life.block
    call = _answered(found, one)
    if call is None:
        return Check(block.key, "–", [], problem="no later call was answered, so there is nothing to compare with")
    try:
        plan = _plan(reader, call, block, one.text)
    except UsageError as exc:
        return Check(block.key, call.name, [], problem=str(exc))
    recorded = plan.point.answer
    assert recorded is not None, "only answered calls are taken"
    check = Check(block.key, call.name, [], said(recorded))
    try:
        sent = send_samples(plan, Sending(how.prices, samples, how.base_url, how.key_env))
    except SendFailed as exc:
        check.problem = str(exc)
        return check
    for sample in sent:
        answer = sample.answer.response
        check.outcomes.append("failed" if answer.error is not None else compare_answers(recorded, answer))
        check.answers.append(said(answer))
    costs = [sample.cost for sample in sent if sample.cost is not None]
    check.cost_usd = sum(costs) if costs else None
    return check


def _answered(found: Without, one: Dropped) -> Call | None:
    """The first call from where the block is gone on that held it and was answered."""
    assert one.at is not None, "only blocks that go are checked"
    calls = found.view.run.conversation_of(found.view.call)
    return next(
        (
            call
            for call in calls
            if call.position >= one.at
            and call.llm is not None
            and call.llm.error is None
            and call.llm.partial is None
            and any(block is one.life.block for block in call.messages)
        ),
        None,
    )


def _plan(reader: RecordReader, call: Call, block: Block, text: str) -> ForkPlan:
    message = block.message
    if message is None or block.category == "system":
        raise UsageError(f"{block.key} is no message. Try another prompt with: unspool fork --set-system … --send")
    where = point_of(reader, call.seq_num)
    draft = draft_of(where, kept_state(reader, where), ForkOptions())
    place = sum(one.category != "system" for one in call.messages[: _place_of(call, block)])
    lines = [line for line in draft.lines if line.message is not None]
    line = lines[place] if place < len(lines) else None
    if line is None or line.message is None or line.message.content != message.content:
        line = next(
            (
                one
                for one in lines
                if one.message is not None
                and one.message.content == message.content
                and one.message.tool_call_id == message.tool_call_id
            ),
            None,
        )
    if line is None:
        raise UsageError(f"{block.key} cannot be told apart in the request of {call.name}")
    line.text = text
    return plan_fork(where, draft, ForkOptions(), SnapshotRestorer(reader).restore_context(where.seq_num))


def _place_of(call: Call, block: Block) -> int:
    return next(index for index, one in enumerate(call.messages) if one is block)


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


def check_lines(check: Check, width: int | None) -> list[str]:
    """A check for people."""
    name = f"  {show_text(check.block)} at {check.call}: "
    if check.problem is not None:
        return _wrapped(f"{name}not checked: {show_text(check.problem)}", width)
    cost = f" ({amounts.cost(check.cost_usd)})" if check.cost_usd is not None else ""
    if len(check.outcomes) == 1:
        words = {
            "same": "proven: the model says the same without it",
            "same tool calls": "proven: the model does the same without it, in other words",
            "different": "NOT proven: the model says something else without it",
            "failed": "the provider refused the request",
        }
        verdict = words[check.outcomes[0]]
    else:
        same = sum(one in ("same", "same tool calls") for one in check.outcomes)
        verdict = (
            f"{'proven' if check.is_proven else 'NOT proven'}: the same in {same} of {len(check.outcomes)} answers"
        )
    lines = _wrapped(f"{name}{verdict}{cost}", width)
    if not check.is_proven:
        other = next(
            (
                answer
                for answer, outcome in zip(check.answers, check.outcomes, strict=True)
                if outcome in ("different", "failed")
            ),
            "",
        )
        at = _shared_start(check.recorded, other)
        lines += [f"    recorded: {_from(check.recorded, at)}", f"    now:      {_from(other, at)}"]
    return lines


def _shared_start(one: str, other: str) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _from(text: str, at: int) -> str:
    """The text around the place where it differs."""
    start = max(at - 20, 0) if at > 40 else 0
    return ("…" if start else "") + show_text(text[start:], 62)


def check_json(check: Check) -> dict[str, Any]:
    """A check for programs."""
    return {
        "block": check.block,
        "call": check.call,
        "proven": check.is_proven,
        "outcomes": check.outcomes,
        "recorded": check.recorded,
        "answers": check.answers,
        "cost_usd": check.cost_usd,
        "problem": check.problem,
    }


def _wrapped(text: str, width: int | None) -> list[str]:
    if width is None:
        return [text]
    return textwrap.wrap(
        text, max(width, 40), subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    ) or [text]
