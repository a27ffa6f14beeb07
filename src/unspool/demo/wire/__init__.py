"""The wire formats the model server speaks: one module each, all with the functions of `WireFormat`.

They are written from the providers' own documentation and share nothing with `unspool.providers`: a capture test
against this server would prove little if both sides had the same misunderstanding.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote

from unspool.demo.script import Framing, ModelRequest, Reply, Usage, WireName
from unspool.demo.wire import anthropic, gemini, openai_chat, openai_responses

__all__ = ["FORMATS", "Route", "WireFormat", "route"]


class WireFormat(Protocol):
    """What a module of this package offers."""

    def parse(self, body: Mapping[str, Any], *, model: str, framing: Framing) -> ModelRequest:
        """The request in common form. Raises KeyError, TypeError, AttributeError or ValueError if it is not one."""

    def render(self, request: ModelRequest, reply: Reply, usage: Usage | None) -> dict[str, Any]:
        """The body of an answer that is not streamed."""

    def stream(self, request: ModelRequest, reply: Reply, usage: Usage | None) -> list[bytes]:
        """The streamed answer, one server-sent event an item."""

    def error(self, status: int, message: str, request_id: str) -> dict[str, Any]:
        """The body of an error answer."""

    def error_event(self, message: str, request: ModelRequest, sent: int) -> bytes:
        """The error a stream ends with after `sent` events."""

    def headers(self, request_id: str) -> dict[str, str]:
        """The headers this provider adds to every answer."""


FORMATS: Mapping[WireName, WireFormat] = {
    "openai-chat": openai_chat,
    "openai-responses": openai_responses,
    "anthropic": anthropic,
    "gemini": gemini,
}


class Route(NamedTuple):
    """Which format a path asks for; `model` and `framing` are empty when the body says them."""

    wire: WireName
    model: str = ""
    framing: Framing | None = None


_ENDINGS: Mapping[str, WireName] = {
    "/chat/completions": "openai-chat",
    "/responses": "openai-responses",
    "/messages": "anthropic",
}
_GEMINI = re.compile(r"/models/(?P<model>[^/:]+):(?P<method>generateContent|streamGenerateContent)$")


def route(path: str, query: Mapping[str, list[str]]) -> Route | None:
    """The format of a POST path, whatever prefix a compatible server puts before it; None: not a model call."""
    for ending, wire in _ENDINGS.items():
        if path.endswith(ending):
            return Route(wire)
    if found := _GEMINI.search(path):
        streamed: Framing = "sse" if query.get("alt") == ["sse"] else "array"
        return Route("gemini", unquote(found["model"]), "body" if found["method"] == "generateContent" else streamed)
    return None
