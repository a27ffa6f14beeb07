"""What a fork changes, as it is written into the plan of a rerun."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import msgspec

__all__ = ["Answer", "Change", "Edits", "Insert", "Remove", "Replace", "Said", "Turn", "read_edits"]


class Said(msgspec.Struct, omit_defaults=True):
    """A message that a fork adds: `role` as a context has it (`user`, `assistant`, `system`, `developer`)."""

    role: str
    text: str


class Replace(msgspec.Struct, omit_defaults=True, tag="replace", tag_field="kind"):
    """Another text for a message; what it holds besides text stays.

    Attributes:
        digest: of the message, as `unspool.serving.edits.digests` makes it.
        occurrence: which of the equal messages of the conversation, from 0.
        position: where it stood in the request the fork was made from, from 0.
        label: what to call it in a report.
        text: its new text.
        after: it holds in requests in which so many outputs of the model stand behind the message: it is read that
            often before it goes.
    """

    digest: str
    occurrence: int
    position: int
    label: str
    text: str
    after: int = 0


class Remove(msgspec.Struct, omit_defaults=True, tag="remove", tag_field="kind"):
    """A message to leave out, together with the results of the tool calls it makes. Attributes as in `Replace`."""

    digest: str
    occurrence: int
    position: int
    label: str


class Insert(msgspec.Struct, omit_defaults=True, tag="insert", tag_field="kind"):
    """Messages to add behind the one they follow in the edited conversation.

    Attributes:
        digest: of the message before them; None puts them at the beginning.
        said: the messages, in order.
    """

    digest: str | None
    occurrence: int
    position: int
    label: str
    said: list[Said]


Change = Replace | Remove | Insert


class Answer(msgspec.Struct, omit_defaults=True):
    """An answer in a provider's own form, ready to be given to a program.

    Attributes:
        headers: without length and encoding.
        body: base64 in the plan.
        cuts: where the body is cut into the pieces of a stream, as offsets; empty if it came at once.
    """

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes
    cuts: list[int] = []

    def pieces(self) -> list[bytes]:
        """The body as it arrives."""
        edges = [0, *self.cuts, len(self.body)]
        return [self.body[start:end] for start, end in pairwise(edges) if end > start]


class Turn(msgspec.Struct, omit_defaults=True):
    """One recorded call that later requests lean on: its items stand behind those of the call it leaned on itself.

    Attributes:
        previous: id of the response it leaned on.
        items: the input it was sent and the output it gave.
        missing: why the items are not all there; such a turn cannot be sent again.
    """

    previous: str | None
    items: list[Any]
    missing: str | None = None


class Edits(msgspec.Struct, omit_defaults=True):
    """What a fork changes, and how the conversation it changes is known again in later requests.

    A request belongs to the conversation if it speaks the same wire format, has the same system prompt, and holds a
    message of the conversation. System prompt, model and parameters are changed in such requests only.

    Attributes:
        provider: the wire format.
        system: the system prompt the fork was made from.
        digests: of the messages the fork was made from, in order.
        set_system: the system prompt to put in its place; None leaves it.
        model: the model to ask.
        params: keys of the request body, with dots for keys within objects, and their values; None removes one.
        changes: to the messages.
        response: what is answered in place of the model; None asks it.
        turns: recorded calls by the id of their response, for requests that lean on state the provider keeps.
        states: ids of state at the provider that recorded requests lean on; a live request must not lean on it,
            because this run has not made it.
        keep_state: requests that lean on such state are sent as they are.
    """

    provider: str
    system: str | None = None
    digests: list[str] = []
    set_system: str | None = None
    model: str | None = None
    params: dict[str, Any] = {}
    changes: list[Change] = []
    response: Answer | None = None
    turns: dict[str, Turn] = {}
    states: list[str] = []
    keep_state: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing is changed."""
        return not (self.set_system is not None or self.model or self.params or self.changes or self.response)

    def to_plan(self) -> dict[str, Any]:
        """The form for `Plan.edits`. Halves of surrogate pairs, which no plan can hold, make it one ASCII text."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        try:
            msgspec.json.encode(document)
        except UnicodeEncodeError:
            return {"ascii": json.dumps(document)}
        return document


def read_edits(document: dict[str, Any] | None) -> Edits | None:
    """The edits of a plan.

    Raises:
        msgspec.ValidationError: it holds something else.
    """
    if document is None:
        return None
    ascii_text = document.get("ascii")
    return msgspec.convert(json.loads(ascii_text) if isinstance(ascii_text, str) else document, Edits)
