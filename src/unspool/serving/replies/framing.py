"""Streams in the form providers send them."""

from __future__ import annotations

from typing import Any, NamedTuple

from unspool.serving.edits.json_text import encode

__all__ = ["Framed", "sse_event"]


class Framed(NamedTuple):
    """A streamed body: its type, and the pieces it is sent in."""

    content_type: str
    pieces: list[bytes]


def sse_event(data: dict[str, Any], *, named: bool = False) -> bytes:
    """One server-sent event; `named` after the `type` of its data."""
    head = b"event: " + str(data.get("type", "message")).encode("utf-8", "replace") + b"\n" if named else b""
    return head + b"data: " + encode(data) + b"\n\n"
