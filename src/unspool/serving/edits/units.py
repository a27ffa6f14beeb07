"""A request's conversation as units: one unit for each message a context shows, whatever the wire makes of it.

A tool result that is a block of a user's message is a unit; what a model said in one go is one unit even if it is
several items on the wire. Units keep the wire's own JSON, so that what is not touched goes out as it came.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from unspool.serving.edits.digests import digest_of
from unspool.serving.edits.json_text import JsonObject

__all__ = ["Called", "Dialect", "Unit", "link_results", "number_equals", "seal"]


class Called(NamedTuple):
    """A tool call: its id (None where the wire has none) and the tool's name."""

    id: str | None
    name: str


@dataclasses.dataclass(slots=True, eq=False)
class Unit:
    """One message.

    Attributes:
        role: as in a context.
        parts: the wire's JSON of it: whole messages or items, or the blocks of one message.
        wires: the number of the array element each part came in, of blocks the one number of their message; -1 for
            what is new.
        shell: for blocks: the message around them, without them.
        calls: the tool calls it makes.
        result_of: the call it answers: id and tool name, as far as the wire says them.
        digest: of its normalised form.
        occurrence: how many equal ones stand before it.
        answers: the unit whose call it answers.
        touched: its parts are not as they came.
    """

    role: str
    parts: list[Any]
    wires: list[int]
    shell: dict[str, Any] | None = None
    calls: list[Called] = dataclasses.field(default_factory=list)
    result_of: Called | None = None
    digest: str = ""
    occurrence: int = 0
    answers: Unit | None = None
    touched: bool = False


class Dialect(Protocol):
    """What the conversation of a wire format is; a module each."""

    ROLES: Sequence[str]
    """The roles a message can be added with."""

    def read(self, document: JsonObject) -> list[Unit]:
        """The messages behind the system prompt."""

    def write(self, document: JsonObject, units: list[Unit]) -> None:
        """Put messages in the place of those that were read."""

    def system(self, document: JsonObject) -> str | None:
        """The system prompt, None without one."""

    def set_system(self, document: JsonObject, text: str) -> None:
        """Put another system prompt in the place of all there is."""

    def set_text(self, unit: Unit, text: str) -> None:
        """Give a message another text; what else it holds stays."""

    def say(self, role: str, text: str) -> Unit:
        """A new message."""

    def set_model(self, document: JsonObject, url: str, model: str) -> str:
        """Ask another model; gives the URL to send to."""

    def set_param(self, document: JsonObject, name: str, value: Any) -> None:
        """Set a parameter by its name, dots between keys; None takes it away."""


def seal(units: list[Unit], normal: Callable[[Any], Any]) -> list[Unit]:
    """Finish units that were read: their digests, occurrences, and which call each result answers.

    Args:
        normal: a part in its normalised form.
    """
    for unit in units:
        unit.digest = digest_of(unit.role, [normal(part) for part in unit.parts])
    number_equals(units)
    link_results(units)
    return units


def number_equals(units: list[Unit]) -> None:
    """Number the equal ones."""
    seen: dict[str, int] = {}
    for unit in units:
        unit.occurrence = seen.get(unit.digest, 0)
        seen[unit.digest] = unit.occurrence + 1


def link_results(units: list[Unit]) -> None:
    """Tie results to the calls they answer: by id, where the wire has none by the tool's name, in order.

    An id that is used again means the latest call before the result.
    """
    by_id: dict[str, Unit] = {}
    by_name: dict[str, list[Unit]] = {}
    for unit in units:
        for call in unit.calls:
            if call.id:
                by_id[call.id] = unit
            else:
                by_name.setdefault(call.name, []).append(unit)
        if unit.result_of is not None:
            waiting = by_name.get(unit.result_of.name) or []
            if unit.result_of.id:
                unit.answers = by_id.get(unit.result_of.id)
            elif waiting:
                unit.answers = waiting.pop(0)
