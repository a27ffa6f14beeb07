"""Anthropic messages: https://docs.anthropic.com/en/api/messages and …/messages-streaming."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from unspool.demo.script import Finish, Framing, Message, ModelRequest, Reply, Tool, ToolCall, ToolResult, Usage
from unspool.demo.wire.framing import joined, make_id, pieces, sse

__all__ = ["error", "error_event", "headers", "parse", "render", "stream"]


def parse(body: Mapping[str, Any], *, model: str, framing: Framing) -> ModelRequest:
    messages: list[Message] = []
    for raw in body["messages"]:
        content = raw["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        text = "".join(block["text"] for block in blocks if block["type"] == "text")
        if raw["role"] == "assistant":
            messages.append(Message("assistant", text, tuple(_call(b) for b in blocks if b["type"] == "tool_use")))
            continue
        results = tuple(_result(block) for block in blocks if block["type"] == "tool_result")
        if results:
            messages.append(Message("tool", tool_results=results))
        if text or not results:
            messages.append(Message("user", text))
    return ModelRequest(
        wire="anthropic",
        model=model,
        system=_text_of(body.get("system")),
        messages=joined(messages),
        tools=tuple(
            Tool(tool["name"], tool.get("description") or "", tool.get("input_schema") or {})
            for tool in body.get("tools") or ()
        ),
        framing=framing,
        raw_messages=body["messages"],
        body=body,
    )


def render(request: ModelRequest, reply: Reply, usage: Usage | None) -> dict[str, Any]:
    return _message(request) | {
        "content": _blocks(request, reply),
        "stop_reason": _FINISH[reply.finish_reason],
        **({"usage": _usage(usage)} if usage else {}),
    }


def stream(request: ModelRequest, reply: Reply, usage: Usage | None) -> list[bytes]:
    """The events from `message_start` to `message_stop`; the final output count comes in `message_delta`."""
    # Like the API: input counts at the start, and an output count of what has been written by then.
    early = {"usage": _usage(usage) | {"output_tokens": 1}} if usage else {}
    start: dict[str, Any] = {"content": [], "stop_reason": None, **early}
    frames = [
        _event({"type": "message_start", "message": _message(request) | start}),
        _event({"type": "ping"}),
    ]
    for index, block in enumerate(_blocks(request, reply)):
        empty, deltas = _in_deltas(block, reply.chunks)
        frames.append(_event({"type": "content_block_start", "index": index, "content_block": empty}))
        frames += [_event({"type": "content_block_delta", "index": index, "delta": delta}) for delta in deltas]
        frames.append(_event({"type": "content_block_stop", "index": index}))
    ending = {"stop_reason": _FINISH[reply.finish_reason], "stop_sequence": None}
    final: dict[str, Any] = {"usage": {"output_tokens": usage.output}} if usage else {}
    if usage and usage.reasoning:
        final["usage"]["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    return [
        *frames,
        _event({"type": "message_delta", "delta": ending, **final}),
        _event({"type": "message_stop"}),
    ]


def error(status: int, message: str, request_id: str) -> dict[str, Any]:
    kind = _ERRORS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}


def error_event(message: str, request: ModelRequest, sent: int) -> bytes:
    return _event({"type": "error", "error": {"type": "overloaded_error", "message": message}})


def headers(request_id: str) -> dict[str, str]:
    return {"request-id": request_id, "anthropic-organization-id": "00000000-0000-4000-8000-000000000000"}


_FINISH: Mapping[Finish, str] = {
    "stop": "end_turn",
    "tool_calls": "tool_use",
    "length": "max_tokens",
    "content_filter": "refusal",
}
_ERRORS: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n\n".join(str(block["text"]) for block in content if block.get("type") == "text")


def _call(block: Mapping[str, Any]) -> ToolCall:
    return ToolCall(block["name"], block["input"], block["id"])


def _result(block: Mapping[str, Any]) -> ToolResult:
    return ToolResult("", _text_of(block.get("content")), block["tool_use_id"], bool(block.get("is_error")))


def _message(request: ModelRequest) -> dict[str, Any]:
    return {
        "id": make_id("msg_01", request.seed, "answer", 22),
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _blocks(request: ModelRequest, reply: Reply) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if reply.reasoning:
        signature = make_id("Eu", request.seed, "signature", 62)
        blocks.append({"type": "thinking", "thinking": reply.reasoning, "signature": signature})
    if reply.text:
        blocks.append({"type": "text", "text": reply.text})
    for index, call in enumerate(reply.tool_calls):
        identity = call.id or make_id("toolu_01", request.seed, f"call {index}", 22)
        blocks.append({"type": "tool_use", "id": identity, "name": call.name, "input": dict(call.arguments)})
    return blocks


def _in_deltas(block: Mapping[str, Any], chunks: int) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The block as `content_block_start` shows it, and the deltas that fill it."""
    match block["type"]:
        case "thinking":
            parts = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"], chunks)]
            parts.append({"type": "signature_delta", "signature": block["signature"]})
            return {**block, "thinking": "", "signature": ""}, parts
        case "text":
            return {**block, "text": ""}, [
                {"type": "text_delta", "text": piece} for piece in pieces(block["text"], chunks)
            ]
        case _:
            # The API opens with an empty piece.
            texts = ["", *pieces(json.dumps(block["input"]), min(chunks, 3))]
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": text} for text in texts]


def _usage(usage: Usage) -> dict[str, Any]:
    """`input_tokens` is what was neither read from nor written to the cache."""
    thinking = {"output_tokens_details": {"thinking_tokens": usage.reasoning}} if usage.reasoning else {}
    return {
        "input_tokens": usage.input - usage.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.output,
        "service_tier": "standard",
        **thinking,
    }


def _event(data: dict[str, Any]) -> bytes:
    return sse(data, data["type"])
