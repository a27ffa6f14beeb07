"""Answers a fork gives in place of the model, in the provider's own form, streamed or not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from unspool.errors import UsageError
from unspool.providers import PROVIDERS
from unspool.providers.sse import read_stream
from unspool.providers.wire import as_object, decode_json
from unspool.serving.edits.edits import Answer
from unspool.serving.edits.json_text import encode
from unspool.serving.replies import anthropic, gemini, openai_chat, openai_responses
from unspool.serving.replies.framing import Framed
from unspool.serving.replies.said import SaidResponse, read_said

__all__ = ["Recorded", "SaidResponse", "build_answer", "read_said"]

_NOT_SAID: Final = frozenset(
    {
        "content-length",
        "content-encoding",
        "transfer-encoding",
        "content-type",
        "set-cookie",
        "connection",
        "keep-alive",
    }
)


class Form(NamedTuple):
    """How a wire format says an answer: the document, the pieces of a stream, and whether calls must have ids."""

    document: Callable[[SaidResponse, dict[str, Any], str, str], dict[str, Any]]
    frames: Callable[[dict[str, Any], dict[str, Any], str], Framed]
    needs_ids: bool = True


_FORMS: Final[dict[str, Form]] = {
    "openai_chat": Form(openai_chat.document, openai_chat.frames),
    "openai_responses": Form(openai_responses.document, openai_responses.frames),
    "anthropic": Form(anthropic.document, anthropic.frames),
    "gemini": Form(gemini.document, gemini.frames, needs_ids=False),
}


class Recorded(NamedTuple):
    """The answer that was recorded: what is not said anew (headers, ids of models, usage) comes from it."""

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


def build_answer(provider: str, url: str, request: bytes, said: SaidResponse, recorded: Recorded) -> Answer:
    """The answer in the provider's form, streamed if the request asks for a stream. Its id is of its own.

    Raises:
        UsageError: the wire format is not known, or a stream was given for a request that asks for none.
    """
    form = _FORMS.get(provider)
    if form is None:
        raise UsageError(f"answers of the form {provider!r} cannot be made; these can: {', '.join(sorted(_FORMS))}")
    try:
        asked = as_object(decode_json(request))
    except ValueError:
        asked = {}
    head = PROVIDERS[provider].read_head(url, asked)
    worked = 200 <= recorded.status < 300
    headers = [pair for pair in recorded.headers if worked and pair[0].lower() not in _NOT_SAID]
    if said.raw is not None:
        if not head.stream:
            raise UsageError(
                "--set-response: an event stream was given, but the request asks for no stream. Give JSON."
            )
        return _answer(headers, Framed("text/event-stream; charset=utf-8", [said.raw]))
    whole = said.document
    if whole is None:
        seed = encode([said.text, [call.arguments for call in said.tool_calls]]) + request
        identity = f"unspool{hashlib.sha256(seed).hexdigest()[:24]}"
        if form.needs_ids:
            calls = [
                call if call.id else replace(call, id=f"call_{identity}_{n}") for n, call in enumerate(said.tool_calls)
            ]
            said = replace(said, tool_calls=calls)
        whole = form.document(said, _like(recorded) if worked else {}, head.model or "", identity)
    if head.stream:
        return _answer(headers, form.frames(whole, asked, url))
    return _answer(headers, Framed("application/json", [encode(whole)]))


def _answer(headers: list[tuple[str, str]], framed: Framed) -> Answer:
    cuts: list[int] = []
    for piece in framed.pieces[:-1]:
        cuts.append((cuts[-1] if cuts else 0) + len(piece))
    return Answer(200, "OK", [*headers, ("content-type", framed.content_type)], b"".join(framed.pieces), cuts)


def _like(recorded: Recorded) -> dict[str, Any]:
    """What a recorded answer says around its content: of a stream, what its events say."""
    stream = read_stream(recorded.body, None)
    if stream is None:
        try:
            value = decode_json(recorded.body)
        except ValueError:
            return {}
        items = (
            [value] if isinstance(value, dict) else [as_object(one) for one in value] if isinstance(value, list) else []
        )
    else:
        items = stream.items
    like: dict[str, Any] = {}
    for item in items:
        # The envelope: Anthropic has it in its first event, Responses in the last, the others in every chunk.
        envelope = {**item, **as_object(item.get("message")), **as_object(item.get("response"))}
        usage = {**as_object(like.get("usage")), **as_object(envelope.get("usage"))}
        like.update({key: value for key, value in envelope.items() if value is not None})
        like["usage"] = usage
    nothing = ("message", "response", "delta", "item", "part", "sequence_number", "output_index", "event_id")
    return {key: value for key, value in like.items() if key not in nothing}
