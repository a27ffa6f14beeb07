"""The conversation of a Responses request: items, of which those the model produced in one go are one message."""

from __future__ import annotations

from typing import Any, Final

from unspool.providers.wire import as_list, as_object, as_text, first_of
from unspool.serving.edits.digests import normalised
from unspool.serving.edits.json_text import JsonObject, decode, encode
from unspool.serving.edits.texts import plain_text, with_text
from unspool.serving.edits.units import Called, Unit, seal
from unspool.serving.edits.wires import flat_elements, put_path

__all__ = [
    "ROLES",
    "item_kind",
    "items_of",
    "read",
    "say",
    "set_model",
    "set_param",
    "set_system",
    "set_text",
    "system",
    "write",
]

ROLES: Final = ("user", "assistant", "system", "developer")
_TEXTS: Final = frozenset({"input_text", "output_text", "text", "summary_text"})
_RESULTS: Final = frozenset(
    {
        "function_call_output",
        "custom_tool_call_output",
        "computer_call_output",
        "local_shell_call_output",
        "shell_call_output",
        "apply_patch_call_output",
        "tool_search_call_output",
        "tool_search_output",
        "mcp_approval_response",
    }
)
_STANDS_ALONE: Final = _RESULTS | {"message", "item_reference", "unknown", "additional_tools"}


def items_of(document: JsonObject) -> list[bytes]:
    """The items of the input; a text is a user's message."""
    given = document.get("input") if document.elements("input") is None else None
    if isinstance(given, str):
        return [encode({"role": "user", "content": given})]
    return document.elements("input") or []


def item_kind(item: dict[str, Any]) -> str:
    """The type of an item; messages and references may leave it out."""
    return as_text(item.get("type")) or (
        "message" if "role" in item else "item_reference" if "id" in item else "unknown"
    )


def read(document: JsonObject) -> list[Unit]:
    """The messages behind the system prompt."""
    units = _units(document)
    return seal(units[_leading(units) :], _normal)


def write(document: JsonObject, units: list[Unit]) -> None:
    """Put messages in the place of those that were read."""
    raws = items_of(document)
    before = _units(document)
    document.set_elements("input", flat_elements(before[: _leading(before)] + units, raws))


def system(document: JsonObject) -> str | None:
    """The instructions, and the leading system and developer messages."""
    units = _units(document)
    count = _leading(units)
    instructions = as_text(document.get("instructions"))
    texts = [] if instructions is None else [instructions]
    if count:
        texts.append("\n".join(_text_of(unit) for unit in units[:count]))
    return "\n".join(texts) if texts else None


def set_system(document: JsonObject, text: str) -> None:
    """Put another text in the place of all: into the instructions, else into the first system message."""
    units = _units(document)
    count = _leading(units)
    raws = items_of(document)
    kept = units[count:]
    if as_text(document.get("instructions")) is not None or not count:
        document.set("instructions", text)
    else:
        set_text(units[0], text)
        kept = [units[0], *kept]
    if count:
        document.set_elements("input", flat_elements(kept, raws))


def set_text(unit: Unit, text: str) -> None:
    """Give a message another text; calls, reasoning and images stay. Of a tool result: another result."""
    kinds = [item_kind(as_object(part)) for part in unit.parts]
    unit.touched = True
    results = [index for index, kind in enumerate(kinds) if kind in _RESULTS]
    if results:
        item = dict(unit.parts[results[0]])
        item["output"] = with_text(item.get("output"), text, _TEXTS, "input_text")
        unit.parts[results[0]] = item
        return
    messages = [index for index, kind in enumerate(kinds) if kind == "message"]
    if unit.role != "assistant":
        messages = messages[-1:]  # what may stand before it is an empty message of the model
    if messages:
        item = dict(unit.parts[messages[0]])
        kind = "output_text" if unit.role == "assistant" else "input_text"
        item["content"] = with_text(item.get("content"), text, _TEXTS, kind)
        keep = [index for index in range(len(kinds)) if index not in messages or index == messages[0]]
        unit.parts[messages[0]] = item
        unit.parts, unit.wires = [unit.parts[index] for index in keep], [unit.wires[index] for index in keep]
        return
    at = next((index for index, kind in enumerate(kinds) if kind != "reasoning"), len(kinds))
    unit.parts.insert(at, say(unit.role, text).parts[0])
    unit.wires.insert(at, -1)


def say(role: str, text: str) -> Unit:
    """A new message."""
    return Unit(role, [{"type": "message", "role": role, "content": text}], [-1])


def set_model(document: JsonObject, url: str, model: str) -> str:
    """Ask another model."""
    document.set("model", model)
    return url


def set_param(document: JsonObject, name: str, value: Any) -> None:
    """Set a parameter."""
    put_path(document, name.split("."), value)


# --- reading ---------------------------------------------------------------------------------------------------------


def _units(document: JsonObject) -> list[Unit]:
    """All messages, the system's too, put together as `unspool.providers.openai_responses` does."""
    units: list[Unit] = []
    said = Unit("assistant", [], [])
    has_text = False
    for wire, raw in enumerate(items_of(document)):
        value = decode(raw)
        item = as_object(value)
        kind = item_kind(item)
        role = as_text(item.get("role")) or "unknown"
        if (kind == "message" and role == "assistant") or kind not in _STANDS_ALONE:
            if kind == "message" and has_text:  # a second message is a turn of its own
                units.append(said)
                said, has_text = Unit("assistant", [], []), False
            said.parts.append(value)
            said.wires.append(wire)
            has_text = has_text or (kind == "message" and bool(_said_text(item.get("content"))))
            if kind.endswith("_call") and kind not in ("image_generation_call",):
                said.calls.append(Called(as_text(first_of(item, "call_id", "id")), as_text(item.get("name")) or kind))
            continue
        unit = _other(item, kind, role)
        if _is_blank(said):
            unit.parts, unit.wires = said.parts, said.wires
        else:
            units.append(said)
        said, has_text = Unit("assistant", [], []), False
        unit.parts.append(value)
        unit.wires.append(wire)
        units.append(unit)
    if not _is_blank(said):
        units.append(said)
    elif said.parts and units:
        units[-1].parts += said.parts
        units[-1].wires += said.wires
    return units


def _other(item: dict[str, Any], kind: str, role: str) -> Unit:
    if kind in _RESULTS:
        call_id = as_text(first_of(item, "call_id", "approval_request_id"))
        return Unit("tool", [], [], result_of=Called(call_id, as_text(item.get("name")) or ""))
    if kind == "additional_tools":
        return Unit("developer", [], [], shell=item)  # never a leading system message
    return Unit(role, [], [], shell=None if kind == "message" else item)


def _is_blank(unit: Unit) -> bool:
    """Whether these items show as no message: empty messages of the model."""
    return all(item_kind(as_object(part)) == "message" and not as_object(part).get("content") for part in unit.parts)


def _said_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = (as_object(part) for part in as_list(content))
    return plain_text([part for part in parts if part.get("type") in (*_TEXTS, "refusal")])


def _leading(units: list[Unit]) -> int:
    """How many system messages of only text the conversation starts with."""
    count = 0
    while count < len(units) and _is_system(units[count]):
        count += 1
    return count


def _is_system(unit: Unit) -> bool:
    if unit.role not in ("system", "developer") or unit.shell is not None:
        return False
    content = as_object(unit.parts[-1]).get("content")
    return all(
        isinstance(part, str) or as_object(part).get("type") in (*_TEXTS, "refusal") for part in as_list(content)
    )


def _text_of(unit: Unit) -> str:
    return _said_text(as_object(unit.parts[-1]).get("content"))


def _normal(value: Any) -> Any:
    item = normalised(value)
    if not isinstance(item, dict):
        return item
    item = {key: entry for key, entry in item.items() if key != "status"}
    if "role" in item:
        item["type"] = "message"
    for key in ("content", "output"):
        if isinstance(item.get(key), str):
            item[key] = [{"type": "text", "text": item[key]}]
        elif isinstance(item.get(key), list):
            item[key] = [
                {**part, "type": "text"} if isinstance(part, dict) and part.get("type") in _TEXTS else part
                for part in item[key]
            ]
    return item
