"""The run without some blocks: its tokens and its cost, had they been dropped when they went cold."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from unspool.context.calls import Call, Run
from unspool.context.charges import Charge, Charges, RatesOf
from unspool.context.lives import Fate, Life, Lives
from unspool.context.refill import refill_usd

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
    `never_tokens` and `never_usd` are what would have been saved had they never come in, and broken no cache. Costs are
    None without prices.
    """

    calls: int
    tokens: int
    usd: float | None
    dropped: list[Dropped]
    saved_tokens: int
    saved_usd: float | None
    anew_usd: float = 0.0
    never_tokens: int = 0
    never_usd: float | None = None

    @property
    def is_dearer(self) -> bool:
        """Whether leaving them out, when they went cold, costs more than it saves."""
        return self.saved_usd is not None and self.anew_usd > self.saved_usd


def leaked_lives(found: Lives) -> list[Life]:
    """Those that leaked, in whole or for the most part, into a call that should have done without them."""
    return [life for life in found.lives if life.fate in LEAKED and life.gone_at is not None]


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
        saved = _left(life, charge)
        is_used = (
            life.part is None and at is not None and any(use.call is not None and use.call >= at for use in life.uses)
        )
        dropped.append(Dropped(life, at, _in_its_place(life), saved, is_used))
    dropped.sort(key=lambda one: -one.saved.tokens)
    known = [one.saved.usd for one in dropped if one.saved.priced]
    never = [_left(one.life, one.life.charge) for one in dropped if one.at is not None]
    return WhatIf(
        calls=len(paid),
        tokens=sum(call.tokens for call in paid),
        usd=usd,
        dropped=dropped,
        saved_tokens=round(sum(one.saved.tokens for one in dropped)),
        saved_usd=sum(known) if known else None,
        anew_usd=refill_usd(run, [(one.life.block, one.at) for one in dropped if one.at is not None], rates_of),
        never_tokens=round(sum(one.tokens for one in never)),
        never_usd=sum(one.usd for one in never) if any(one.priced for one in never) else None,
    )


def _left(life: Life, charge: Charge) -> Charge:
    """A charge for a block less the part of it that was used."""
    share = 1 - life.part.share if life.part is not None else 1.0
    return charge._replace(tokens=charge.tokens * share, cached=charge.cached * share, usd=charge.usd * share)


def _next_call(paid: Sequence[Call], life: Life) -> int | None:
    """For a block that is not cold: the call after the first one that read it."""
    read = [call.position for call in paid if call.position >= life.block.first]
    return read[1] if len(read) > 1 and read[1] <= life.block.last else None


def _in_its_place(life: Life) -> str:
    if life.part is not None:
        return life.part.text
    return f"[left out: about {round(life.block.weight):,} tokens]"
