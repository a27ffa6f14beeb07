"""Puts the stand-ins for the clock and for random sources in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from unspool.capture import chance, clocks

if TYPE_CHECKING:
    from unspool.capture.runtime import Runtime

__all__ = ["install"]


def install(runtime: Runtime) -> Callable[[], None]:
    """Start noting what is read; gives the function that undoes what `Runtime.patch` cannot."""
    undo = clocks.install(runtime)
    chance.install(runtime)
    return undo
