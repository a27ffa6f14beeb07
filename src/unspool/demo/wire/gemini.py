"""Google Gemini `generateContent`: https://ai.google.dev/api/generate-content.

Calls carry no id, as with the API's own models before version 3: results are matched by name and order.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from unspool.demo.script import Finish, Framing, Message, ModelRequest, Reply, Tool, ToolCall, ToolResult, Usage
from unspool.demo.wire.framing import joined, make_id, pieces, sse

__all__ = ["as_array", "error", "error_event", "headers", "parse", "render", "stream"]


def parse(body: Mapping[str, Any], *, model: str, framing: Framing) -> ModelRequest:
    messages: list[Message] = []
    for content in body["contents"]:
        parts = content.get("parts") or []
        text = "".join(str(part["text"]) for part in parts if "text" in part and not part.get("thought"))
        if content.get("role") == "model":
            calls = tuple(_call(part["functionCall"]) for part in parts if "functionCall" in part)
            messages.append(Message("assistant", text, calls))
            continue
        results = tuple(_result(part["functionResponse"]) for part in parts if "functionResponse" in part)
        if results:
            messages.append(Message("tool", tool_results=results))
        if text or not results:
            messages.append(Message("user", text))
    system = body.get("systemInstruction") or body.get("system_instruction") or {}
    declared = [
        declaration for tool in body.get("tools") or () for declaration in tool.get("functionDeclarations") or ()
    ]
    return ModelRequest(
        wire="gemini",
        model=model,
        system="\n\n".join(str(part.get("text") or "") for part in system.get("parts") or ()),
        messages=joined(messages),
        tools=tuple(
            Tool(
                one["name"],
                one.get("description") or "",
                one.get("parameters") or one.get("parametersJsonSchema") or {},
            )
            for one in declared
        ),
        framing=framing,
        raw_messages=body["contents"],
        body=body,
    )


def render(request: ModelRequest, reply: Reply, usage: Usage | None) -> dict[str, Any]:
    parts = [*_thoughts(reply.reasoning, 1), *({"text": text} for text in pieces(reply.text, 1)), *_calls(reply)]
    return _chunk(request, parts, reply.finish_reason, usage)


def stream(request: ModelRequest, reply: Reply, usage: Usage | None) -> list[bytes]:
    """One event a piece; the finish reason in the last, usage in each (the API counts up, here it is the total)."""
    parts = [*_thoughts(reply.reasoning, reply.chunks)]
    parts += [{"text": text} for text in pieces(reply.text, reply.chunks)]
    parts += _calls(reply)
    parts = parts or [{"text": ""}]
    finishes: list[Finish | None] = [None] * (len(parts) - 1) + [reply.finish_reason]
    chunks = (_chunk(request, [part], finish, usage) for part, finish in zip(parts, finishes, strict=True))
    return [sse(chunk, newline=b"\r\n") for chunk in chunks]


def as_array(events: list[bytes]) -> list[bytes]:
    """The same stream as the JSON array that `streamGenerateContent` sends without `alt=sse`."""
    items = [event.removeprefix(b"data: ").rstrip() for event in events]
    return [b"[" + items[0], *(b"\n,\r\n" + item for item in items[1:]), b"\n]\n"]


def error(status: int, message: str, request_id: str) -> dict[str, Any]:
    name = _ERRORS.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
    return {"error": {"code": status, "message": message, "status": name}}


def error_event(message: str, request: ModelRequest, sent: int) -> bytes:
    return sse(error(503, message, ""), newline=b"\r\n")


def headers(request_id: str) -> dict[str, str]:
    return {"x-request-id": request_id, "server": "scaffolding on HTTPServer2"}


_FINISH: Mapping[Finish, str] = {
    "stop": "STOP",
    "tool_calls": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
}
_ERRORS: Mapping[int, str] = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def _call(raw: Mapping[str, Any]) -> ToolCall:
    return ToolCall(raw["name"], raw.get("args") or {}, raw.get("id") or raw["name"])


def _result(raw: Mapping[str, Any]) -> ToolResult:
    response = raw.get("response") or {}
    # The SDK wraps what a function returned as `result` or `output`, and what it raised as `error`.
    value = next((response[key] for key in ("result", "output", "error") if key in response), response)
    text = value if isinstance(value, str) else json.dumps(value)
    return ToolResult(raw["name"], text, raw.get("id") or raw["name"], "error" in response)


def _thoughts(reasoning: str, count: int) -> list[dict[str, Any]]:
    return [{"text": text, "thought": True} for text in pieces(reasoning, count)]


def _calls(reply: Reply) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for call in reply.tool_calls:
        called = {"name": call.name, "args": dict(call.arguments)} | ({"id": call.id} if call.id else {})
        signature = {"thoughtSignature": base64.b64encode(b"demo").decode()} if reply.reasoning else {}
        parts.append({"functionCall": called, **signature})
    return parts


def _chunk(
    request: ModelRequest, parts: list[dict[str, Any]], finish: Finish | None, usage: Usage | None
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}}
    if finish:
        candidate["finishReason"] = _FINISH[finish]
    return {
        "candidates": [candidate | {"index": 0}],
        **({"usageMetadata": _usage(usage)} if usage else {}),
        "modelVersion": request.model,
        "responseId": make_id("", request.seed, "answer", 22),
    }


def _usage(usage: Usage) -> dict[str, Any]:
    """Candidates and thoughts are counted apart; zero counts are left out, as in the API's JSON."""
    counts = {
        "promptTokenCount": usage.input,
        "cachedContentTokenCount": usage.cached,
        "candidatesTokenCount": usage.output - usage.reasoning,
        "thoughtsTokenCount": usage.reasoning,
        "totalTokenCount": usage.input + usage.output,
    }
    return {name: count for name, count in counts.items() if count}
