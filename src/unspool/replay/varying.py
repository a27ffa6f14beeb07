"""The pieces of texts that are not the same in each run: times, ids, numbers; known by their form."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["masked", "varying_pieces"]

_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*"
_CLOCK: Final = (
    r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)?(?:Z|[+-]\d{2}:?\d{2})?"
    r"|\b\d{8}[T_-]?\d{6}Z?\b|\b\d{1,2}[/.]\d{1,2}[/.]\d{2,4}\b|\b\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:\s?[AaPp][Mm])?"
    rf"|\b{_DAY},?\s|\b{_MONTH}\s+\d{{1,2}}(?:,?\s+\d{{4}})?|\b\d{{1,2}}\s+{_MONTH}(?:\s+\d{{4}})?"
    r"|(?<![\d.])1[4-9]\d{8}(?:\d{3}){0,3}(?:\.\d+)?(?!\d)"
)
_RANDOM: Final = (
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
    r"|0x[0-9a-fA-F]{6,}|\b(?=[0-9a-fA-F]*\d)(?=[0-9a-fA-F]*[a-fA-F])[0-9a-fA-F]{8,}\b"
    r"|\b[a-zA-Z]{2,12}[_-](?=[0-9A-Za-z]*\d)(?=[0-9A-Za-z]*[A-Za-z])[0-9A-Za-z]{8,}\b|/tmp\w*/[\w.-]+"
)
_NUMBER: Final = r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_VARYING: Final = re.compile(rf"(?P<random>{_RANDOM})|(?P<clock>{_CLOCK})|(?P<number>{_NUMBER})", re.ASCII)


def masked(text: str) -> str:
    """`text` with every such piece replaced by one and the same mark."""
    return _VARYING.sub("\0", text)


def varying_pieces(before: str, after: str) -> list[tuple[str, str, str]]:
    """The pieces that differ, each with its form (`clock`, `random`, `number`), if nothing else does; else none."""
    if before == after or masked(before) != masked(after):
        return []
    sides = [list(_VARYING.finditer(text)) for text in (before, after)]
    if [match.lastgroup for match in sides[0]] != [match.lastgroup for match in sides[1]]:
        return []
    pairs = zip(*sides, strict=True)
    return [(old.lastgroup or "", old[0], new[0]) for old, new in pairs if old[0] != new[0]]
