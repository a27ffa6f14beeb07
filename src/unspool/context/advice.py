"""What to do about the contexts of a run, and what it would have saved in it, in tokens and in money."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from unspool.context.breaks import CacheBreak
from unspool.context.calls import Block, Run
from unspool.context.charges import Charge, RatesOf
from unspool.context.lives import Fate, Life, Lives
from unspool.context.refill import refill_usd

__all__ = ["Advice", "AdviceKind", "advise"]

Refill: TypeAlias = Callable[[Iterable[tuple[Life, int]]], float]
"""What leaving out these, from these positions on, costs once in US dollars."""

AdviceKind: TypeAlias = Literal["drop", "truncate", "summarise", "tools", "system", "prefix"]

_LEAST_SHARE: Final = 0.005  # of the tokens of the run: what saves less is not worth a line
_LARGE_SYSTEM: Final = 0.25
_SUMMARY: Final = 0.2  # of what it sums up, roughly
_WHY: Final[dict[Fate, str]] = {
    "unused": "never used",
    "duplicate": "held twice",
    "superseded": "superseded",
    "mostly unused": "used in part",
    "cold": "not used any more",
}


class Advice(Struct):
    """One thing to do, and what it would have saved over the run; `usd` is None without prices.

    `usd` is less what the provider's cache has to be filled with again, and below zero where that is more. `is_bound`
    says that it is the most it could have saved. `blocks` are what it is about.
    """

    kind: AdviceKind
    text: str
    tokens: int
    usd: float | None
    is_bound: bool = False
    blocks: list[str] = []


def advise(
    found: Lives, breaks: Sequence[CacheBreak], run: Run | None = None, rates_of: RatesOf | None = None
) -> list[Advice]:
    """Advice for one conversation, what saves the most tokens first.

    Args:
        run, rates_of: by which the costs of broken caches are known; without them nothing is taken off for these.
    """

    def refill(gone: Iterable[tuple[Life, int]]) -> float:
        blocks = [(life.block, position) for life, position in gone]
        return refill_usd(run, blocks, rates_of) if run is not None and rates_of is not None else 0.0

    total = sum(call.tokens for call in found.calls if call.is_paid) or 1
    advice = [*_drops(found.lives, refill), *_cuts(found.lives, refill), *_summary(found, refill)]
    advice += [*_unused_tools(found), *_system(found, total), *_prefix(breaks)]
    worth = [one for one in advice if one.tokens >= max(_LEAST_SHARE * total, 1)]
    return sorted(worth, key=lambda one: (one.is_bound, -one.tokens))


def _sum(charges: Sequence[Charge]) -> Charge:
    total = Charge()
    for charge in charges:
        total = total.plus(charge)
    return total


def _net(usd: float | None, refill: float) -> float | None:
    return None if usd is None else usd - refill


def _drops(lives: Sequence[Life], refill: Refill) -> list[Advice]:
    by_tool: defaultdict[tuple[str, Fate], list[Life]] = defaultdict(list)
    for life in lives:
        if life.fate in ("unused", "duplicate", "superseded") and life.gone_at is not None:
            by_tool[life.block.name, life.fate].append(life)
    advice = []
    for (tool, fate), group in by_tool.items():
        saved = _sum([life.wasted for life in group])
        count = f"{len(group)} results" if len(group) > 1 else "the result"
        text = f"drop {count} of {tool} ({_WHY[fate]}): {_names([life.block for life in group])}"
        usd = _net(saved.cost, refill([(life, life.gone_at) for life in group if life.gone_at is not None]))
        advice.append(Advice("drop", text, round(saved.tokens), usd, blocks=[one.block.key for one in group]))
    return advice


def _cuts(lives: Sequence[Life], refill: Refill) -> list[Advice]:
    advice = []
    for life in lives:
        if life.part is None or life.gone_at is None:
            continue
        verb = "was" if len(life.part.lines) == 1 else "were"
        used = f"{len(life.part.lines)} of its {life.part.of:,} lines {verb} used"
        text = f"truncate {life.block.key}, the result of {life.block.name}: {used}"
        tokens, usd = life.wasted.tokens, _net(life.wasted.cost, refill([(life, life.gone_at)]))
        if usd is not None and usd <= 0 and life.charge.cost is not None:
            # Cut once it stands in a cached prompt it costs more than it saves; cut by the tool it breaks no cache.
            text = f"have {life.block.name} return less: of {life.block.key} {used.replace(' its', '', 1)}"
            share = 1 - life.part.share
            tokens, usd = life.charge.tokens * share, life.charge.cost * share
        advice.append(Advice("truncate", text, round(tokens), usd, blocks=[life.block.key]))
    return advice


def _summary(found: Lives, refill: Refill) -> list[Advice]:
    cold = [life for life in found.lives if life.fate == "cold" and life.gone_at is not None]
    if len(cold) < 2:
        return []
    # Summarised once, when the last of those that cost the most had gone cold.
    at = sorted(life.gone_at or 0 for life in cold)[len(cold) // 2]
    ready = [life for life in cold if (life.gone_at or 0) <= at]
    saved = _sum([life.wasted for life in ready])
    call = next((one for one in found.calls if one.position == at), found.call)
    where = f"step {call.step}" if call.step is not None else call.name
    text = f"summarise {len(ready)} messages before {where}: nothing refers to them after it"
    keep = 1 - _SUMMARY
    usd = _net(saved.cost * keep, refill([(life, at) for life in ready])) if saved.cost is not None else None
    return [Advice("summarise", text, round(saved.tokens * keep), usd, True, [one.block.key for one in ready])]


def _unused_tools(found: Lives) -> list[Advice]:
    called = {
        call.name for life in found.lives if life.block.message for call in life.block.message.tool_calls or ()
    } | {life.block.name for life in found.lives if life.block.is_tool_result}
    unused = [life for life in found.lives if life.block.category == "tools" and life.block.name not in called]
    if not unused or len(found.calls) < 2:
        return []
    saved = _sum([life.charge for life in unused])
    names = list(dict.fromkeys(life.block.name for life in unused))
    count = "a tool" if len(names) == 1 else f"{len(names)} tools"
    text = f"leave out {count} never called: {_list(names)}"
    return [Advice("tools", text, round(saved.tokens), saved.cost, blocks=[life.block.key for life in unused])]


def _system(found: Lives, total: int) -> list[Advice]:
    lives = [life for life in found.lives if life.block.category == "system"]
    charge = _sum([life.charge for life in lives])
    if charge.tokens < _LARGE_SYSTEM * total or len(found.calls) < 2:
        return []
    share = round(100 * charge.tokens / total)
    text = f"move what is seldom needed out of the system prompt: it is {share}% of all input"
    return [Advice("system", text, round(charge.tokens), charge.cost, True, ["system"])]


def _prefix(breaks: Sequence[CacheBreak]) -> list[Advice]:
    by_cause: defaultdict[str, list[CacheBreak]] = defaultdict(list)
    for one in breaks:
        by_cause[one.cause].append(one)
    advice = []
    for cause, group in by_cause.items():
        costs = [one.usd for one in group if one.usd is not None]
        calls = group[0].call.name if len(group) == 1 else f"{len(group)} calls"
        text = f"keep the cached prefix stable ({calls}): {cause}"
        advice.append(Advice("prefix", text, round(sum(one.repaid for one in group)), sum(costs) if costs else None))
    return advice


def _names(blocks: Sequence[Block]) -> str:
    return _list([block.key for block in blocks])


def _list(names: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
