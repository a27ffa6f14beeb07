"""What the wire formats share: JSON, server-sent events, ids made from the request, and text in pieces."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from unspool.demo.script import Message, ToolCall, ToolResult

__all__ = ["CREATED", "dumps", "joined", "loads_arguments", "make_id", "pieces", "sse"]

CREATED = 1_767_225_600
"""Every answer says it was created at 2026-01-01T00:00:00Z, so that equal requests get equal bytes."""


def dumps(value: object) -> bytes:
    """Compact JSON in UTF-8, as the providers send it."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # a lone surrogate, echoed: only the escaped form exists
        return json.dumps(value, separators=(",", ":")).encode("ascii")


def sse(data: object, event: str = "", *, newline: bytes = b"\n") -> bytes:
    """One server-sent event."""
    head = b"event: " + event.encode() + newline if event else b""
    return head + b"data: " + dumps(data) + newline + newline


def make_id(prefix: str, seed: str, label: str, length: int) -> str:
    """An id that looks like the provider's and is the same for the same request."""
    return prefix + hashlib.sha256(f"{seed}/{label}".encode()).hexdigest()[:length]


def pieces(text: str, count: int) -> list[str]:
    """The text in `count` parts of nearly equal length, fewer when it is shorter; an empty text gives none."""
    count = min(count, len(text))
    edges = [len(text) * number // count for number in range(count + 1)] if count else []
    return [text[start:end] for start, end in pairwise(edges)]


def loads_arguments(text: object) -> dict[str, Any]:
    """The arguments of a tool call as the client sent them back; what is no JSON object is kept under `$raw`."""
    if isinstance(text, dict):
        return text
    try:
        value = json.loads(str(text))
    except ValueError:
        return {"$raw": text}
    return value if isinstance(value, dict) else {"$raw": value}


def joined(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Neighbours of role assistant or tool as one message, and results named after the call they answer."""
    names: dict[str, str] = {}
    out: list[Message] = []
    for message in messages:
        names |= {call.id: call.name for call in message.tool_calls}
        results = tuple(
            ToolResult(result.name or names.get(result.call_id, ""), result.text, result.call_id, result.is_error)
            for result in message.tool_results
        )
        calls: tuple[ToolCall, ...] = message.tool_calls
        text = message.text
        if out and out[-1].role == message.role and message.role != "user":
            before = out.pop()
            text, calls, results = before.text + text, before.tool_calls + calls, before.tool_results + results
        out.append(Message(message.role, text, calls, results))
    return tuple(out)
