"""Small screens over another: the key map, and a question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.events import Key as KeyEvent
from textual.screen import ModalScreen
from textual.widgets import Static

from unspool.text import escape_controls
from unspool.tui.keys import Section, help_lines
from unspool.tui.pane import Pane, PaneLine

__all__ = ["Confirm", "Help"]


class Help(ModalScreen[None]):
    """The key map; any key that does not scroll closes it."""

    DEFAULT_CSS = """
    Help { align: center middle; }
    Help Vertical {
        width: 76; max-width: 100%; height: 90%; border: round $primary; background: $surface; padding: 0 1;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "scroll(1)", priority=True),
        Binding("k,up", "scroll(-1)", priority=True),
        Binding("pagedown,space", "scroll(15)", priority=True),
        Binding("pageup", "scroll(-15)", priority=True),
        Binding("q,escape,question_mark,f1,enter", "dismiss", priority=True),
    ]

    def __init__(self, sections: Sequence[Section]) -> None:
        super().__init__()
        self._sections = sections

    def compose(self) -> ComposeResult:
        """One pane."""
        with Vertical():
            yield Pane(id="help")

    def on_mount(self) -> None:
        """Fill it."""
        lines = [*help_lines(self._sections), "", "j and k scroll, q closes."]
        self.query_one(Pane).show([PaneLine(line) for line in lines])

    def action_scroll(self, count: int) -> None:
        """By so many lines."""
        self.query_one(Pane).move(count)


class Confirm(ModalScreen[bool]):
    """A question; only `y` is yes."""

    DEFAULT_CSS = """
    Confirm { align: center middle; }
    Confirm Static {
        width: 70; max-width: 100%; height: auto; border: heavy $warning; background: $surface; padding: 1 2;
    }
    """

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """The question."""
        yield Static(f"{escape_controls(self._question, keep=chr(10))}\n\ny: yes    any other key: no", markup=False)

    def on_key(self, event: KeyEvent) -> None:
        """The answer."""
        event.stop()
        self.dismiss(event.key == "y")
