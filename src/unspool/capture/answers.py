"""What the end of an exchange says: whether it failed, how, what the model answered, and why that is not whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from unspool.capture.guard import guard
from unspool.events import ErrorData, LLMResponse, LLMResponseData
from unspool.recording.lines import error_data

if TYPE_CHECKING:
    from unspool.providers import Provider

__all__ = ["CLOSED", "HttpEnd", "Outcome", "error_text", "outcome_of", "with_causes"]

CLOSED = "closed by the program"
_CAUSES_MAX = 4


class HttpEnd(NamedTuple):
    """How an exchange ended.

    Attributes:
        status: None where there was no response.
        body: what came of it, content-decoded.
        ended: how the body stopped, if it did not come to its end.
        broken: the client's own error, if that is what ended it.
    """

    url: str
    status: int | None
    reason: str | None
    body: bytes
    content_type: str | None
    ended: str | None
    broken: ErrorData | None


class Outcome(NamedTuple):
    """What became of a model call. `err` is "" where it succeeded; `result` is a line for people."""

    answer: LLMResponse | None
    err: str
    error: ErrorData | None
    partial: str | None
    result: str | None
    ended: str | None

    def data(self, model: str | None) -> LLMResponseData:
        """The payload of its `llm_response`, without the bytes; `model` is the one that was asked for."""
        answer = self.answer
        usage = answer.usage if answer is not None else None
        return LLMResponseData(
            model=(answer.model if answer is not None else None) or model,
            request_tokens=usage.input_tokens if usage is not None else None,
            response_tokens=usage.output_tokens if usage is not None else None,
            cached_tokens=usage.cached_tokens if usage is not None else None,
            cache_write_tokens=usage.cache_write_tokens if usage is not None else None,
            reasoning_tokens=usage.reasoning_tokens if usage is not None else None,
            finish_reason=answer.finish_reason if answer is not None else None,
            partial=self.partial,
            error=self.error,
        )


def outcome_of(provider: Provider, end: HttpEnd) -> Outcome:
    """What became of a model call."""
    ended = end.ended
    answer: LLMResponse | None = None
    if end.status is not None:
        # A stream the program closed after its end mark is whole; the parser knows the mark.
        whole = ended is None or ended == CLOSED
        with guard:
            answer = provider.parse_response(end.url, end.body, end.content_type, end.status, whole)
    if ended == CLOSED and answer is not None and answer.partial is None and answer.error is None:
        ended = None  # SDKs stop at the end mark, before the end of the body
    error = end.broken or (answer.error if answer is not None else None)
    partial = answer.partial if answer is not None else None
    if ended is not None and ended != CLOSED and partial is None and error is None:
        partial = ended
    err = error_text(end, error)
    result = None
    if not err and answer is not None:
        usage = answer.usage
        tokens = f"{_count(usage.input_tokens)}+{_count(usage.output_tokens)} tok" if usage is not None else "? tok"
        result = f"{tokens} {answer.finish_reason or partial or ''}".rstrip()
    return Outcome(answer, err, error, partial, result, ended)


def error_text(end: HttpEnd, error: ErrorData | None = None) -> str:
    """The error of an exchange in a line, "" where there is none; `error` is what its body says went wrong."""
    if end.broken is not None:
        return _named(end.broken) if end.broken.message else end.broken.type
    if end.status is not None and end.status >= 400:
        said = _named(error) if error is not None and error.message else end.reason or ""
        return f"{end.status} {said}".rstrip()
    return _named(error) if error is not None else ""


def with_causes(error: BaseException, depth: int = 0) -> ErrorData:
    """An exception and what it was raised from: clients wrap those of the layers below them."""
    data = error_data(error)
    if error.__cause__ is not None and depth < _CAUSES_MAX:
        data.cause = with_causes(error.__cause__, depth + 1)
    return data


def _named(error: ErrorData) -> str:
    return f"{error.type}: {error.message}"


def _count(tokens: int | None) -> str:
    return "?" if tokens is None else str(tokens)
