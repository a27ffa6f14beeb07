"""What to do about a context, as sentences. Every limit is strict and compared in whole numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from unspool.context.amounts import percentage
from unspool.context.temperature import Leak

__all__ = ["suggest", "suggest_for_tool"]


def suggest(
    *, total: int, budget: int, system: int, tools: int, leaked: Sequence[tuple[int, Leak]], cold: int
) -> list[str]:
    """Advice in fixed order: system prompt, tools, leaked results, cold messages, budget; none for an empty context.

    Args:
        total: tokens of the context; `system`, `tools` and `cold` are parts of it, `budget` its limit (0: none).
        leaked: tokens of each leaked result and how it leaked.
    """
    if total == 0:
        return []
    advice = []
    if 4 * system > total:
        advice.append(
            f"System prompt takes {percentage(system, total):.1f}% of the context (~{system} tok): "
            "shorten it, or let the agent read the rare parts when it needs them"
        )
    if 2 * tools > total:
        advice.append(
            f"Tool results take {percentage(tools, total):.1f}% of the context (~{tools} tok): "
            "ask the tools for less, or cut results to the part that is used"
        )
    if leaked:
        advice.append(
            f"{_results(len(leaked), 'leaked tool result')} (~{sum(tokens for tokens, _ in leaked)} tok, "
            f"{_why(leaked)}): drop {'it' if len(leaked) == 1 else 'them'} from the context"
        )
    if 10 * cold > 4 * total:
        advice.append(
            f"Cold messages take {_whole_percent(cold, total)}% of the context (~{cold} tok): "
            "summarise what no output refers to any more"
        )
    if budget > 0 and 5 * total > 4 * budget:
        advice.append(
            f"Context is at {percentage(total, budget):.1f}% of its budget ({total} of {budget} tok): "
            "compact it before the next large result"
        )
    return advice


def suggest_for_tool(leaked: Sequence[tuple[int, Leak]]) -> str:
    """Advice for one tool's results; "" when none of them leaked."""
    if not leaked:
        return ""
    tokens = sum(tokens for tokens, _ in leaked)
    return f"drop {_results(len(leaked), 'leaked result')} (~{tokens} tok, {_why(leaked)})"


def _results(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


_WORDS: Final[dict[Leak, str]] = {"unused": "never used", "duplicate": "duplicate", "superseded": "superseded"}


def _why(leaked: Sequence[tuple[int, Leak]]) -> str:
    kinds = Counter(leak for _, leak in leaked)
    return ", ".join(f"{kinds[leak]} {words}" for leak, words in _WORDS.items() if kinds[leak])


def _whole_percent(part: int, whole: int) -> int:
    return (200 * part + whole) // (2 * whole)
