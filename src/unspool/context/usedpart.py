"""Which lines of a long tool result were used: those that hold what a later output says and few other lines do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from unspool.context.marks import Key, Spoken, held_marks
from unspool.tokens import estimate_tokens

__all__ = ["UsedPart", "used_part"]

LEAST_CHARS: Final = 2_000
"""Shorter results are not worth cutting."""

_MOST_SHARE: Final = 0.25  # of the tokens: a result that is used in so many places is kept whole
_COMMON_LINES: Final = 0.05  # a mark that stands in more of the lines does not say which of them was read
_LINE: Final = 400  # characters of a piece where a result has no lines, such as JSON in one
_PROOF: Final = 0.85  # of a mark: a path, an identifier, a number of three digits; not a word


class UsedPart(Struct, frozen=True):
    """What of a result was used.

    Attributes:
        lines: numbers of the lines, from 1; `of` is how many there are.
        text: these lines, and in the place of the others how many were left out.
        share: of the estimated tokens that `text` has.
        quotes: what the outputs say of each line, in the order of the lines.
    """

    lines: list[int]
    of: int
    text: str
    share: float
    quotes: list[str]


def used_part(text: str, outputs: Sequence[Spoken], known: set[Key]) -> UsedPart | None:
    """The lines that later outputs refer to; None where that is no small part, or cannot be told.

    Args:
        outputs: the later outputs.
        known: marks that were in the context before this result: they prove nothing.
    """
    if len(text) < LEAST_CHARS:
        return None
    lines = _pieces(text)
    if len(lines) < 4:
        return None
    spoken: dict[Key, str] = {}
    for output in outputs:
        for key in output.all_keys():
            mark = output.get(key)
            if mark is not None and mark.strength >= _PROOF and key not in known:
                spoken[key] = mark.shown
    if not spoken:
        return None
    asked = set(spoken)
    holders: dict[Key, list[int]] = {}
    for number, line in enumerate(lines):
        for key in held_marks(line, asked)[0]:
            holders.setdefault(key, []).append(number)
    most = max(1, int(_COMMON_LINES * len(lines)))
    quotes: dict[int, str] = {}
    for key, numbers in holders.items():
        if len(numbers) <= most:
            for number in numbers:
                quotes.setdefault(number, spoken[key])
    if not quotes:
        return None
    kept = sorted(quotes)
    cut = _with_gaps(lines, kept)
    share = estimate_tokens(cut) / max(estimate_tokens(text), 1)
    if share > _MOST_SHARE:
        return None
    return UsedPart([number + 1 for number in kept], len(lines), cut, share, [quotes[number] for number in kept])


def _pieces(text: str) -> list[str]:
    lines = text.splitlines()
    if max(map(len, lines), default=0) <= 10 * _LINE:
        return lines
    pieces = []
    for line in lines:
        start = 0
        while start < len(line):
            # Cut behind a comma where there is one: objects of a list stay in one piece more often than not.
            end = line.find(",", start + _LINE, start + 2 * _LINE) + 1 or start + _LINE
            pieces.append(line[start:end])
            start = end
    return pieces


def _with_gaps(lines: Sequence[str], kept: Sequence[int]) -> str:
    parts, at = [], 0
    for number in kept:
        if number > at:
            parts.append(_gap(number - at))
        parts.append(lines[number])
        at = number + 1
    if at < len(lines):
        parts.append(_gap(len(lines) - at))
    return "\n".join(parts)


def _gap(count: int) -> str:
    return f"[{count:,} line{'' if count == 1 else 's'} left out]"
