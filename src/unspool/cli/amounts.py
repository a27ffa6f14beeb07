"""Ages, counts, money and sizes as people read them in a narrow column. `?` is what is not known; never 0."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

__all__ = ["age", "bytes_text", "cost", "count", "counted", "joined", "seconds_since", "token_sum", "tokens"]

UNKNOWN: Final = "?"
_AGES: Final = ((86400 * 7, "w"), (86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def seconds_since(start: datetime | None, end: datetime | None = None) -> float | None:
    """Seconds from `start` to `end` (now if None); None if the start is not known."""
    if start is None:
        return None
    return max(((end or datetime.now(UTC)) - start).total_seconds(), 0.0)


def age(seconds: float | None) -> str:
    """`42s`, `5m`, `3h`, `12d`, `8w`: whole units, cut off; weeks only from eight on."""
    if seconds is None:
        return UNKNOWN
    for unit, letter in _AGES:
        if seconds >= unit * (8 if letter == "w" else 1):
            return f"{int(seconds // unit)}{letter}"
    return "0s"


def count(number: int | None) -> str:
    """A small number, or `?`."""
    return UNKNOWN if number is None else str(number)


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 event`, `2 events`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def joined(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def tokens(number: int | None, *, more: bool = False) -> str:
    """`950`, `48.3k`, `1.2M`; `more` marks a lower bound with `+`."""
    if number is None:
        return UNKNOWN
    mark = "+" if more else ""
    for unit, letter in ((1_000_000, "M"), (1_000, "k")):
        if number >= unit:
            amount = number / unit
            return f"{amount:.0f}{letter}{mark}" if amount >= 100 else f"{amount:.1f}{letter}{mark}"
    return f"{number}{mark}"


def token_sum(number: int | None, unknown: int) -> str:
    """A sum as words: `950 tokens`, `48.3k+ tokens` if `unknown` calls are missing in it, `tokens unknown` if all are.

    A sum of 0 out of calls of which some are not known says nothing about what was used.
    """
    if number is None or (unknown and not number):
        return "tokens unknown"
    return f"{tokens(number, more=unknown > 0)} tokens"


def cost(usd: float | None, *, more: bool = False) -> str:
    """US dollars: `$0.0042`, `$1.27`, `$340`; `more` marks a lower bound with `+`."""
    if usd is None:
        return UNKNOWN
    mark = "+" if more else ""
    if usd == 0:
        return f"$0{mark}"
    if usd < 1:
        return f"${usd:.4f}{mark}"
    return f"${usd:.2f}{mark}" if usd < 100 else f"${usd:,.0f}{mark}"


def bytes_text(size: int) -> str:
    """`512 B`, `12.3 KB`, `4.0 MB`: powers of 1000."""
    if size < 1000:
        return f"{size} B"
    amount = float(size)
    for letter in "KMG":
        amount /= 1000
        if amount < 999.95:
            return f"{amount:.1f} {letter}B"
    return f"{amount / 1000:.1f} TB"
