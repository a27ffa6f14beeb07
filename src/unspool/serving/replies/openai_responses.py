"""An answer to a Responses request: the response, and the same as events."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from unspool.providers.wire import as_count, as_list, as_object, as_text
from unspool.serving.replies.framing import Framed, sse_event
from unspool.serving.replies.said import SaidResponse

__all__ = ["document", "frames"]


def document(said: SaidResponse, like: dict[str, Any], model: str, identity: str) -> dict[str, Any]:
    """A completed response; settings and usage as in the answer it takes the place of."""
    output: list[dict[str, Any]] = []
    if said.text or not said.tool_calls:
        part = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
        output.append(
            {"id": f"msg_{identity}", "type": "message", "status": "completed", "role": "assistant", "content": [part]}
        )
    for number, call in enumerate(said.tool_calls):
        output.append(
            {
                "id": f"fc_{identity}_{number}",
                "type": "function_call",
                "status": "completed",
                "call_id": call.id,
                "name": call.name,
                "arguments": call.arguments,
            }
        )
    usage = as_object(like.get("usage")) or {
        "input_tokens": 0,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 0,
    }
    defaults: dict[str, Any] = {
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
    }
    return {
        **defaults,
        **like,
        "id": f"resp_{identity}",
        "object": "response",
        "created_at": as_count(like.get("created_at")) or 0,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": as_text(like.get("model")) or model,
        "output": output,
        "usage": usage,
    }


def frames(answer: dict[str, Any], _request: dict[str, Any], _url: str) -> Framed:
    """The events from `response.created` to `response.completed`, numbered in order."""
    begun = {**answer, "status": "in_progress", "output": [], "usage": None}
    status = as_text(answer.get("status")) or "completed"
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, item in enumerate(as_list(answer.get("output"))):
        events += _item_events(as_object(item), index)
    events.append({"type": f"response.{status}", "response": {**answer, "status": status}})
    number = count()
    numbered = ({**event, "sequence_number": next(number)} for event in events)
    return Framed("text/event-stream; charset=utf-8", [sse_event(event, named=True) for event in numbered])


def _item_events(item: dict[str, Any], index: int) -> Iterator[dict[str, Any]]:
    where = {"item_id": as_text(item.get("id")) or "", "output_index": index}
    kind = item.get("type")
    opening = dict(item)
    inner: list[dict[str, Any]] = []
    if kind == "message":
        opening |= {"content": [], "status": "in_progress"}
        for place, part in enumerate(as_list(item.get("content"))):
            inner += _part_events(as_object(part), {**where, "content_index": place})
    elif kind == "function_call":
        opening |= {"arguments": "", "status": "in_progress"}
        arguments = as_text(item.get("arguments")) or ""
        name = as_text(item.get("name")) or ""
        inner.append({"type": "response.function_call_arguments.delta", **where, "delta": arguments})
        inner.append({"type": "response.function_call_arguments.done", **where, "name": name, "arguments": arguments})
    yield {"type": "response.output_item.added", "output_index": index, "item": opening}
    yield from inner
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _part_events(part: dict[str, Any], where: dict[str, Any]) -> Iterator[dict[str, Any]]:
    kind = "refusal" if part.get("type") == "refusal" else "text"
    text = as_text(part.get(kind)) or ""
    stem = "response.refusal" if kind == "refusal" else "response.output_text"
    extra: dict[str, Any] = {} if kind == "refusal" else {"logprobs": []}
    yield {"type": "response.content_part.added", **where, "part": {**part, kind: ""}}
    yield {"type": f"{stem}.delta", **where, "delta": text, **extra}
    yield {"type": f"{stem}.done", **where, kind: text, **extra}
    yield {"type": "response.content_part.done", **where, "part": part}
