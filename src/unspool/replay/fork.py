"""The context of one point of a recording, taken out so that it can be changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from unspool.events import PID, Part, ToolCall, ToolDef
from unspool.replay.prefix import CHARS_PER_TOKEN
from unspool.text import dump_json, show_text

__all__ = ["ForkContext", "ForkMessage"]


class ForkMessage(Struct, omit_defaults=True):
    """One message of a fork. A tool result names the call it answers in `tool_call_id`.

    The last three keep what a message of the recording holds besides its text.
    """

    role: str
    content: str
    tool_call_id: str | None = None
    tool_name: str | None = None
    tool_calls: list[ToolCall] | None = None
    parts: list[Part] | None = None


class ForkContext(Struct):
    """What a forked run starts from; its methods change it in place.

    Attributes:
        original_pid: the agent process that was recorded.
        seq_num: the point that was asked for.
        intent: what that process was asked to do.
        system_prompt: "" if there is none. It is in no message.
        messages: the conversation.
        snapshot_seq_num: the snapshot in force at that point, the last one at or before it.
        provider: the wire format of the call; None if unknown, as with the next.
        model: the model it went to.
        tools: the tools offered to it.
        params: its parameters.
        partial: why this may not be all that the model saw; None if it is.
    """

    original_pid: PID
    seq_num: int
    intent: str = ""
    system_prompt: str = ""
    messages: list[ForkMessage] = []
    snapshot_seq_num: int | None = None
    provider: str | None = None
    model: str | None = None
    tools: list[ToolDef] = []
    params: dict[str, Any] = {}
    partial: str | None = None

    def set_system_prompt(self, prompt: str) -> None:
        """Replace the system prompt. Leading system messages that say the old one go with it."""
        old, self.system_prompt = self.system_prompt, prompt
        count = 0
        while count < len(self.messages) and _says(self.messages[count], old):
            count += 1
        del self.messages[:count]

    def append_message(self, role: str, content: str) -> None:
        """Add a message at the end; any role is taken."""
        self.messages.append(ForkMessage(role, content))

    def remove_last_messages(self, n: int) -> None:
        """Remove the last `n` messages, all if there are no more.

        Raises:
            ValueError: `n` is negative.
        """
        if n < 0:
            raise ValueError(f"n must not be negative, got {n}")
        del self.messages[max(len(self.messages) - n, 0) :]

    def replace_last_message(self, content: str) -> None:
        """Give the last message another text; its role and all else stay. Does nothing without messages."""
        if self.messages:
            self.messages[-1].content = content

    def problems(self) -> list[str]:
        """Why a provider would refuse these messages: tool calls without result, results without call."""
        return list(_unpaired(self.messages))

    def summary(self) -> str:
        """What would be forked, one fact a line. No final newline.

        Tokens are an estimate: characters of system prompt and messages by `CHARS_PER_TOKEN`.
        """
        chars = len(self.system_prompt) + sum(len(message.content) for message in self.messages)
        lines = [
            f"Original PID: {self.original_pid}",
            f"SeqNum: {self.seq_num}",
            f"Intent: {show_text(self.intent)}",
            f"Messages: {len(self.messages)}",
        ]
        if self.system_prompt:
            lines.append(f"System Prompt: len:{len(self.system_prompt.encode('utf-8', 'surrogatepass'))}")
        lines.append(f"Tokens (est): ~{-(-chars // CHARS_PER_TOKEN)}")
        if self.snapshot_seq_num not in (None, self.seq_num):
            lines.append(f"Snapshot: #{self.snapshot_seq_num:03d}, the context in force at #{self.seq_num:03d}")
        if self.model is not None:
            lines.append(f"Model: {show_text(self.model)}")
        if self.partial is not None:
            lines.append(f"Note: not all the model saw: {show_text(self.partial)}")
        lines += [f"Note: {show_text(problem)}" for problem in self.problems()]
        return "\n".join(lines)

    def to_json(self) -> bytes:
        """The wire form: the seed's keys and the additions beside them; an empty `tool_call_id` is left out."""
        messages = [replace(message, tool_call_id=message.tool_call_id or None) for message in self.messages]
        return dump_json(replace(self, messages=messages)).encode()


def _says(message: ForkMessage, prompt: str) -> bool:
    return bool(prompt) and message.role in ("system", "developer") and message.content == prompt


def _unpaired(messages: list[ForkMessage]) -> Iterator[str]:
    """Calls are answered by results further on; ids may be used again, and then answer the latest call."""
    waiting: dict[str, str] = {}
    for number, message in enumerate(messages, start=1):
        if message.role == "tool" and message.tool_call_id and waiting.pop(message.tool_call_id, None) is None:
            yield f"message {number} is the result of call {message.tool_call_id}, which no message before it makes"
        for call in message.tool_calls or ():
            if call.id:
                waiting[call.id] = f"message {number} calls {call.name} ({call.id}), which no message after it answers"
    yield from waiting.values()
