"""What `--set-response` gives: a text, tool calls, or an answer in the provider's own form."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from unspool.errors import UsageError
from unspool.events import ToolCall
from unspool.providers.sse import looks_like_sse
from unspool.providers.wire import arguments_text, as_text, decode_json, first_of

__all__ = ["SaidResponse", "read_said"]

# The key by which an answer of each wire format is known, and what stands under it.
_DOCUMENT_KEYS: Final = {
    "openai_chat": "choices",
    "openai_responses": "output",
    "anthropic": "content",
    "gemini": "candidates",
}


class SaidResponse(Struct):
    """What the model is to have said.

    Attributes:
        text: its words.
        tool_calls: the calls it makes; `arguments` is JSON text, `id` None where none was given.
        document: a whole answer in the provider's form, in place of both.
        raw: a whole stream as it is on the wire, in place of all.
    """

    text: str = ""
    tool_calls: list[ToolCall] = []
    document: dict[str, Any] | None = None
    raw: bytes | None = None


def read_said(provider: str, given: str) -> SaidResponse:
    """What a text given for an answer means.

    An array of objects with `name` is tool calls; an object with `tool_calls` is these and its `text`; an object in
    the provider's form, or an event stream, is the answer itself. Anything else is what the model says, word for word,
    other JSON too.

    Raises:
        UsageError: tool calls without a name, or with arguments that are no JSON object.
    """
    if looks_like_sse(given.encode("utf-8", "surrogatepass")) and given.rstrip().count("\n") > 0:
        return SaidResponse(raw=given.encode())
    try:
        value = decode_json(given)
    except ValueError:
        return SaidResponse(text=given)
    if isinstance(value, dict):
        key = _DOCUMENT_KEYS.get(provider, "")
        if isinstance(value.get(key), list) and (provider != "anthropic" or value.get("type") == "message"):
            return SaidResponse(document=value)
        if isinstance(value.get("tool_calls"), list) and set(value) <= {"text", "content", "role", "tool_calls"}:
            text = as_text(first_of(value, "text", "content")) or ""
            return SaidResponse(text=text, tool_calls=_calls(value["tool_calls"]))
    if isinstance(value, list) and value and all(isinstance(one, dict) and _inner(one).get("name") for one in value):
        return SaidResponse(tool_calls=_calls(value))
    return SaidResponse(text=given)


def _inner(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    return function if isinstance(function, dict) else call


def _calls(values: list[Any]) -> list[ToolCall]:
    return [_call(value, number) for number, value in enumerate(values)]


def _call(value: Any, number: int) -> ToolCall:
    inner = _inner(value) if isinstance(value, dict) else {}
    name = as_text(inner.get("name"))
    if not name:
        raise UsageError(f"--set-response: tool call {number + 1} has no name. Write: {_EXAMPLE}")
    given = first_of(inner, "arguments", "input", "args")
    arguments = arguments_text({} if given is None else given)
    try:
        is_object = isinstance(decode_json(arguments), dict)
    except ValueError:
        is_object = False
    if not is_object:
        raise UsageError(f"--set-response: the arguments of {name} are no JSON object. Write: {_EXAMPLE}")
    return ToolCall(name, arguments, as_text(first_of(value, "id", "call_id")))


_EXAMPLE: Final = '[{"name": "search", "arguments": {"q": "…"}}]'
