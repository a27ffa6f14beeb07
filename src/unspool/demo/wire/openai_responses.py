"""OpenAI responses: https://platform.openai.com/docs/api-reference/responses and …/responses-streaming."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from unspool.demo.script import Framing, Message, ModelRequest, Reply, Tool, ToolCall, ToolResult, Usage
from unspool.demo.wire import openai_chat
from unspool.demo.wire.framing import CREATED, joined, loads_arguments, make_id, pieces, sse

__all__ = ["error", "error_event", "headers", "parse", "render", "stream"]

error = openai_chat.error
headers = openai_chat.headers


def parse(body: Mapping[str, Any], *, model: str, framing: Framing) -> ModelRequest:
    system = [body.get("instructions") or ""]
    messages: list[Message] = []
    items = body["input"]
    for item in [{"role": "user", "content": items}] if isinstance(items, str) else items:
        match item.get("type") or "message":
            case "message":
                text = openai_chat.text_of(item.get("content"))
                if item["role"] in ("system", "developer"):
                    system.append(text)
                else:
                    messages.append(Message("assistant" if item["role"] == "assistant" else "user", text))
            case "function_call":
                call = ToolCall(item["name"], loads_arguments(item["arguments"]), item["call_id"])
                messages.append(Message("assistant", tool_calls=(call,)))
            case "function_call_output":
                output = openai_chat.text_of(item["output"])
                messages.append(Message("tool", tool_results=(ToolResult("", output, item["call_id"]),)))
            case _:  # reasoning and other items the model gave: nothing a script reacts to
                continue
    tools = (tool for tool in body.get("tools") or () if tool.get("type") == "function")
    return ModelRequest(
        wire="openai-responses",
        model=model,
        system="\n\n".join(filter(None, system)),
        messages=joined(messages),
        tools=tuple(Tool(tool["name"], tool.get("description") or "", tool.get("parameters") or {}) for tool in tools),
        framing=framing,
        raw_messages=items,
        body=body,
    )


def render(request: ModelRequest, reply: Reply, usage: Usage | None) -> dict[str, Any]:
    status = "incomplete" if reply.finish_reason in ("length", "content_filter") else "completed"
    reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(reply.finish_reason)
    return _response(request) | {
        "status": status,
        "incomplete_details": {"reason": reason} if reason else None,
        "output": _items(request, reply),
        "usage": _usage(usage) if usage else None,
    }


def stream(request: ModelRequest, reply: Reply, usage: Usage | None) -> list[bytes]:
    """The events from `response.created` to `response.completed`, numbered in order."""
    final = render(request, reply, usage)
    started = _response(request) | {"status": "in_progress"}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": started},
        {"type": "response.in_progress", "response": started},
    ]
    for index, item in enumerate(final["output"]):
        events += _item_events(item, index, reply.chunks)
    events.append({"type": f"response.{final['status']}", "response": final})
    number = count()
    return [sse({**event, "sequence_number": next(number)}, event["type"]) for event in events]


def error_event(message: str, request: ModelRequest, sent: int) -> bytes:
    """An `error` event and the `response.failed` that closes the stream."""
    failed = _response(request) | {"status": "failed", "error": {"code": "server_error", "message": message}}
    said = {"type": "error", "code": "server_error", "message": message, "param": None, "sequence_number": sent}
    closing = {"type": "response.failed", "response": failed, "sequence_number": sent + 1}
    return sse(said, "error") + sse(closing, "response.failed")


def _item_events(item: dict[str, Any], index: int, chunks: int) -> Iterator[dict[str, Any]]:
    where = {"item_id": item["id"], "output_index": index}
    match item["type"]:
        case "reasoning":
            opening: dict[str, Any] = {"summary": []}
            inner = _part_events(item["summary"][0], "reasoning_summary", where | {"summary_index": 0}, chunks)
        case "message":
            opening = {"content": [], "status": "in_progress"}
            inner = _part_events(item["content"][0], "output", where | {"content_index": 0}, chunks)
        case _:
            opening = {"arguments": "", "status": "in_progress"}
            inner = _argument_events(item["arguments"], where, min(chunks, 3))
    yield {"type": "response.output_item.added", "output_index": index, "item": {**item, **opening}}
    yield from inner
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _part_events(part: dict[str, Any], kind: str, where: dict[str, Any], chunks: int) -> Iterator[dict[str, Any]]:
    """Text of a message (`output`: content parts, with logprobs) or of a reasoning summary."""
    name = "content_part" if kind == "output" else f"{kind}_part"
    extra: dict[str, Any] = {"logprobs": []} if kind == "output" else {}
    yield {"type": f"response.{name}.added", **where, "part": {**part, "text": ""}}
    for piece in pieces(part["text"], chunks):
        yield {"type": f"response.{kind}_text.delta", **where, "delta": piece, **extra}
    yield {"type": f"response.{kind}_text.done", **where, "text": part["text"], **extra}
    yield {"type": f"response.{name}.done", **where, "part": part}


def _argument_events(arguments: str, where: dict[str, Any], chunks: int) -> Iterator[dict[str, Any]]:
    for piece in pieces(arguments, chunks):
        yield {"type": "response.function_call_arguments.delta", **where, "delta": piece}
    yield {"type": "response.function_call_arguments.done", **where, "arguments": arguments}


def _items(request: ModelRequest, reply: Reply) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if reply.reasoning:
        summary = [{"type": "summary_text", "text": reply.reasoning}]
        items.append({"id": make_id("rs_", request.seed, "reasoning", 48), "type": "reasoning", "summary": summary})
    if reply.text:
        content = [{"type": "output_text", "annotations": [], "logprobs": [], "text": reply.text}]
        identity = make_id("msg_", request.seed, "message", 48)
        message = {"id": identity, "type": "message", "status": "completed", "role": "assistant", "content": content}
        items.append(message)
    for index, call in enumerate(reply.tool_calls):
        items.append(
            {
                "id": make_id("fc_", request.seed, f"item {index}", 48),
                "type": "function_call",
                "status": "completed",
                "arguments": json.dumps(dict(call.arguments)),
                "call_id": call.id or make_id("call_", request.seed, f"call {index}", 24),
                "name": call.name,
            }
        )
    return items


def _response(request: ModelRequest) -> dict[str, Any]:
    body = request.body
    return {
        "id": make_id("resp_", request.seed, "answer", 48),
        "object": "response",
        "created_at": CREATED,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": request.model,
        "output": [],
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "top_p": body.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": None,
        "metadata": body.get("metadata") or {},
    }


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }
