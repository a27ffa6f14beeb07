"""What the live calls of a fork have cost together, known to every process of it, so that a limit can be kept."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["SPENT_NAME", "Price", "note_cost", "price_of", "why_no_more"]

SPENT_NAME: Final = "spent"
_UNKNOWN: Final = b"?\n"


class Price(msgspec.Struct, omit_defaults=True):
    """US dollars for one token of each kind, for calls of one model with more than `above` input tokens.

    Attributes:
        path: `<vendor>/<model>`, as in the device path.
        request: for a call, whatever its length.
    """

    path: str
    input: float
    output: float
    cached: float
    cache_write: float
    request: float = 0.0
    above: int = 0

    def cost(self, input_tokens: int, output_tokens: int, cached: int, cache_write: int) -> float:
        """US dollars for one call; `cached` and `cache_write` are among the `input_tokens`."""
        rest = max(input_tokens - cached - cache_write, 0)
        read = rest * self.input + cached * self.cached + cache_write * self.cache_write
        return read + output_tokens * self.output + self.request


def price_of(prices: Iterable[Price], paths: Iterable[str], input_tokens: int) -> Price | None:
    """The price of a call: of the first of these models that has one, for prompts of that length."""
    known = list(prices)
    for path in paths:
        fitting = [price for price in known if price.path == path and price.above < max(input_tokens, 1)]
        if fitting:
            return max(fitting, key=lambda price: price.above)
    return None


def note_cost(folder: Path, cost: float | None) -> None:
    """Add the cost of an answered call; None is unknown. One `write(2)`, so that processes never mix.

    Raises:
        OSError: it cannot be written.
    """
    fd = os.open(folder / SPENT_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, _UNKNOWN if cost is None else f"{cost!r}\n".encode())
    finally:
        os.close(fd)


def why_no_more(folder: Path, limit: float) -> str | None:
    """Why no other call may be sent under a limit in US dollars; None if one may. Calls in flight do not count."""
    try:
        lines = (folder / SPENT_NAME).read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        lines = []
    if _UNKNOWN in lines:
        return "the price of a live call is not known, so the limit cannot be kept (--max-cost)"
    spent = sum(float(line) for line in lines)
    if spent >= limit:
        return f"live model calls have cost ${spent:.4f}, the limit is ${limit:g} (--max-cost)"
    return None
