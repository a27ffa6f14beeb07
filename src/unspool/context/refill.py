"""What leaving blocks out costs once: the provider's cache does not hold what stands behind them any more."""

from __future__ import annotations

from collections.abc import Iterable

from unspool.context.calls import Block, Run
from unspool.context.charges import RatesOf

__all__ = ["refill_usd"]


def refill_usd(run: Run, gone: Iterable[tuple[Block, int]], rates_of: RatesOf) -> float:
    """US dollars more than the recorded calls paid, where a prompt was read from the cache and now is not.

    Args:
        gone: blocks, and the positions of the first calls without them.
    """
    places: dict[int, set[int]] = {}
    for block, position in gone:
        places.setdefault(position, set()).add(id(block))
    return sum(_of_call(run, position, blocks, rates_of) for position, blocks in places.items())


def _of_call(run: Run, position: int, blocks: set[int], rates_of: RatesOf) -> float:
    call = run.calls[position]
    rates = rates_of(call)
    cached = (call.llm.cached_tokens or 0) if call.llm is not None else 0
    if rates is None or not cached:
        return 0.0
    before = left_out = 0.0
    for block in call.blocks:
        if id(block) in blocks:
            left_out += block.weight
        elif not left_out:
            before += block.weight
    # What is left out is itself neither read nor paid for again.
    behind = cached - call.unseen - (before + left_out) * call.factor
    is_written = call.llm is not None and call.llm.cache_write_tokens is not None
    fresh = rates.cache_write if is_written else rates.input
    return max(behind, 0.0) * max(fresh - rates.cached, 0.0)
