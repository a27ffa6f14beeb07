"""Which functions of a library are ours already: a class may be met twice, and a tool must not be recorded twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["is_watched", "watched"]

_F = TypeVar("_F", bound=Callable[..., Any])
_MARK = "_unspool_watched"


def watched(function: _F) -> _F:
    """Decorator: mark a function that stands in for one of the library's."""
    setattr(function, _MARK, True)
    return function


def is_watched(function: object) -> bool:
    """Whether a function stands in for another."""
    return getattr(function, _MARK, False) is True
