"""A request taken apart so that it can be edited: what is done to it becomes the edits of a fork."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from unspool.errors import UsageError
from unspool.events import Context, CtxMessage
from unspool.providers import PROVIDERS
from unspool.serving.edits.edits import Change, Edits, Insert, Remove, Replace, Said, Turn
from unspool.serving.edits.json_text import JsonObject
from unspool.serving.edits.rewriting import DIALECTS
from unspool.serving.edits.states import rebuild
from unspool.serving.edits.units import Unit

__all__ = ["Draft", "Line"]


@dataclass
class Line:
    """One message of the draft.

    Attributes:
        role: as in a context.
        text: as it is now.
        unit: the message of the request, None for one that was added.
        number: its number in the request, from 1; 0 for one that was added.
        message: as the context has it, with its calls and other parts; None for one that was added.
    """

    role: str
    text: str
    unit: Unit | None = None
    number: int = 0
    message: CtxMessage | None = None

    @property
    def is_changed(self) -> bool:
        """Whether its text is not the request's."""
        return self.message is not None and self.text != self.message.content


@dataclass
class Draft:
    """The request of a model call while it is edited.

    Attributes:
        provider, url, body: of the request; `body` says in full what it leans on.
        context: what the model saw.
        lines: the messages as they are now.
        set_system, model, params: what is set; None and nothing leave it.
    """

    provider: str
    url: str
    body: bytes
    context: Context
    lines: list[Line]
    turns: dict[str, Turn] = field(default_factory=dict)
    states: list[str] = field(default_factory=list)
    keep_state: bool = False
    set_system: str | None = None
    model: str | None = None
    params: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        provider: str,
        url: str,
        body: bytes,
        *,
        turns: dict[str, Turn] | None = None,
        states: list[str] | None = None,
        keep_state: bool = False,
    ) -> Draft:
        """Take a request apart.

        Raises:
            UsageError: it cannot be edited, or leans on state that cannot be said in full.
        """
        dialect = DIALECTS.get(provider)
        if dialect is None:
            raise UsageError(
                f"requests of the form {provider!r} cannot be edited; these can: {', '.join(sorted(DIALECTS))}"
            )
        known = Edits(provider, turns=turns or {}, states=states or [], keep_state=keep_state)
        try:
            document = JsonObject(body)
            state = rebuild(document, known, url)
            units = dialect.read(document)
        except (ValueError, RecursionError) as exc:
            raise UsageError(f"the recorded request cannot be edited: {exc}") from exc
        if state.blocked is not None:
            raise UsageError(state.blocked)
        whole = document.to_bytes()
        context = PROVIDERS[provider].parse_request(url, whole)
        if len(context.messages) != len(units):
            raise UsageError(
                f"the recorded request cannot be edited: it holds {len(units)} messages of which "
                f"{len(context.messages)} can be told apart"
            )
        pairs = enumerate(zip(context.messages, units, strict=True), start=1)
        lines = [Line(message.role, message.content, unit, number, message) for number, (message, unit) in pairs]
        return cls(provider, url, whole, context, lines, turns or {}, states or [], keep_state)

    # --- what can be done to it --------------------------------------------------------------------------------------

    def append(self, role: str, text: str) -> None:
        """Add a message at the end.

        Raises:
            UsageError: the wire format has no such role.
        """
        self.lines.append(self.said(role, text))

    def said(self, role: str, text: str) -> Line:
        """A new message.

        Raises:
            UsageError: the wire format has no such role.
        """
        roles = DIALECTS[self.provider].ROLES
        if role not in roles:
            more = " What a tool returned is changed with --tool-result." if role == "tool" else ""
            raise UsageError(f"a message of role {role!r} cannot be added here: it may be {', '.join(roles)}.{more}")
        return Line(role, text)

    def remove_last(self, count: int) -> None:
        """Take the last `count` messages away.

        Raises:
            UsageError: there are fewer.
        """
        if count > len(self.lines):
            raise UsageError(f"--remove-last {count}: the context has {_counted(len(self.lines))}")
        if count:
            del self.lines[-count:]

    def replace_last(self, text: str) -> None:
        """Give the last message another text.

        Raises:
            UsageError: there is none.
        """
        if not self.lines:
            raise UsageError("--replace-last: the context has no messages")
        self.lines[-1].text = text

    def set_tool_result(self, call_id: str, text: str) -> None:
        """Let a tool have returned something else: the latest result of that call, or of the tool of that name.

        Raises:
            UsageError: no message is the result of such a call, or several are of that tool.
        """
        results = [line for line in self.lines if line.message is not None and line.role == "tool"]
        found = [line for line in results if line.message is not None and line.message.tool_call_id == call_id][-1:]
        found = found or [line for line in results if line.message is not None and line.message.tool_name == call_id]
        if len(found) == 1:
            found[0].text = text
            return
        ids = ", ".join(
            f"{line.message.tool_call_id or '(no id)'} ({line.message.tool_name or 'unknown tool'})"
            for line in results
            if line.message is not None
        )
        if found:
            raise UsageError(f"--tool-result: {len(found)} results are of {call_id}. Name the call: {ids}")
        have = f"The results there: {ids}" if ids else "There are no tool results"
        raise UsageError(f"--tool-result: no message before this point is the result of call {call_id!r}. {have}")

    # --- what became of it -------------------------------------------------------------------------------------------

    def edits(self) -> Edits:
        """What was done, so that it can be done to later requests too."""
        units = [line.unit for line in self._original]
        return Edits(
            provider=self.provider,
            system=self.context_system,
            digests=[unit.digest for unit in units if unit is not None],
            set_system=None if self.set_system == self.context_system else self.set_system,
            model=self.model,
            params=dict(self.params),
            changes=list(self._changes()),
            turns=self.turns,
            states=self.states,
            keep_state=self.keep_state,
        )

    def __post_init__(self) -> None:
        self._original = list(self.lines)
        self.context_system = DIALECTS[self.provider].system(JsonObject(self.body))

    def _changes(self) -> list[Change]:
        changes: list[Change] = []
        kept = {id(line) for line in self.lines}
        gone: set[int] = set()
        for position, line in enumerate(self._original):
            unit = line.unit
            assert unit is not None, "lines of the request have the unit they were made of"
            if id(line) not in kept:
                gone.add(id(unit))
                if unit.answers is None or id(unit.answers) not in gone:  # else it goes with its call
                    changes.append(Remove(unit.digest, unit.occurrence, position, _label(line)))
            elif line.is_changed:
                changes.append(Replace(unit.digest, unit.occurrence, position, _label(line), line.text))
        before: Line | None = None
        added: list[Said] = []
        for one in [*self.lines, None]:
            if one is not None and one.unit is None:
                added.append(Said(one.role, one.text))
                continue
            if added:
                changes.append(_insert(before, added, self._original))
                added = []
            before = one
        return changes


def _insert(before: Line | None, said: list[Said], original: list[Line]) -> Insert:
    if before is None or before.unit is None:
        return Insert(None, 0, -1, "at the beginning", said)
    label = f"behind {_label(before)}"
    return Insert(before.unit.digest, before.unit.occurrence, original.index(before), label, said)


def _label(line: Line) -> str:
    message = line.message
    whose = f" of {message.tool_call_id or message.tool_name}" if message is not None and line.role == "tool" else ""
    return f"message {line.number} ({line.role}{whose})"


def _counted(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"
