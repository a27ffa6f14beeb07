"""Streamed bodies: server-sent events, newline-delimited JSON, and the JSON array Gemini streams without `alt=sse`.

Server-sent events follow the WHATWG HTML standard, section 9.2.6 ("Interpreting an event stream"), except that the
last event counts even when the blank line behind it is missing: if its data is whole, nothing was lost.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NamedTuple

from unspool.providers.wire import decode_json

__all__ = ["ServerSentEvent", "Stream", "json_documents", "looks_like_sse", "parse_sse", "read_stream"]

# Not str.splitlines(): it also breaks at U+2028 and others, which are legal inside JSON strings.
_LINE_END: Final = re.compile(r"\r\n|\n|\r")
_FIELDS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")
_BETWEEN_DOCUMENTS: Final = re.compile(r"[\s,\x1e]*")  # x1e begins each record of RFC 7464 JSON text sequences


class ServerSentEvent(NamedTuple):
    """One event; `event` is None for the default type."""

    event: str | None
    data: str


class Stream(NamedTuple):
    """The JSON objects of a streamed body, in order.

    `done` is true when a `[DONE]` mark was among them. `damaged` counts pieces that are no JSON object, a torn last
    one included.
    """

    items: list[dict[str, Any]]
    done: bool = False
    damaged: int = 0


def read_stream(body: bytes, content_type: str | None) -> Stream | None:
    """The events of a body that is server-sent events, None for any other body.

    The bytes decide before the label: gateways send JSON errors as `text/event-stream` and streams as
    `application/json`.
    """
    if looks_like_sse(body):
        return _read_sse(body)
    labelled = "event-stream" in (content_type or "").lower()
    start = body.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    return _read_sse(body) if labelled and start not in (b"{", b"[") else None


def looks_like_sse(body: bytes) -> bool:
    """Whether the body begins like an event stream: with a field name or a comment."""
    return body[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_FIELDS)


def _read_sse(body: bytes) -> Stream:
    items: list[dict[str, Any]] = []
    done, damaged = False, 0
    for event in parse_sse(body):
        if event.data.startswith("[DONE]"):  # as the OpenAI SDK tests it
            done = True
            continue
        try:
            value = decode_json(event.data)
        except ValueError:
            value = None
        if isinstance(value, dict):
            items.append(value)
        elif event.event == "error":
            items.append({"type": "error", "error": event.data})
        else:
            damaged += 1
    return Stream(items, done, damaged)


def parse_sse(body: bytes) -> list[ServerSentEvent]:
    """The events of a `text/event-stream` body that carry data.

    Line ends may be LF, CRLF or CR; comments and unknown fields are skipped; several data lines are joined by newlines.
    """
    events: list[ServerSentEvent] = []
    name: str | None = None
    data: list[str] = []
    for line in _LINE_END.split(body.decode("utf-8-sig", "replace")):
        if not line:
            if data:
                events.append(ServerSentEvent(name, "\n".join(data)))
            name, data = None, []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
    if data:
        events.append(ServerSentEvent(name, "\n".join(data)))
    return events


def json_documents(body: bytes) -> Stream:
    """The JSON objects that stand one after another in `body`: NDJSON, or the elements of an array that may be torn.

    Reading stops at the first thing that is not JSON; that counts as one damaged piece.
    """
    text = body.decode("utf-8-sig", "replace")
    decoder = json.JSONDecoder()
    items: list[dict[str, Any]] = []
    damaged = 0
    position = _skip(text, 0)
    if text.startswith("[", position):
        position += 1
    while (position := _skip(text, position)) < len(text):
        if text[position] == "]" and not text[position + 1 :].strip():
            break
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            damaged += 1
            break
        if isinstance(value, dict):
            items.append(value)
        else:
            damaged += 1
    return Stream(items, damaged=damaged)


def _skip(text: str, position: int) -> int:
    match = _BETWEEN_DOCUMENTS.match(text, position)
    assert match is not None, "a pattern that may be empty matches everywhere"
    return match.end()
