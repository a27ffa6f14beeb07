"""OpenAI chat completions: https://platform.openai.com/docs/api-reference/chat.

`reasoning_content` is not OpenAI's but what compatible servers (DeepSeek, vLLM) send for thinking.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from unspool.demo.script import Finish, Framing, Message, ModelRequest, Reply, Tool, ToolCall, ToolResult, Usage
from unspool.demo.wire.framing import CREATED, dumps, joined, loads_arguments, make_id, pieces, sse

__all__ = ["error", "error_event", "headers", "parse", "render", "stream"]


def parse(body: Mapping[str, Any], *, model: str, framing: Framing) -> ModelRequest:
    system: list[str] = []
    messages: list[Message] = []
    for raw in body["messages"]:
        text = text_of(raw.get("content"))
        match raw["role"]:
            case "system" | "developer":
                system.append(text)
            case "tool":
                messages.append(Message("tool", tool_results=(ToolResult("", text, raw.get("tool_call_id") or ""),)))
            case "assistant":
                calls = (call for call in raw.get("tool_calls") or () if "function" in call)
                messages.append(Message("assistant", text, tuple(map(_call, calls))))
            case _:
                messages.append(Message("user", text))
    tools = (tool["function"] for tool in body.get("tools") or () if tool.get("type") == "function")
    return ModelRequest(
        wire="openai-chat",
        model=model,
        system="\n\n".join(system),
        messages=joined(messages),
        tools=tuple(Tool(tool["name"], tool.get("description") or "", tool.get("parameters") or {}) for tool in tools),
        framing=framing,
        raw_messages=body["messages"],
        body=body,
    )


def text_of(content: object) -> str:
    """The text of a content that is a string or a list of typed parts; other parts (images) have none."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))


def render(request: ModelRequest, reply: Reply, usage: Usage | None) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None, "refusal": None, "annotations": []}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    if reply.tool_calls:
        message["tool_calls"] = [
            {"id": _call_id(request, call, index), "type": "function", "function": _function(call)}
            for index, call in enumerate(reply.tool_calls)
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _FINISH[reply.finish_reason]}
    return _envelope(request, "chat.completion") | {"choices": [choice]} | ({"usage": _usage(usage)} if usage else {})


def stream(request: ModelRequest, reply: Reply, usage: Usage | None) -> list[bytes]:
    """Chunks, `[DONE]` last; usage in a chunk of its own, and only when `stream_options.include_usage` asks for it."""
    with_usage = bool((request.body.get("stream_options") or {}).get("include_usage")) and usage is not None
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
    deltas += [{"reasoning_content": piece} for piece in pieces(reply.reasoning, reply.chunks)]
    deltas += [{"content": piece} for piece in pieces(reply.text, reply.chunks)]
    for index, call in enumerate(reply.tool_calls):
        start: dict[str, Any] = {"index": index, "id": _call_id(request, call, index), "type": "function"}
        deltas.append({"tool_calls": [start | {"function": {"name": call.name, "arguments": ""}}]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
            for piece in pieces(_function(call)["arguments"], min(reply.chunks, 3))
        ]
    envelope = _envelope(request, "chat.completion.chunk")
    # As OpenAI does: once usage is asked for, every chunk has the field, null except in the last.
    nothing_yet = {"usage": None} if with_usage else {}
    finishes = [None] * len(deltas) + [_FINISH[reply.finish_reason]]
    choices = [
        {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        for delta, finish in zip([*deltas, {}], finishes, strict=True)
    ]
    frames = [sse(envelope | {"choices": [choice]} | nothing_yet) for choice in choices]
    if with_usage and usage:
        frames.append(sse(envelope | {"choices": [], "usage": _usage(usage)}))
    return [*frames, b"data: [DONE]\n\n"]


def error(status: int, message: str, request_id: str) -> dict[str, Any]:
    kind, code = _ERRORS.get(status, ("server_error" if status >= 500 else "invalid_request_error", None))
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def error_event(message: str, request: ModelRequest, sent: int) -> bytes:
    return b"data: " + dumps(error(500, message, "")) + b"\n\n"


def headers(request_id: str) -> dict[str, str]:
    return {"x-request-id": request_id, "openai-version": "2020-10-01", "openai-processing-ms": "1"}


_FINISH: Mapping[Finish, str] = {
    "stop": "stop",
    "tool_calls": "tool_calls",
    "length": "length",
    "content_filter": "content_filter",
}
_ERRORS: Mapping[int, tuple[str, str | None]] = {
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}


def _envelope(request: ModelRequest, kind: str) -> dict[str, Any]:
    return {
        "id": make_id("chatcmpl-", request.seed, "answer", 29),
        "object": kind,
        "created": CREATED,
        "model": request.model,
        "service_tier": "default",
        "system_fingerprint": "fp_unspool_demo",
    }


def _call(raw: Mapping[str, Any]) -> ToolCall:
    return ToolCall(raw["function"]["name"], loads_arguments(raw["function"]["arguments"]), raw["id"])


def _call_id(request: ModelRequest, call: ToolCall, index: int) -> str:
    return call.id or make_id("call_", request.seed, f"call {index}", 24)


def _function(call: ToolCall) -> dict[str, str]:
    return {"name": call.name, "arguments": json.dumps(dict(call.arguments))}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
