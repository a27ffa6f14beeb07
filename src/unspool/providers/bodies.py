"""The steps every wire format shares: is there JSON, is it a stream, did it end, does it report an error.

A format brings two functions: one that reads its whole answer, and one that assembles the events of a stream into such
a whole answer. Both forms then take the same path, so a streamed call reads exactly like the same call unstreamed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from unspool.events import Context, ErrorData, LLMResponse
from unspool.providers.faults import error_of, http_error
from unspool.providers.sse import Stream, json_documents, read_stream
from unspool.providers.wire import decode_json, raw_text

__all__ = ["Answers", "Assembled", "read_request", "read_response"]


class Assembled(NamedTuple):
    """A stream put together.

    Attributes:
        document: the answer in the shape it has when it is not streamed.
        ended: the mark after which nothing comes was seen; the answer is whole, even if the connection was then cut
            (clients close it at the mark).
        finished: the model said it had finished, but more (usage) may follow.
    """

    document: dict[str, Any]
    ended: bool
    finished: bool = False


class Answers(NamedTuple):
    """How a format's answers are read.

    Attributes:
        read: reads a whole answer.
        assemble: makes a whole answer of a stream.
        end_mark: what a stream ends with, for the message when it did not.
    """

    read: Callable[[dict[str, Any]], LLMResponse]
    assemble: Callable[[Stream], Assembled]
    end_mark: str


def read_request(provider: str, body: bytes, read: Callable[[dict[str, Any]], Context]) -> Context:
    """The context in a request body; one that cannot be read gives an empty context that says why in `partial`."""
    try:
        value = decode_json(body)
    except ValueError as exc:
        return Context(messages=[], provider=provider, partial=f"request body is not JSON: {exc}")
    if not isinstance(value, dict):
        kind = type(value).__name__
        return Context(messages=[], provider=provider, partial=f"request body is not a JSON object but a {kind}")
    context = read(value)
    context.provider = provider
    return context


def read_response(body: bytes, content_type: str | None, status: int, complete: bool, answers: Answers) -> LLMResponse:
    """The answer in a response body; `complete` says whether the body arrived to its end."""
    stream = read_stream(body, content_type)
    if stream is None:
        try:
            value = decode_json(body)
        except ValueError as exc:
            stream = json_documents(body)
            if not stream.items:
                return _unreadable(body, status, complete, exc)
            if len(stream.items) == 1 and not body.lstrip().startswith(b"["):
                return _whole(stream.items[0], body, status, answers, "there is more than one JSON document")
        else:
            if isinstance(value, dict):
                cut = None if complete else "the connection ended before the body did"
                return _whole(value, body, status, answers, cut)
            if not isinstance(value, list):
                return LLMResponse(error=_unexpected(body, status))
            stream = Stream([item for item in value if isinstance(item, dict)])
            if value and not stream.items:
                return LLMResponse(error=_unexpected(body, status))
    return _streamed(stream, body, status, complete, answers)


def _whole(document: dict[str, Any], body: bytes, status: int, answers: Answers, cut: str | None) -> LLMResponse:
    response = answers.read(document)
    failed = status >= 400
    if response.error is None:
        response.error = error_of(document, failed=failed) or (http_error(status, body) if failed else None)
    response.partial = response.partial or cut
    return response


def _streamed(stream: Stream, body: bytes, status: int, complete: bool, answers: Answers) -> LLMResponse:
    failed = status >= 400
    assembled = answers.assemble(stream)
    response = answers.read(assembled.document)
    if response.error is None:
        reports = (error_of(item, failed=failed) for item in (assembled.document, *stream.items))
        response.error = next(filter(None, reports), None)
    if failed:  # an error body is no stream that was to be finished
        response.error = response.error or http_error(status, body)
    elif not (assembled.ended or (assembled.finished and complete)):
        response.partial = f"the stream ended before {answers.end_mark}"
    elif stream.damaged and response.partial is None:
        response.partial = f"{stream.damaged} of the stream's events could not be read"
    return response


def _unreadable(body: bytes, status: int, complete: bool, problem: ValueError) -> LLMResponse:
    if status >= 300:
        return LLMResponse(error=http_error(status, body))
    if not complete:
        return LLMResponse(partial=f"the body ended early, after {len(body)} bytes")
    said = f"{problem}: {raw_text(body, 200)}" if body.strip() else "the body is empty"
    return LLMResponse(error=ErrorData(type="malformed_json", message=said))


def _unexpected(body: bytes, status: int) -> ErrorData:
    if status >= 300:
        return http_error(status, body)
    return ErrorData(type="unexpected_body", message=raw_text(body))
