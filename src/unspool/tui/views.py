"""What the full-screen views have in common: light or dark, and keys that are obeyed in the order they were typed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.terminal_theme import TerminalTheme
from textual.app import App
from textual.events import Event, Key
from textual.screen import Screen

__all__ = ["View", "ViewScreen", "warnings_held_back"]

_DARK, _LIGHT = "textual-dark", "textual-light"
_LIGHT_GROUNDS: Final = frozenset({"7", "15"})


def _palette(ground: int, text: int, *colors: int) -> TerminalTheme:
    parts = [_rgb(color) for color in colors]
    return TerminalTheme(_rgb(ground), _rgb(text), parts[:8], parts[8:])


def _rgb(color: int) -> tuple[int, int, int]:
    return (color >> 16) & 255, (color >> 8) & 255, color & 255


# What the sixteen colours of our texts look like: black, red, green, yellow, blue, magenta, cyan, white, and these
# bright, where bright black is what is dim. All but black and white (in a light theme: white) are at least 4.5 times as
# light, or as dark, as the ground, as WCAG 2.2 asks for (1.4.3); Textual's own grey is not.
_ON_DARK: Final = _palette(
    0x121212, 0xE0E0E0,
    0x1A1A1A, 0xFF6B6B, 0x98E024, 0xFFB454, 0x8FA8FF, 0xE58CE5, 0x58D1EB, 0xC4C5B5,
    0x9A9A9A, 0xFF7B7B, 0xA6E85A, 0xFFD166, 0xA5B8FF, 0xF0A0F0, 0x7ADDF2, 0xF6F6EF,
)  # fmt: skip
_ON_LIGHT: Final = _palette(
    0xE0E0E0, 0x1F1F1F,
    0x000000, 0xA31515, 0x22590F, 0x6B4700, 0x1D3F99, 0x6A2A8A, 0x004F6E, 0x4A4A4A,
    0x545454, 0xB01818, 0x1F6410, 0x754D00, 0x1A4FA8, 0x86208A, 0x005A7A, 0x3A3A3A,
)  # fmt: skip


@contextmanager
def warnings_held_back() -> Iterator[None]:
    """Nothing is written over a full screen: what the library warns of, the views show in their own way."""
    logger = logging.getLogger("unspool")
    before, logger.handlers = logger.handlers, [logging.NullHandler()]
    try:
        yield
    finally:
        logger.handlers = before


class ViewScreen(Screen[None]):
    """A screen of a view."""

    def takes(self, key: Key) -> bool:
        """Whether the screen itself wants this key, before any binding; then it has dealt with it."""
        return False

    def switch_theme(self) -> str:
        """The other theme; gives what to say about it, "" where it is seen."""
        if self.app.no_color:
            return "there are no colours to switch: NO_COLOR is set, or --color never"
        self.app.theme = _DARK if self.app.theme == _LIGHT else _LIGHT
        return ""


class View(App[None]):
    """An app that begins with one screen.

    The theme is by `COLORFGBG`, which terminals set that know what they look like; else dark. With `NO_COLOR` no colour
    is sent at all, not even greys: the terminal's own two are used.
    """

    ENABLE_COMMAND_PALETTE = False

    def __init__(self, first: ViewScreen) -> None:
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        self.set_reactive(App.ansi_theme_dark, _ON_DARK)
        self.set_reactive(App.ansi_theme_light, _ON_LIGHT)
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
