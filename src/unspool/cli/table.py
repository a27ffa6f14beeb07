"""Plain tables: columns as wide as they need, some that take what is left, some that give way on a narrow screen."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from unspool.cli.terminal import bold

__all__ = ["Column", "clip", "display_width", "format_table"]

_NO_WIDTH = "\u200b\u200d\ufe0f"  # zero-width space and joiner, the mark that makes the character before it an emoji


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        flexible: its cells are cut to what is left of the width, but not below `least` columns.
        gives_way: on a narrow screen columns with a number disappear, the highest first.
    """

    title: str
    align: Literal["left", "right"] = "left"
    flexible: bool = False
    least: int = 12
    gives_way: int = 0


def display_width(text: str) -> int:
    """Terminal columns `text` takes: two for wide characters, none for combining ones (UAX #11)."""
    if text.isascii():
        return len(text)
    return sum(_char_width(char) for char in text)


def _char_width(char: str) -> int:
    if unicodedata.combining(char) or char in _NO_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def clip(text: str, columns: int) -> str:
    """`text` in at most `columns` terminal columns, `…` at the end if something was cut off."""
    if display_width(text) <= columns:
        return text
    taken, kept = 0, []
    for char in text:
        taken += display_width(char)
        if taken > columns - 1:
            break
        kept.append(char)
    return "".join(kept) + "…"


def format_table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None, *, color: bool = False
) -> str:
    """The table with its header, no final newline. Cells must hold no control characters.

    Args:
        width: columns of the screen; None: nothing is cut and no column gives way.
    """
    shown = list(range(len(columns)))
    needed = [
        max([display_width(column.title), *(display_width(row[index]) for row in rows)])
        for index, column in enumerate(columns)
    ]
    if width is not None:
        for index in sorted(shown, key=lambda one: -columns[one].gives_way):
            if columns[index].gives_way and _least(columns, needed, shown) > width:
                shown.remove(index)
        spare = width - _least(columns, needed, shown)
        for index in (one for one in shown if columns[one].flexible):
            floor = min(needed[index], columns[index].least)
            grown = min(needed[index], floor + max(spare, 0))
            spare -= grown - floor
            needed[index] = grown
    lines = [_line([column.title for column in columns], columns, needed, shown)]
    return "\n".join([bold(lines[0], color), *(_line(row, columns, needed, shown) for row in rows)])


def _least(columns: Sequence[Column], needed: Sequence[int], shown: Sequence[int]) -> int:
    widths = [min(needed[i], columns[i].least) if columns[i].flexible else needed[i] for i in shown]
    return sum(widths) + 2 * (len(shown) - 1)


def _line(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int], shown: Sequence[int]) -> str:
    parts = []
    for index in shown:
        text = clip(cells[index], widths[index]) if columns[index].flexible else cells[index]
        padding = " " * (widths[index] - display_width(text))
        parts.append(padding + text if columns[index].align == "right" else text + padding)
    return "  ".join(parts).rstrip()
