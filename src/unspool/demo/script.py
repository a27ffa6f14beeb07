"""What a script is asked (`ModelRequest`) and what it may answer (`Reply`), the same for every wire format.

A script is any callable `(ModelRequest) -> Reply`. It is called from one thread per connection and should be a pure
function of the request: then the same agent against another server gets the same answers, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

__all__ = [
    "CutOff",
    "ErrorInStream",
    "Fault",
    "Finish",
    "Framing",
    "HtmlPage",
    "Malformed",
    "Message",
    "ModelRequest",
    "Refusal",
    "Reply",
    "Script",
    "Silence",
    "Tool",
    "ToolCall",
    "ToolResult",
    "Usage",
    "WireName",
    "digest_messages",
    "estimate_usage",
]

WireName = Literal["openai-chat", "openai-responses", "anthropic", "gemini"]
Framing = Literal["body", "sse", "array"]
"""One JSON body, server-sent events, or Gemini's streamed JSON array (`streamGenerateContent` without `alt=sse`)."""
Finish = Literal["stop", "tool_calls", "length", "content_filter"]


@dataclass(frozen=True)
class ToolCall:
    """A call the model asks for. `id` may stay empty in a reply: the server makes one from the request."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""


@dataclass(frozen=True)
class ToolResult:
    """What a tool gave back. `name` is looked up from the call when the wire does not say it."""

    name: str
    text: str
    call_id: str = ""
    is_error: bool = False


@dataclass(frozen=True)
class Message:
    """One message. Neighbouring tool results are one message of role `tool` in every wire format."""

    role: Literal["user", "assistant", "tool"]
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_results: tuple[ToolResult, ...] = ()


@dataclass(frozen=True)
class Tool:
    """A tool the request offers."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelRequest:
    """A request to the model, with what the wire formats have in common pulled out of it.

    Attributes:
        model: the name as sent, suffixes included.
        raw_messages: the message list as it was on the wire (`messages`, `input` or `contents`).
        body: the decoded request body, whole.
        seed: hex digest of wire format, path and body bytes; ids in the answer are made from it.
        retry: the SDK's own retry counter (`x-stainless-retry-count`), 0 when the client sends none.
        sample: how often this server has been asked the very same before. A script that uses it plays a model that is
            sampled: asked again, it may answer otherwise.
    """

    wire: WireName
    model: str
    system: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    framing: Framing
    raw_messages: object
    body: Mapping[str, Any]
    seed: str = ""
    retry: int = 0
    sample: int = 0

    @property
    def stream(self) -> bool:
        return self.framing != "body"

    @property
    def last_user_text(self) -> str:
        return next((message.text for message in reversed(self.messages) if message.role == "user"), "")

    @cached_property
    def digest(self) -> str:
        return digest_messages(self.raw_messages)

    @cached_property
    def results(self) -> tuple[tuple[ToolCall, ToolResult], ...]:
        """Every tool result so far with the call it answers, in order."""
        calls = {call.id: call for message in self.messages for call in message.tool_calls}
        return tuple(
            (calls.get(result.call_id, ToolCall(result.name)), result)
            for message in self.messages
            for result in message.tool_results
        )


@dataclass(frozen=True)
class Usage:
    """Token counts: `input` includes `cached`, `output` includes `reasoning`. The wire formats split them their way."""

    input: int
    output: int
    cached: int = 0
    reasoning: int = 0


@dataclass(frozen=True)
class Refusal:
    """An error status with the provider's own error body.

    Args:
        times: how many requests with the same message list are refused before one is answered; None: all.
        retry_after_ms: sent as `retry-after-ms`. Not 0: the SDKs ignore 0 and back off half a second instead.
    """

    status: int
    times: int | None = None
    message: str = ""
    retry_after_ms: int = 1


@dataclass(frozen=True)
class Silence:
    """Nothing at all until the client hangs up, at most this long."""

    seconds: float = 30.0


@dataclass(frozen=True)
class Malformed:
    """Status 200 and JSON that does not parse; in a stream, from the middle on."""


@dataclass(frozen=True)
class CutOff:
    """The connection closes half way through the body or the stream."""


@dataclass(frozen=True)
class ErrorInStream:
    """The provider's error event in the middle of the stream; status 500 when no stream was asked for."""


@dataclass(frozen=True)
class HtmlPage:
    """The error page of a gateway that stands before the provider."""

    status: int = 502


Fault = Refusal | Silence | Malformed | CutOff | ErrorInStream | HtmlPage


@dataclass(frozen=True)
class Reply:
    """What the model answers and how it is delivered.

    Attributes:
        finish: None: `tool_calls` when there are any, else `stop`.
        usage: None: the answer carries no usage at all.
        chunks: into how many pieces a stream cuts the text (fewer when the text is shorter).
        encoding: the content coding of the answer, bodies and streams alike.
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""
    finish: Finish | None = None
    usage: Usage | Literal["estimate"] | None = "estimate"
    latency_s: float = 0.0
    chunks: int = 5
    chunk_delay_s: float = 0.0
    encoding: Literal["gzip", "deflate"] | None = None
    fault: Fault | None = None

    @property
    def finish_reason(self) -> Finish:
        return self.finish or ("tool_calls" if self.tool_calls else "stop")


Script = Callable[[ModelRequest], Reply]


def digest_messages(raw_messages: object) -> str:
    """First 12 hex characters of the SHA-256 of a message list as canonical JSON.

    Canonical: sorted keys, no spaces, ASCII. A test computes it from the list it sent and compares it with what
    `echo` answered.
    """
    # ASCII, because a message may hold a lone surrogate, which has no UTF-8 form.
    text = json.dumps(raw_messages, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:12]


def estimate_usage(request: ModelRequest, reply: Reply) -> Usage:
    """Counts of 4 characters a token, at least 1, over all text of the request and of the reply."""
    sent = len(request.system)
    for message in request.messages:
        sent += len(message.text) + sum(len(result.text) for result in message.tool_results)
        sent += sum(len(call.name) + len(json.dumps(dict(call.arguments))) for call in message.tool_calls)
    for tool in request.tools:
        sent += len(tool.name) + len(tool.description) + len(json.dumps(dict(tool.parameters)))
    said = len(reply.text) + sum(len(call.name) + len(json.dumps(dict(call.arguments))) for call in reply.tool_calls)
    reasoning = -(-len(reply.reasoning) // 4)
    return Usage(input=max(1, -(-sent // 4)), output=max(1, -(-said // 4)) + reasoning, reasoning=reasoning)
