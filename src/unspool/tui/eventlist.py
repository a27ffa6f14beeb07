"""The list of a recording's events: virtual, so that a hundred thousand scroll as fast as ten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from unspool.cli.table import clip, display_width
from unspool.recording.reader import RecordReader
from unspool.tui.rows import Row, row_of

__all__ = ["EventList"]

_KEPT: Final = 4000  # rows that are remembered
_KINDS: Final = {
    "context": Style(color="cyan"),
    "llm": Style(color="blue"),
    "answer": Style(color="green"),
    "tool": Style(color="magenta"),
    "mcp": Style(color="magenta"),
    "agent": Style(color="yellow", bold=True),
    "state": Style(dim=True),
}
_FAILED: Final = Style(color="red", bold=True)
_CURSOR: Final = Style(reverse=True)
_DIM: Final = Style(dim=True)


class EventList(ScrollView, can_focus=True, inherit_bindings=False):
    """Events with a cursor. Reads what it shows, and nothing else.

    Attributes:
        cursor: position of the event under the cursor, from 0; 0 too while there is none.
        marks: letters of bookmarks by position.
    """

    @dataclass
    class Moved(Message):
        """The cursor is on another event."""

        position: int

    DEFAULT_CSS = "EventList { overflow-x: hidden; overflow-y: scroll; scrollbar-size-vertical: 1; }"

    def __init__(self, reader: RecordReader, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._reader = reader
        self._rows: dict[int, Row] = {}
        self._was_laid_out = False
        self.cursor = 0
        self.marks: dict[int, str] = {}

    def on_mount(self) -> None:
        """Take the size of the recording."""
        self.grown()

    def on_resize(self) -> None:
        """The cursor stays in sight; where the list is laid out for the first time, in its middle."""
        if not self._was_laid_out:
            self._was_laid_out = self.size.height > 0
            self.scroll_to(y=max(self.cursor - self.size.height // 2, 0), animate=False, force=True)
        else:
            self.scroll_to_region(Region(0, self.cursor, 1, 1), animate=False, force=True)

    def grown(self) -> None:
        """There are more events."""
        count = self._reader.event_count
        if self.virtual_size.height != count:
            self.virtual_size = Size(self.size.width, count)
            self.cursor = min(self.cursor, max(count - 1, 0))
            self.refresh()

    def go(self, position: int, *, centre: bool = False) -> None:
        """Put the cursor on a position, or on the nearest there is."""
        count = self._reader.event_count
        position = min(max(position, 0), max(count - 1, 0))
        before, self.cursor = self.cursor, position
        height = self.size.height
        if centre and not int(self.scroll_y) <= position < int(self.scroll_y) + height:
            self.scroll_to(y=max(position - height // 2, 0), animate=False, force=True)
        else:
            self.scroll_to_region(Region(0, position, 1, 1), animate=False, force=True)
        if position != before:
            # Scrolling draws all of it; a step within what is seen only two rows, which matters over a slow line.
            top = int(self.scroll_y)
            for row in (before, position):
                if top <= row < top + height:
                    self.refresh_line(row)
            self.post_message(self.Moved(position))

    # --- how it looks ------------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """One event."""
        width, base = self.size.width, self.rich_style
        position = y + int(self.scroll_y)
        if position >= self._reader.event_count:
            return Strip.blank(width, base)
        row = self._row(position)
        number = str(position + 1) if row is None else str(self._seq(position))
        digits = max(len(str(self._reader.last_seq)), 3)
        is_cursor = position == self.cursor
        mark = self.marks.get(position, " ")
        lead = f"{'►' if is_cursor else ' '}{mark}{number:>{digits}} "
        if row is None:
            segments = [Segment(lead + "(damaged)", base + _FAILED)]
        else:
            time = f"{row.time:>8} " if width >= 60 else ""
            kind_style = _FAILED if row.failed else _KINDS.get(row.kind, Style())
            kind = f"{'✗' if row.failed else ' '}{row.kind:<8}"
            room = max(width - len(lead) - len(time) - len(kind), 0)
            segments = [
                Segment(lead, base),
                Segment(time, base + _DIM),
                Segment(kind, base + kind_style),
                Segment(clip(row.text, room), base + (_FAILED if row.failed else Style())),
            ]
        if is_cursor:
            style = _CURSOR if self.has_focus else Style(bold=True, underline=True)
            segments = [Segment(part.text, (part.style or base) + style) for part in segments]
            base += style
        used = sum(display_width(part.text) for part in segments)
        return Strip([*segments, Segment(" " * max(width - used, 0), base)]).crop(0, width)

    def _row(self, position: int) -> Row | None:
        if position not in self._rows:
            if len(self._rows) >= _KEPT:
                self._rows.clear()
            try:
                self._rows[position] = row_of(self._reader, position)
            except IndexError:  # damage was met, and there are fewer events than there seemed to be
                return None
        return self._rows[position]

    def _seq(self, position: int) -> int:
        return self._reader.events().bare(position).seq_num

    # --- moving ------------------------------------------------------------------------------------------------------

    def move(self, count: int) -> None:
        """By so many events."""
        self.go(self.cursor + count)

    def page(self, count: int) -> None:
        """By so many pages."""
        self.go(self.cursor + count * max(self.size.height - 1, 1))

    def end(self, *, last: bool) -> None:
        """To the first or the last event."""
        self.go(self._reader.event_count - 1 if last else 0)

    def on_click(self, event: Any) -> None:
        """The event under the mouse."""
        self.go(event.y + int(self.scroll_y))
