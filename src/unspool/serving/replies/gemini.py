"""An answer to a generateContent request: the document, and the same as the one chunk of a stream."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

from unspool.providers.wire import as_object, as_text, decode_json, first_of
from unspool.serving.edits.json_text import encode
from unspool.serving.replies.framing import Framed
from unspool.serving.replies.said import SaidResponse

__all__ = ["document", "frames"]


def document(said: SaidResponse, like: dict[str, Any], model: str, identity: str) -> dict[str, Any]:
    """An answer with one candidate; usage as in the answer it takes the place of."""
    parts: list[dict[str, Any]] = [{"text": said.text}] if said.text or not said.tool_calls else []
    for call in said.tool_calls:
        named = {"id": call.id} if call.id else {}  # results of calls without an id are matched by name
        parts.append({"functionCall": {"name": call.name, "args": decode_json(call.arguments), **named}})
    usage = as_object(first_of(like, "usageMetadata", "usage_metadata"))
    return {
        "candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": "STOP", "index": 0}],
        **({"usageMetadata": usage} if usage else {}),
        "modelVersion": as_text(first_of(like, "modelVersion", "model_version")) or model,
        "responseId": identity,
    }


def frames(answer: dict[str, Any], _request: dict[str, Any], url: str) -> Framed:
    """One chunk: as an event, or as the only element of an array where the URL does not ask for events."""
    if parse_qs(urlsplit(url).query).get("alt") == ["sse"]:
        return Framed("text/event-stream", [b"data: " + encode(answer) + b"\r\n\r\n"])
    return Framed("application/json; charset=UTF-8", [b"[" + encode(answer), b"\n]\n"])
