"""A limit on what live calls may cost, put into a plan with the prices by which its processes keep it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from unspool.cli.listing import LLM_PREFIX
from unspool.cli.prices import Prices
from unspool.errors import UsageError
from unspool.recording.reader import RecordReader
from unspool.serving.spending import Price

__all__ = ["rules_for_cost"]

# Prompts from which some models cost more: the tiers of today's public lists start at one of these.
_TIERS: Final = (0, 32_000, 64_000, 128_000, 200_000, 256_000, 272_000, 512_000, 1_000_000)


def rules_for_cost(
    readers: Sequence[RecordReader], prices: Prices, max_cost: float | None, model: str | None = None
) -> dict[str, Any]:
    """The fields of a plan for a limit; none without one.

    Args:
        readers: the run that is forked: its models are the ones that will be asked.
        max_cost: US dollars.
        model: another model that will be asked.

    Raises:
        UsageError: no price is known, so that no limit can be kept.
    """
    if max_cost is None:
        return {}
    paths = _models(readers)
    if model is not None:
        paths |= dict.fromkeys(f"{path.partition('/')[0]}/{model}" for path in list(paths))
    known = [price for path in paths for price in _prices(prices, path)]
    if not known:
        raise UsageError(
            f"--max-cost: no price is known for {', '.join(paths) or 'any model of this run'}, so the limit cannot be "
            "kept. Give prices with --prices, or limit the number of calls with --max-calls"
        )
    return {"max_cost_usd": max_cost, "prices": known}


def _models(readers: Sequence[RecordReader]) -> dict[str, None]:
    """`<vendor>/<model>` of every call: as it was asked for, and as the answer named it."""
    found: dict[str, None] = {}
    for reader in readers:
        asked: dict[int | None, str] = {}
        for event in reader.bare_events():
            path = event.syscall.args.get("path") if event.syscall is not None else None
            if isinstance(path, str) and path.startswith(LLM_PREFIX):
                asked[event.call] = path.removeprefix(LLM_PREFIX)
                found[asked[event.call]] = None
            elif event.llm is not None and event.llm.model and event.call in asked:
                found[f"{asked[event.call].partition('/')[0]}/{event.llm.model}"] = None
    return found


def _prices(prices: Prices, path: str) -> list[Price]:
    """The price of a model for every length of prompt."""
    vendor, _, model = path.partition("/")
    found: list[Price] = []
    for above in _TIERS:
        rates = prices(vendor, model, 0, above + 1)
        if rates is None:
            continue
        price = Price(path, rates.input, rates.output, rates.cached, rates.cache_write, rates.request, above)
        last = found[-1] if found else None
        if last is None or (last.input, last.output, last.cached) != (price.input, price.output, price.cached):
            found.append(price)
    return found
