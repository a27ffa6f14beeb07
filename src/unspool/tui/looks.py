"""Light or dark: what the terminal says of itself, until the person says otherwise."""

from __future__ import annotations

import os
from typing import Any

from textual.app import App

__all__ = ["choose_theme", "toggle_theme"]

_DARK, _LIGHT = "textual-dark", "textual-light"
_LIGHT_GROUNDS = frozenset({"7", "15"})


def choose_theme(app: App[Any]) -> None:
    """By `COLORFGBG`, which terminals set that know what they look like; else dark."""
    ground = os.environ.get("COLORFGBG", "").rpartition(";")[2]
    app.theme = _LIGHT if ground in _LIGHT_GROUNDS else _DARK


def toggle_theme(app: App[Any]) -> None:
    """The other one."""
    app.theme = _DARK if app.theme == _LIGHT else _LIGHT
