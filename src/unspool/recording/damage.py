"""What a reader says about a part of a recording it could not read."""

from __future__ import annotations

import msgspec

__all__ = ["Damage"]


class Damage(msgspec.Struct, frozen=True):
    """Something in a recording that could not be read: where, and why.

    `line` counts from 1 and `offset` is its first byte; both are 0 where the whole file is meant.
    """

    file: str
    line: int
    offset: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}" if self.line else f"{self.file}: {self.reason}"
