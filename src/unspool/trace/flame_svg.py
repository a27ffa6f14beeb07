"""Folded stacks as a flame graph in SVG: one file that needs nothing else, with what each frame is on hover."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import escape
from typing import Final

from unspool.durations import format_duration
from unspool.text import cut, escape_controls
from unspool.trace.flame import FlameMeasure, Stacks

__all__ = ["flame_svg"]

_WIDTH: Final = 1200.0
_ROW: Final = 18
_TOP: Final = 44
_CHAR: Final = 6.6  # pixels of a character
_HEADING: Final = 128  # characters of the first line, which are larger
_LEAST: Final = 0.3  # pixels of a frame that is drawn
_COLORS: Final = {
    "agent": "#b8c4d6",
    "llm": "#f0a35e",
    "tool": "#7fb87f",
    "other": "#c9b79c",
    "model": "#f6cfa6",
    "user": "#9fc5e8",
    "system": "#d5a6bd",
    "tools": "#b4a7d6",
}
_TITLES: Final[dict[FlameMeasure, str]] = {
    "time": "self time",
    "tokens": "tokens of model calls",
    "cost": "cost of model calls",
    "carried": "cost, charged to what was sent",
}


@dataclass
class _Frame:
    kind: str
    name: str
    own: int = 0
    total: int = 0
    below: dict[tuple[str, str], _Frame] = field(default_factory=dict)


def flame_svg(stacks: Stacks, by: FlameMeasure = "time", title: str = "") -> str:
    """The graph: the root at the top, widths in proportion to values, equal kinds in equal colours.

    Frames too narrow to be seen are left out, and counted in the last line.
    """
    roots = _frames(stacks)
    total = sum(frame.total for frame in roots)
    boxes: list[str] = []
    hidden = 0
    deepest = 0
    scale = _WIDTH / total if total else 0.0
    level = [(frame, 0.0) for frame in roots]
    depth = 0
    while level:
        following: list[tuple[_Frame, float]] = []
        for frame, left in level:
            if frame.total * scale < _LEAST:
                hidden += 1
                continue
            boxes.append(_box(frame, left, depth, scale=scale, total=total, by=by))
            deepest = max(deepest, depth)
            start = left
            for child in sorted(frame.below.values(), key=lambda one: (-one.total, one.name)):
                following.append((child, start))
                start += child.total * scale
        level, depth = following, depth + 1
    height = _TOP + (deepest + 1) * _ROW + 30
    note = f"{hidden} frames are too narrow to be shown" if hidden else ""
    measured = f"{_TITLES[by]} · {_amount(total, by)}"
    heading = f"{title} · {measured}".removeprefix(" · ")
    shown = f"{cut(title, max(_HEADING - len(measured) - 3, 8))} · {measured}".removeprefix(" · ")
    size = f'viewBox="0 0 {_WIDTH:.0f} {height}" width="100%"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="ui-monospace, monospace" font-size="11">',
            f"<title>{_safe(heading)}</title>",
            f'<rect width="{_WIDTH:.0f}" height="{height}" fill="#fffdf8"/>',
            f'<text x="8" y="26" font-size="15" fill="#222">{_safe(shown)}</text>',
            *boxes,
            f'<text x="8" y="{height - 10}" fill="#777">{note}</text>',
            "</svg>",
        ]
    )


def _frames(stacks: Stacks) -> list[_Frame]:
    top = _Frame("", "")
    for stack, value in stacks.items():
        frame = top
        frame.total += value
        for key in stack:
            below = frame.below.get(key)
            if below is None:
                below = frame.below[key] = _Frame(*key)
            frame = below
            frame.total += value
        frame.own += value
    return sorted(top.below.values(), key=lambda one: (-one.total, one.name))


def _box(frame: _Frame, left: float, depth: int, *, scale: float, total: int, by: FlameMeasure) -> str:
    width, y = frame.total * scale, _TOP + depth * _ROW
    share = frame.total / total * 100
    hover = f"{frame.name} ({frame.kind}): {_amount(frame.total, by)}, {share:.1f} %"
    if frame.own != frame.total:
        hover += f"; itself {_amount(frame.own, by)}"
    room = int((width - 6) / _CHAR)
    label = frame.name if len(frame.name) <= room else frame.name[: max(room - 1, 0)] + "…" if room >= 3 else ""
    text = f'<text x="{left + 3:.2f}" y="{y + 12}">{_safe(label)}</text>' if label else ""
    return (
        f"<g><title>{_safe(hover)}</title>"
        f'<rect x="{left:.2f}" y="{y}" width="{max(width - 0.5, 0.2):.2f}" height="{_ROW - 1}" rx="1.5" '
        f'fill="{_COLORS.get(frame.kind, "#cccccc")}"/>{text}</g>'
    )


def _amount(value: int, by: FlameMeasure) -> str:
    if by == "time":
        return format_duration(value * 1000)
    return f"{value:,} tokens" if by == "tokens" else f"${value / 1_000_000:.4f}"


# What no XML document may hold beside controls and halves of surrogate pairs: two characters that are none.
_NO_XML: Final = re.compile("[\ufffe\uffff]")


def _safe(text: str) -> str:
    return escape(_NO_XML.sub("", escape_controls(text)))
