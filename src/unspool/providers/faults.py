"""Error bodies: what each provider, server and gateway sends instead of an answer."""

from __future__ import annotations

from typing import Any

from unspool.events import ErrorData
from unspool.providers.wire import as_object, as_text, compact_json, raw_text

__all__ = ["error_of", "http_error"]


def error_of(value: Any, *, failed: bool = False) -> ErrorData | None:
    """The error a JSON object reports, None if it reports none.

    Knows `{"error": {…}}` (OpenAI, Gemini, Groq, OpenRouter), `{"type": "error", "error": {…}}` (Anthropic), the same
    without the inner object (Responses streams, `{"object": "error"}` of vLLM) and `{"error": "text"}` (Ollama).

    Args:
        failed: the HTTP status already says that this is an error; then `message` and `detail` alone are one too.
    """
    body = as_object(value)
    inner = body.get("error")
    if isinstance(inner, dict):
        return ErrorData(type=_error_type(inner), message=_error_message(inner))
    if isinstance(inner, str) and inner:
        return ErrorData(type=_error_type(body), message=inner)
    says_so = body.get("type") == "error" or body.get("object") == "error"
    if says_so or (failed and _first_message(body) is not None):
        return ErrorData(type=_error_type(body), message=_error_message(body))
    return None


def http_error(status: int, body: bytes) -> ErrorData:
    """The error for a body that only its HTTP status explains: plain text, HTML, unknown JSON."""
    return ErrorData(type=f"http_{status}", message=raw_text(body))


def _first_message(body: dict[str, Any]) -> str | None:
    """The human-readable text of an error object."""
    for name in ("message", "detail", "msg", "error_description"):
        text = as_text(body.get(name))
        if text:
            return text
    return None


def _error_type(error: dict[str, Any]) -> str:
    """The most telling of the codes an error carries.

    OpenAI's `code` says more than its `type` (`context_length_exceeded`, `invalid_request_error`); Gemini's word is in
    `status`; a number is only the HTTP status again, so it comes last.
    """
    for name in ("code", "status", "type"):
        word = as_text(error.get(name))
        if word and word != "error" and not word.isdigit():
            return word
    number = error.get("code")
    if isinstance(number, int | str) and str(number).isdigit():
        return f"http_{number}"
    return "error"


def _error_message(error: dict[str, Any]) -> str:
    return _first_message(error) or compact_json(error)[:500]
