"""A probable cause of a divergence, and a text that differs: the words that whoever looks for causes shares."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

__all__ = ["Cause", "Change"]

Kind = Literal[
    "missing", "inserted", "concurrency", "tool", "clock", "random", "number", "order", "code", "recording", "unknown"
]


class Cause(Struct, frozen=True):
    """A probable cause.

    Attributes:
        kind: `missing`: the program left a recorded call out. `inserted`: it made one more. `concurrency`: the same
            request was made in another place or order. `tool`: a tool's result changed. `clock`, `random`: what differs
            looks like a time, or like something drawn. `number`: only numbers differ. `order`: the words are the same,
            in another order. `code`: the program was changed. `recording`: it does not hold what was asked for.
            `unknown`: nothing points anywhere.
        evidence: what says so.
    """

    kind: Kind
    evidence: list[str] = field(default_factory=list)


class Change(Struct, frozen=True):
    """A text that differs: where it stands, whose it is, and both forms."""

    where: str
    role: str
    before: str
    after: str
    tool: str | None = None
