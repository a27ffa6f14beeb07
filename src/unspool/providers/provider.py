"""What a wire format is to the rest of unspool: one record with two functions and the facts about its request body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from unspool.events import Context, LLMResponse

__all__ = ["ParseResponse", "Provider", "RequestHead"]


class RequestHead(NamedTuple):
    """The little of a request that is needed before it is sent.

    `state_ref` is the id of state the provider keeps that the request leans on (a previous response, a conversation, a
    prompt template, cached content), or None when the request says all.
    """

    model: str | None
    stream: bool
    state_ref: str | None


class ParseResponse(Protocol):
    """How a response body becomes an `LLMResponse`; raises nothing, whatever the bytes."""

    def __call__(self, url: str, body: bytes, content_type: str | None, status: int, complete: bool) -> LLMResponse: ...


class Provider(NamedTuple):
    """A wire format.

    Attributes:
        name: what `Context.provider` says.
        array_keys: top-level arrays of the request body worth cutting into elements; the first holds the messages.
        system_keys: top-level keys that hold the system prompt outside the messages.
        parse_request: the request body as the context the model saw; raises nothing, whatever the bytes.
        parse_response: the response body, whole or streamed, as the model's answer.
        suffixes: how the URL paths of its calls end.
        accepts: whether a path that ends so is really one of its calls.
        read_head: the head of a request from its URL and its decoded body, or what is left of it without its arrays.
        vendor: who is called when the host is not known by name.
    """

    name: str
    array_keys: tuple[str, ...]
    system_keys: tuple[str, ...]
    parse_request: Callable[[str, bytes], Context]
    parse_response: ParseResponse
    suffixes: tuple[str, ...]
    accepts: Callable[[str], bool]
    read_head: Callable[[str, dict[str, Any]], RequestHead]
    vendor: str
