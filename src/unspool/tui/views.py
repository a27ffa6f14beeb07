"""What the full-screen views have in common: light or dark, and keys that are obeyed in the order they were typed."""

from __future__ import annotations

import os
from typing import Final

from textual.app import App
from textual.events import Event, Key
from textual.screen import Screen

__all__ = ["View", "ViewScreen"]

_DARK, _LIGHT = "textual-dark", "textual-light"
_LIGHT_GROUNDS: Final = frozenset({"7", "15"})


class ViewScreen(Screen[None]):
    """A screen of a view."""

    def takes(self, key: Key) -> bool:
        """Whether the screen itself wants this key, before any binding; then it has dealt with it."""
        return False

    def switch_theme(self) -> None:
        """The other theme."""
        self.app.theme = _DARK if self.app.theme == _LIGHT else _LIGHT


class View(App[None]):
    """An app that begins with one screen.

    The theme is by `COLORFGBG`, which terminals set that know what they look like; else dark.
    """

    ENABLE_COMMAND_PALETTE = False

    def __init__(self, first: ViewScreen) -> None:
        super().__init__()
        self._first = first

    def on_mount(self) -> None:
        """Show the first screen."""
        ground = os.environ.get("COLORFGBG", "").rpartition(";")[2]
        self.theme = _LIGHT if ground in _LIGHT_GROUNDS else _DARK
        self.push_screen(self._first)

    async def on_event(self, event: Event) -> None:
        """Ask the screen first: over a slow line keys come in bunches, and one must not overtake the one before."""
        if isinstance(event, Key) and not event.is_forwarded:
            screen = self.screen
            if isinstance(screen, ViewScreen) and screen.takes(event):
                return
        await super().on_event(event)
