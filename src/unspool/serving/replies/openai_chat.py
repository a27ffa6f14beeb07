"""An answer to a chat completion request: the document, and the same as chunks."""

from __future__ import annotations

from typing import Any

from unspool.providers.wire import as_count, as_list, as_object, as_text
from unspool.serving.replies.framing import Framed, sse_event
from unspool.serving.replies.said import SaidResponse

__all__ = ["document", "frames"]


def document(said: SaidResponse, like: dict[str, Any], model: str, identity: str) -> dict[str, Any]:
    """A chat completion; envelope and usage as in the answer it takes the place of."""
    message: dict[str, Any] = {"role": "assistant", "content": said.text or None, "refusal": None}
    if said.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in said.tool_calls
        ]
    finish = "tool_calls" if said.tool_calls else "stop"
    usage = as_object(like.get("usage")) or {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    return {
        "id": f"chatcmpl-{identity}",
        "object": "chat.completion",
        "created": as_count(like.get("created")) or 0,
        "model": as_text(like.get("model")) or model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": usage,
    }


def frames(answer: dict[str, Any], request: dict[str, Any], _url: str) -> Framed:
    """The chunks; usage in one of its own if the request asks for it."""
    wanted = as_object(request.get("stream_options")).get("include_usage") is True
    kept = ("id", "created", "model", "service_tier")
    envelope: dict[str, Any] = {key: value for key, value in answer.items() if key in kept}
    envelope["object"] = "chat.completion.chunk"
    events: list[dict[str, Any]] = []

    def add(index: int, delta: dict[str, Any], finish: Any = None) -> None:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        events.append({**envelope, "choices": [choice], **({"usage": None} if wanted else {})})

    for number, value in enumerate(as_list(answer.get("choices"))):
        choice = as_object(value)
        index = as_count(choice.get("index"))
        index = number if index is None else index
        message = as_object(choice.get("message"))
        add(index, {"role": "assistant", "content": ""})
        others = {key: text for key, text in message.items() if key not in ("role", "tool_calls") and text}
        for key, text in others.items():
            add(index, {key: text})
        for place, call in enumerate(as_list(message.get("tool_calls"))):
            add(index, {"tool_calls": [{"index": place, **as_object(call)}]})
        add(index, {}, choice.get("finish_reason") or ("tool_calls" if message.get("tool_calls") else "stop"))
    if wanted:
        events.append({**envelope, "choices": [], "usage": answer.get("usage")})
    return Framed("text/event-stream; charset=utf-8", [*map(sse_event, events), b"data: [DONE]\n\n"])
