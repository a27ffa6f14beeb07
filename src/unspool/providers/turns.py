"""A message while it is put together from a provider's content blocks, and what links messages to each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from unspool.events import CtxMessage, Part, ToolCall

__all__ = ["Turn", "leading_system", "media_kind", "name_tool_results"]


class Turn:
    """Collects text, tool calls and other parts of one message.

    Text blocks of a model's turn that touch are one text (citations cut a sentence into several blocks); where another
    block stood between them a newline is put. Blocks people and programs send are separate texts: always a newline.
    """

    __slots__ = ("_gap", "_pieces", "calls", "parts", "role", "tool_call_id", "tool_name")

    def __init__(self, role: str, *, tool_call_id: str | None = None, tool_name: str | None = None) -> None:
        self.role = role
        self.tool_call_id = tool_call_id
        self.tool_name = tool_name
        self.calls: list[ToolCall] = []
        self.parts: list[Part] = []
        self._pieces: list[str] = []
        self._gap = False

    def add_text(self, text: str | None) -> None:
        """Append a text block; empty ones leave no trace."""
        if not text:
            return
        if self._pieces and (self._gap or self.role != "assistant"):
            self._pieces.append("\n")
        self._pieces.append(text)
        self._gap = False

    def add_call(self, call: ToolCall) -> None:
        """Append a tool call."""
        self.calls.append(call)
        self._gap = True

    def add_part(self, kind: str, data: Any = None, text: str | None = None) -> None:
        """Append a block that is neither text nor a tool call the agent is to run."""
        self.parts.append(Part(kind=kind, text=text, data=data))
        self._gap = True

    def end_block(self) -> None:
        """What follows is a new paragraph even if it is text again."""
        self._gap = True

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._pieces)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was collected."""
        return not (self._pieces or self.calls or self.parts)

    def reasoning(self, separator: str = "\n\n") -> str | None:
        """The readable reasoning, None if there is none."""
        return separator.join(part.text for part in self.parts if part.kind == "reasoning" and part.text) or None

    def message(self) -> CtxMessage:
        """The finished message."""
        return CtxMessage(
            role=self.role,
            content=self.text,
            tool_call_id=self.tool_call_id,
            tool_name=self.tool_name,
            tool_calls=self.calls or None,
            parts=self.parts or None,
        )


def media_kind(mime_type: str | None) -> str:
    """The kind of part for a MIME type: image, audio or file."""
    kind = (mime_type or "").partition("/")[0]
    return kind if kind in ("image", "audio") else "file"


def leading_system(messages: list[CtxMessage]) -> tuple[str | None, list[CtxMessage]]:
    """Split off the system and developer messages a conversation starts with: their text, and the rest.

    Later ones stay where they are: they were said at that point. One that holds more than text stops the search.
    """
    count = 0
    while count < len(messages) and messages[count].role in ("system", "developer") and messages[count].parts is None:
        count += 1
    texts = [message.content for message in messages[:count]]
    return ("\n".join(texts) if count else None), messages[count:]


def name_tool_results(messages: Iterable[CtxMessage]) -> None:
    """Give tool results without a tool name the name of the call they answer.

    Goes forward through the messages, so an id that is used again means the latest call before the result.
    """
    names: dict[str, str] = {}
    for message in messages:
        for call in message.tool_calls or ():
            if call.id is not None:
                names[call.id] = call.name
        if message.role == "tool" and message.tool_name is None and message.tool_call_id is not None:
            message.tool_name = names.get(message.tool_call_id)
