"""The full-screen views, which need textual, from the extra `tui`."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Final, Literal

from unspool.cli.terminal import is_terminal, use_color

__all__ = ["INSTALL", "can_take_screen", "screen_module"]

INSTALL: Final = "pip install 'unspool[tui]'"


def can_take_screen() -> bool:
    """Whether a person sits at a terminal that can be drawn on."""
    return is_terminal(sys.stdin) and is_terminal(sys.stdout) and os.environ.get("TERM") != "dumb"


def screen_module(view: Literal["debugger", "top"]) -> ModuleType | None:
    """The module of a view; None if textual is not installed."""
    if find_spec("textual") is None:
        return None
    if not use_color():
        os.environ["NO_COLOR"] = "1"  # how Textual is told
    return import_module(f"unspool.tui.{view}")
