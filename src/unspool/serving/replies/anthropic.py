"""An answer to an Anthropic request: the message, and the same as events."""

from __future__ import annotations

from typing import Any, Final

from unspool.providers.wire import as_list, as_object, as_text, compact_json, decode_json
from unspool.serving.replies.framing import Framed, sse_event
from unspool.serving.replies.said import SaidResponse

__all__ = ["document", "frames"]

_NO_USAGE: Final = {"input_tokens": 0, "output_tokens": 0}


def document(said: SaidResponse, like: dict[str, Any], model: str, identity: str) -> dict[str, Any]:
    """A message; usage as in the answer it takes the place of."""
    content: list[dict[str, Any]] = [{"type": "text", "text": said.text}] if said.text else []
    content += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": decode_json(call.arguments)}
        for call in said.tool_calls
    ]
    return {
        "id": f"msg_{identity}",
        "type": "message",
        "role": "assistant",
        "model": as_text(like.get("model")) or model,
        "content": content,
        "stop_reason": "tool_use" if said.tool_calls else "end_turn",
        "stop_sequence": None,
        "usage": {**_NO_USAGE, **as_object(like.get("usage"))},
    }


def frames(answer: dict[str, Any], _request: dict[str, Any], _url: str) -> Framed:
    """The events from `message_start` to `message_stop`."""
    usage = {**_NO_USAGE, **as_object(answer.get("usage"))}
    start = {**answer, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}]
    for index, value in enumerate(as_list(answer.get("content"))):
        opening, deltas = _in_deltas(as_object(value))
        events.append({"type": "content_block_start", "index": index, "content_block": opening})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    ending = {"stop_reason": answer.get("stop_reason") or "end_turn", "stop_sequence": answer.get("stop_sequence")}
    events.append({"type": "message_delta", "delta": ending, "usage": {"output_tokens": usage["output_tokens"]}})
    events.append({"type": "message_stop"})
    return Framed("text/event-stream; charset=utf-8", [sse_event(event, named=True) for event in events])


def _in_deltas(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as its start shows it, and the deltas that fill it; one that has none is whole at the start."""
    kind = block.get("type")
    if kind == "text":
        return {**block, "text": ""}, [{"type": "text_delta", "text": as_text(block.get("text")) or ""}]
    if kind == "tool_use":
        delta = {"type": "input_json_delta", "partial_json": compact_json(block.get("input") or {})}
        return {**block, "input": {}}, [delta]
    if kind == "thinking":
        deltas = [
            {"type": "thinking_delta", "thinking": as_text(block.get("thinking")) or ""},
            {"type": "signature_delta", "signature": as_text(block.get("signature")) or ""},
        ]
        return {**block, "thinking": "", "signature": ""}, deltas
    return block, []
