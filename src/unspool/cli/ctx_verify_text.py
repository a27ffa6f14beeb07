"""What `unspool ctx --verify` found, for people and for programs."""

from __future__ import annotations

import textwrap
from typing import Any, Final

from unspool.cli import amounts
from unspool.cli.ctx_verify import Check, Outcome
from unspool.text import show_text

__all__ = ["check_json", "check_lines", "wrapped"]

_VERDICTS: Final[dict[Outcome, str]] = {
    "same": "proven: the model says the same without {it}",
    "same tool calls": "proven: the model does the same without {it}, in other words",
    "different": "NOT proven: the model says something else without {it}",
    "failed": "the provider refused the request",
}
_NAMED: Final = 6


def check_lines(check: Check, width: int | None) -> list[str]:
    """A check for people."""
    named = ", ".join(show_text(block) for block in check.blocks[:_NAMED])
    if len(check.blocks) > _NAMED:
        named += f" and {len(check.blocks) - _NAMED} more"
    name = f"  {named} at {check.call}: "
    lines: list[str] = []
    if check.outcomes:
        lines = wrapped(f"{name}{_verdict(check)}{_cost(check)}{_forks(check)}", width)
    if check.problem is not None:
        missing = "not all is checked" if check.outcomes else "not checked"
        lines += wrapped(f"{name}{missing}: {show_text(check.problem)}", width)
    if check.outcomes and not check.is_proven:
        other = next(
            answer
            for answer, outcome in zip(check.answers, check.outcomes, strict=True)
            if outcome in ("different", "failed")
        )
        at = _shared_start(check.recorded, other)
        lines += [f"    recorded: {_from(check.recorded, at)}", f"    now:      {_from(other, at)}"]
    return lines


def _verdict(check: Check) -> str:
    if len(check.outcomes) == 1:
        return _VERDICTS[check.outcomes[0]].format(it="it" if len(check.blocks) == 1 else "them")
    same = sum(one in ("same", "same tool calls") for one in check.outcomes)
    return f"{'proven' if check.is_proven else 'NOT proven'}: the same in {same} of {len(check.outcomes)} answers"


def _cost(check: Check) -> str:
    return f" ({amounts.cost(check.cost_usd)})" if check.cost_usd is not None else ""


def _forks(check: Check) -> str:
    pids = [str(one.pid) for one in check.forks]
    if not pids:
        return ""
    return f"; fork {pids[0]}" if len(pids) == 1 else f"; forks {pids[0]} to {pids[-1]}"


def _shared_start(one: str, other: str) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _from(text: str, at: int) -> str:
    """The text around the place where it differs."""
    start = max(at - 20, 0) if at > 40 else 0
    return ("…" if start else "") + show_text(text[start:], 62)


def check_json(check: Check) -> dict[str, Any]:
    """A check for programs."""
    return {
        "blocks": check.blocks,
        "call": check.call,
        "proven": check.is_proven,
        "outcomes": check.outcomes,
        "recorded": check.recorded,
        "answers": check.answers,
        "forks": [one.record_id for one in check.forks],
        "cost_usd": check.cost_usd,
        "problem": check.problem,
    }


def wrapped(text: str, width: int | None) -> list[str]:
    """Lines of at most a width, those after the first set in."""
    if width is None:
        return [text]
    return textwrap.wrap(
        text, max(width, 40), subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    ) or [text]
