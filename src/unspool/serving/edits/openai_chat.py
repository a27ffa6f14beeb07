"""The conversation of a chat completion request: every message is an element of `messages`."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from unspool.providers.wire import as_list, as_object, as_text
from unspool.serving.edits.digests import normalised
from unspool.serving.edits.json_text import JsonObject, decode, encode
from unspool.serving.edits.texts import plain_text, with_text
from unspool.serving.edits.units import Called, Unit, seal
from unspool.serving.edits.wires import flat_elements, put_path

__all__ = ["ROLES", "read", "say", "set_model", "set_param", "set_system", "set_text", "system", "write"]

ROLES: Final = ("user", "assistant", "system", "developer")
_TEXTS: Final = frozenset({"text", "input_text", "output_text"})


def read(document: JsonObject) -> list[Unit]:
    """The messages behind the system prompt."""
    elements = _decoded(document)
    return seal([_unit(value, wire) for wire, value in enumerate(elements) if wire >= _leading(elements)], _normal)


def write(document: JsonObject, units: list[Unit]) -> None:
    """Put messages in the place of those that were read."""
    raws = document.elements("messages") or []
    count = _leading([decode(raw) for raw in raws])
    document.set_elements("messages", raws[:count] + flat_elements(units, raws))


def system(document: JsonObject) -> str | None:
    """The leading system and developer messages."""
    elements = _decoded(document)
    count = _leading(elements)
    return "\n".join(plain_text(value.get("content")) for value in elements[:count]) if count else None


def set_system(document: JsonObject, text: str) -> None:
    """Put another text into the first of the leading system messages, and leave the others out."""
    raws = document.elements("messages") or []
    elements = [decode(raw) for raw in raws]
    count = _leading(elements)
    first = elements[0] if count else {"role": "system"}
    first["content"] = with_text(first.get("content"), text, _TEXTS, "text")
    document.set_elements("messages", [encode(first), *raws[count:]])


def set_text(unit: Unit, text: str) -> None:
    """Give a message another text; tool calls and images stay."""
    message = unit.parts[0]
    if not isinstance(message, dict):  # no message at all: what it is meant to be is not known
        unit.parts[0] = message = {"role": "user"}
    message["content"] = with_text(message.get("content"), text, _TEXTS, "text")
    message.pop("refusal", None)
    unit.touched = True


def say(role: str, text: str) -> Unit:
    """A new message."""
    return Unit(role, [{"role": role, "content": text}], [-1])


def set_model(document: JsonObject, url: str, model: str) -> str:
    """Ask another model; Azure's older URLs name it."""
    before, found, rest = url.partition("/deployments/")
    if found:
        url = before + found + quote(model, safe="") + "/" + rest.partition("/")[2]
        if "model" not in document:
            return url
    document.set("model", model)
    return url


def set_param(document: JsonObject, name: str, value: Any) -> None:
    """Set a parameter."""
    put_path(document, name.split("."), value)


# --- reading ---------------------------------------------------------------------------------------------------------


def _decoded(document: JsonObject) -> list[Any]:
    return [decode(raw) for raw in document.elements("messages") or []]


def _leading(elements: list[Any]) -> int:
    """How many system messages of only text the conversation starts with."""
    count = 0
    while count < len(elements) and _is_system(as_object(elements[count])):
        count += 1
    return count


def _is_system(message: dict[str, Any]) -> bool:
    if message.get("role") not in ("system", "developer") or message.get("name"):
        return False
    if any(message.get(key) for key in ("reasoning_content", "reasoning", "reasoning_details", "audio")):
        return False
    content = message.get("content")
    if isinstance(content, dict):
        content = [content]
    return all(
        isinstance(part, str) or as_object(part).get("type") in (*_TEXTS, "refusal") for part in as_list(content)
    )


def _unit(value: Any, wire: int) -> Unit:
    message = as_object(value)
    role = as_text(message.get("role")) or "unknown"
    calls = [_called(as_object(call)) for call in as_list(message.get("tool_calls"))]
    legacy = as_object(message.get("function_call"))
    if legacy:
        calls.append(Called(None, as_text(legacy.get("name")) or ""))
    result = None
    if role in ("tool", "function"):
        result = Called(as_text(message.get("tool_call_id")), as_text(message.get("name")) or "")
        role = "tool"
    return Unit(role, [value], [wire], calls=calls, result_of=result)


def _called(call: dict[str, Any]) -> Called:
    inner = as_object(call.get("function")) or as_object(call.get("custom"))
    return Called(as_text(call.get("id")), as_text(inner.get("name")) or "")


def _normal(value: Any) -> Any:
    message = normalised(value)
    if isinstance(message, dict) and isinstance(message.get("content"), str):
        message["content"] = [{"type": "text", "text": message["content"]}]
    return message
