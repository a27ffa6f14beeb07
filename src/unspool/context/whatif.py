"""The run without some blocks: its tokens and its cost, had they been dropped when they went cold."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from unspool.context.calls import Call, Run
from unspool.context.charges import Charge, Charges, RatesOf
from unspool.context.lives import Fate, Life, Lives

__all__ = ["LEAKED", "Dropped", "WhatIf", "find_blocks", "leaked_lives", "without_blocks"]

LEAKED: tuple[Fate, ...] = ("unused", "duplicate", "superseded", "mostly unused")


class Dropped(Struct):
    """One block that is left out.

    Attributes:
        at: position of the first call without it; None: no call after it went cold held it, so nothing is saved.
        text: what stands in its place: providers want a result for every tool call.
        saved: what the calls from there on paid for it.
        is_used: an output refers to it after it was dropped.
    """

    life: Life
    at: int | None
    text: str
    saved: Charge
    is_used: bool = False


class WhatIf(Struct):
    """A conversation with and without some blocks.

    `anew_usd` is what dropping them costs once each: the provider's cache does not hold what stands behind them.
    Costs are None without prices.
    """

    calls: int
    tokens: int
    usd: float | None
    dropped: list[Dropped]
    saved_tokens: int
    saved_usd: float | None
    anew_usd: float = 0.0


def leaked_lives(found: Lives) -> list[Life]:
    """Those that leaked, in whole or for the most part."""
    return [life for life in found.lives if life.fate in LEAKED]


def find_blocks(found: Lives, name: str) -> list[Life]:
    """The blocks that a person means: `7` or `#7`, the id of a tool call, `tool:NAME`
    (or `NAME`), `def:NAME`, `system`."""
    bare = name.removeprefix("#")
    if bare.isdecimal():
        return [life for life in found.lives if life.block.number == int(bare[:18])]
    results = [
        life for life in found.lives if life.block.is_tool_result and life.block.name == name.removeprefix("tool:")
    ]
    return results or [
        life
        for life in found.lives
        if life.block.key == name or (life.block.message is not None and life.block.message.tool_call_id == name)
    ]


def without_blocks(run: Run, found: Lives, chosen: Sequence[Life], usd: float | None, rates_of: RatesOf) -> WhatIf:
    """The conversation of `found` without these blocks.

    Args:
        usd: what it cost; None is unknown.
    """
    whole = run.conversation_of(found.call)
    paid = [call for call in whole if call.is_paid]
    places = [(life, life.gone_at if life.fate is not None else _next_call(paid, life)) for life in chosen]
    asked = [(life.block, at) for life, at in places if at is not None]
    charges = Charges(whole, rates_of).since(asked)
    dropped = []
    for life, at in places:
        charge = charges[id(life.block), at] if at is not None else Charge()
        share = 1 - life.part.share if life.part is not None else 1.0
        saved = charge._replace(tokens=charge.tokens * share, cached=charge.cached * share, usd=charge.usd * share)
        is_used = (
            life.part is None and at is not None and any(use.call is not None and use.call >= at for use in life.uses)
        )
        dropped.append(Dropped(life, at, _in_its_place(life), saved, is_used))
    dropped.sort(key=lambda one: -one.saved.tokens)
    known = [one.saved.usd for one in dropped if one.saved.priced]
    return WhatIf(
        calls=len(paid),
        tokens=sum(call.tokens for call in paid),
        usd=usd,
        dropped=dropped,
        saved_tokens=round(sum(one.saved.tokens for one in dropped)),
        saved_usd=sum(known) if known else None,
        anew_usd=_anew(run, dropped, rates_of),
    )


def _next_call(paid: Sequence[Call], life: Life) -> int | None:
    """For a block that is not cold: the call after the first one that read it."""
    read = [call.position for call in paid if call.position >= life.block.first]
    return read[1] if len(read) > 1 and read[1] <= life.block.last else None


def _in_its_place(life: Life) -> str:
    if life.part is not None:
        return life.part.text
    return f"[left out: about {round(life.block.weight):,} tokens]"


def _anew(run: Run, dropped: Sequence[Dropped], rates_of: RatesOf) -> float:
    total = 0.0
    gone: dict[int, set[int]] = {}
    for one in dropped:
        if one.at is not None:
            gone.setdefault(one.at, set()).add(id(one.life.block))
    for position, blocks in gone.items():
        call = run.calls[position]
        rates = rates_of(call)
        cached = (call.llm.cached_tokens or 0) if call.llm is not None else 0
        if rates is None or not cached:
            continue
        before = 0.0
        for block in call.blocks:
            if id(block) in blocks:
                break
            before += block.weight
        behind = cached - call.unseen - before * call.factor
        total += max(behind, 0.0) * max(rates.input - rates.cached, 0.0)
    return total
