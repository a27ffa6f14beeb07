"""A pane of text lines: wrapped, drawn only as far as it is seen, with a chosen line where lines lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.cells import cell_len, get_character_cell_size
from rich.style import Style
from rich.text import Text
from textual.events import Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

__all__ = ["Pane", "PaneLine", "wrap_points"]

_PAINT: Final = re.compile("\x1b\\[[0-9;]*m")
_INDENT_MAX: Final = 12  # columns that the rest of a wrapped line is indented with
_BREAK_WITHIN: Final = 24  # columns before the edge in which a blank is looked for
_TAB: Final = 4
CHOSEN: Final = Style(reverse=True)


@dataclass(frozen=True)
class PaneLine:
    """A line, with colours in it as escape sequences of our own. `target` is what choosing it means; None: nothing."""

    text: str
    target: Any = None


class Pane(ScrollView, can_focus=True, inherit_bindings=False):
    """Shows lines and scrolls through them. Where lines have targets, up and down go from one of these to the next."""

    @dataclass
    class Chosen(Message):
        """Enter was pressed on a line with a target."""

        pane: Pane
        target: Any

    DEFAULT_CSS = "Pane { overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; }"

    def __init__(self, *, id: str | None = None, wraps: bool = True) -> None:
        super().__init__(id=id)
        self._wraps = wraps
        self._lines: Sequence[PaneLine] = ()
        self._rows: list[tuple[int, int, int]] = []  # line, first and last character of what is on the row
        self._row_of: list[int] = []  # first row of each line
        self._targets: list[int] = []  # lines that lead somewhere
        self._at = 0  # place in `_targets`
        self._top = 0  # the line it began with
        self._wrapped_to = 0
        self._texts: dict[int, Text] = {}

    # --- what is in it -----------------------------------------------------------------------------------------------

    @property
    def lines(self) -> Sequence[PaneLine]:
        """The lines, unwrapped."""
        return self._lines

    def show(self, lines: Sequence[PaneLine], *, top: int = 0, keep: bool = False) -> None:
        """Replace the lines; the same lines again change nothing.

        Args:
            top: the line to begin with.
            keep: stay where it is scrolled to, and on the chosen target.
        """
        if lines == self._lines and top == self._top:
            return  # nothing is drawn again, nor scrolled back: neighbours often share a context
        self._top = top
        chosen = self.target if keep else None
        self._lines = lines
        self._targets = [number for number, line in enumerate(lines) if line.target is not None]
        self._at = 0
        if chosen is not None:
            self._at = next((at for at, line in enumerate(self._targets) if lines[line].target == chosen), 0)
        self._wrap()
        if not keep:
            row = self._row_of[top] if top < len(self._row_of) else 0
            self.scroll_to(y=row, animate=False, force=True)
        self.refresh()

    @property
    def target(self) -> Any:
        """What the chosen line leads to; None if there is none."""
        return self._lines[self._targets[self._at]].target if self._targets else None

    def choose(self, target: Any) -> bool:
        """Make the line with this target the chosen one; whether there is such a line."""
        found = next((at for at, line in enumerate(self._targets) if self._lines[line].target == target), None)
        if found is None:
            return False
        self._at = found
        self._reveal()
        return True

    def _wrap(self) -> None:
        width = max(self.scrollable_content_region.width or self.size.width, 10)
        self._wrapped_to = width
        self._rows, self._row_of, self._texts = [], [], {}
        for number, line in enumerate(self._lines):
            self._row_of.append(len(self._rows))
            plain = _PAINT.sub("", line.text).expandtabs(_TAB)
            start = 0
            for end in wrap_points(plain, width) if self._wraps else ():
                self._rows.append((number, start, end))
                start = end
            self._rows.append((number, start, len(plain)))
        self.virtual_size = Size(width, len(self._rows))

    def on_resize(self, _event: Resize) -> None:
        """Wrap anew where the width changed."""
        if max(self.scrollable_content_region.width, 10) != self._wrapped_to:
            top = self._rows[min(int(self.scroll_y), len(self._rows) - 1)][0] if self._rows else 0
            self._wrap()
            if self._row_of:
                self.scroll_to(y=self._row_of[top], animate=False, force=True)

    # --- how it looks ------------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """One row."""
        width, base = self.size.width, self.rich_style
        row = y + int(self.scroll_y)
        if row >= len(self._rows):
            return Strip.blank(width, base)
        number, start, end = self._rows[row]
        text = self._text(number)
        piece = text[start:end]
        if start:
            indent = min(len(text.plain) - len(text.plain.lstrip(" ")), _INDENT_MAX)
            piece = Text(" " * indent) + piece
        strip = Strip(piece.render(self.app.console)).apply_style(base)
        is_chosen = bool(self._targets) and number == self._targets[self._at]
        style = base + CHOSEN if is_chosen and self.has_focus else base
        if is_chosen:
            strip = strip.apply_style(style) if self.has_focus else strip.apply_style(Style(bold=True))
            strip = Strip([segment._replace(style=(segment.style or base) + style) for segment in strip])
        return strip.crop(0, width).extend_cell_length(width, style)

    def _text(self, number: int) -> Text:
        text = self._texts.get(number)
        if text is None:
            text = Text.from_ansi(self._lines[number].text)
            text.expand_tabs(_TAB)
            self._texts[number] = text
        return text

    # --- moving ------------------------------------------------------------------------------------------------------

    def move(self, count: int) -> None:
        """To the next line with a target, or by so many rows where none has one."""
        if not self._targets:
            self.scroll_relative(y=count, animate=False, force=True)
            return
        self._at = min(max(self._at + count, 0), len(self._targets) - 1)
        self._reveal()

    def page(self, count: int) -> None:
        """By so many pages."""
        self.move(count * max(self.size.height - 2, 1))

    def end(self, *, last: bool) -> None:
        """To the first or the last line."""
        if self._targets:
            self.move(len(self._targets) * (1 if last else -1))
        else:
            self.scroll_to(y=len(self._rows) if last else 0, animate=False, force=True)

    def _reveal(self) -> None:
        row = self._row_of[self._targets[self._at]]
        self.scroll_to_region(Region(0, row, 1, 1), animate=False, force=True)
        self.refresh()

    def action_choose(self) -> None:
        """What Enter does."""
        if self._targets:
            self.post_message(self.Chosen(self, self.target))

    def on_click(self, event: Any) -> None:
        """Choose the line under the mouse."""
        row = event.y + int(self.scroll_y)
        if row < len(self._rows) and (number := self._rows[row][0]) in self._targets:
            self._at = self._targets.index(number)
            self.refresh()


def wrap_points(plain: str, width: int) -> list[int]:
    """Where a line is broken to fit into `width` columns, at a blank where one is near; the rest is indented alike."""
    if len(plain) <= width and (plain.isascii() or cell_len(plain) <= width):
        return []
    indent = min(len(plain) - len(plain.lstrip(" ")), _INDENT_MAX)
    if indent > width // 2:
        indent = 0
    points: list[int] = []
    start = 0
    is_narrow = plain.isascii()
    while True:
        room = width if not points else width - indent
        end = start + room if is_narrow else _fitting(plain, start, room)
        if end >= len(plain):
            return points
        blank = plain.rfind(" ", max(end - _BREAK_WITHIN, start + 1), end)
        if blank > start and plain[start:blank].strip():
            end = blank + 1
        points.append(end)
        start = end


def _fitting(plain: str, start: int, room: int) -> int:
    """The end of what fits from `start` on: at least one character."""
    end = start
    while end < len(plain):
        room -= get_character_cell_size(plain[end])
        if room < 0:
            break
        end += 1
    return max(end, start + 1)
