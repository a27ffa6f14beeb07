"""A line to type into, below everything else. It takes keys in the order they come, so that none goes astray."""

from __future__ import annotations

from collections.abc import Callable

from textual.events import Key
from textual.widgets import Static

from unspool.text import show_text

__all__ = ["Prompt"]


class Prompt(Static):
    """Shown while it is open.

    Attributes:
        is_open: it wants all keys.
        text: what was typed.
    """

    DEFAULT_CSS = "Prompt { display: none; height: 1; width: 1fr; }"

    def __init__(self) -> None:
        super().__init__(markup=False)
        self.is_open = False
        self.text = ""
        self._mark = ""
        self._changed: Callable[[str], None] | None = None
        self._done: Callable[[str], None] | None = None

    def ask(
        self, mark: str, done: Callable[[str], None], *, text: str = "", changed: Callable[[str], None] | None = None
    ) -> None:
        """Open.

        Args:
            mark: stands before the text.
            done: is given the text when Enter is pressed.
            text: to begin with.
            changed: is given the text after each key.
        """
        self._mark, self._done, self._changed = mark, done, changed
        self.is_open = self.display = True
        self._set(text)

    def close(self) -> None:
        """Close without an answer."""
        self.is_open = self.display = False

    def type(self, text: str) -> None:
        """Add a text, such as one that was pasted; of several lines the first."""
        self._set(self.text + text.partition("\n")[0])

    def takes(self, key: Key) -> bool:
        """Deal with a key; Escape is left to the screen."""
        if not self.is_open or key.key == "escape":
            return False
        if key.key == "enter":
            self.close()
            if self._done is not None:
                self._done(self.text)
        elif key.key in ("backspace", "ctrl+h"):
            self._set(self.text[:-1])
        elif key.key == "ctrl+w":
            self._set(self.text.rstrip().rpartition(" ")[0])
        elif key.key == "ctrl+u":
            self._set("")
        elif key.is_printable and key.character is not None:
            self._set(self.text + key.character)
        return True

    def _set(self, text: str) -> None:
        self.text = text
        room = max(self.app.size.width - len(self._mark) - 2, 10)
        self.update(f"{self._mark}{show_text(text)[-room:]}▏")
        if self._changed is not None:
            self._changed(text)
