"""How lines look."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from unspool.events import SyscallEvent

__all__ = ["Options", "default_options"]


class Options(Struct):
    """How events are written.

    Args:
        color: ANSI colours: failed calls red, side remarks grey.
        verbose: show arguments and results whole instead of cutting them.
        json: one JSON object a line; wins over `formatter`.
        formatter: makes the line of an event instead of `format_event`.
    """

    color: bool = False
    verbose: bool = False
    json: bool = False
    formatter: Callable[[SyscallEvent], str] | None = None


def default_options(stream: Any = None) -> Options:
    """Options for `stream` (standard output if None): colour on a terminal, unless `NO_COLOR` is set and not empty."""
    if stream is None:
        stream = sys.stdout
    return Options(color=not os.environ.get("NO_COLOR") and _is_terminal(stream))


def _is_terminal(stream: Any) -> bool:
    isatty = getattr(stream, "isatty", None)
    try:
        return bool(isatty and isatty())
    except ValueError:  # a closed file
        return False
