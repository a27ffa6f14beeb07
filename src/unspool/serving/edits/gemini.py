"""The conversation of a generateContent request: contents of parts, each function response a message of its own."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from unspool.providers.wire import as_list, as_object, as_text, decode_json, first_of
from unspool.serving.edits.digests import normalised
from unspool.serving.edits.json_text import JsonObject, decode, encode
from unspool.serving.edits.units import Called, Unit, seal
from unspool.serving.edits.wires import nested_elements, put_path

__all__ = ["ROLES", "read", "say", "set_model", "set_param", "set_system", "set_text", "system", "write"]

ROLES: Final = ("user", "assistant")
_SYSTEM_KEYS: Final = ("systemInstruction", "system_instruction")
_CONFIG_KEYS: Final = ("generationConfig", "generation_config")
_TOP_KEYS: Final = frozenset(
    {
        "safetySettings",
        "toolConfig",
        "cachedContent",
        "labels",
        "tools",
        "serviceTier",
        "modelArmorConfig",
        *_SYSTEM_KEYS,
        *_CONFIG_KEYS,
    }
)
_RESULT_KEYS: Final = ("result", "output", "error", "content")


def read(document: JsonObject) -> list[Unit]:
    """The messages."""
    units: list[Unit] = []
    for wire, raw in enumerate(_contents(document)):
        units += _units(decode(raw), wire)
    return seal(units, normalised)


def write(document: JsonObject, units: list[Unit]) -> None:
    """Put messages in the place of those that were read."""
    document.set_elements("contents", nested_elements(units, _contents(document), read(document), "parts"))


def system(document: JsonObject) -> str | None:
    """The system instruction."""
    value = _first(document, _SYSTEM_KEYS)
    if isinstance(value, str):
        return value
    parts = value if isinstance(value, list) else as_list(as_object(value).get("parts"))
    texts = [text for part in parts if (text := as_text(part) or as_text(as_object(part).get("text"))) is not None]
    return "\n".join(texts) if texts else None


def set_system(document: JsonObject, text: str) -> None:
    """Put one text in the place of all parts."""
    key = next((key for key in _SYSTEM_KEYS if key in document), _SYSTEM_KEYS[0])
    value = document.get(key)
    document.set(key, {**as_object(value), "parts": [{"text": text}]})


def set_text(unit: Unit, text: str) -> None:
    """Give a message another text; calls and files stay. Of a function response: another response."""
    unit.touched = True
    if unit.result_of is not None:
        unit.parts = [_with_result(part, text) for part in unit.parts]
        return
    parts: list[Any] = []
    said = False
    for part in unit.parts:
        if isinstance(part, str) or (as_text(as_object(part).get("text")) and part.get("thought") is not True):
            if not said:
                parts.append({"text": text} if isinstance(part, str) else {**part, "text": text})
            said = True
        else:
            parts.append(part)
    if not said:
        thoughts = [as_object(part).get("thought") is True for part in parts]
        parts.insert(thoughts.index(False) if False in thoughts else len(parts), {"text": text})
    unit.parts = parts


def say(role: str, text: str) -> Unit:
    """A new message; the wire calls the assistant `model`."""
    wire_role = "model" if role == "assistant" else role
    return Unit(role, [{"text": text}], [-1], shell={"role": wire_role, "parts": []})


def set_model(document: JsonObject, url: str, model: str) -> str:
    """Ask another model: the URL names it."""
    if "model" in document:
        document.set("model", model if "/" in model else f"models/{model}")
    path, mark, query = url.partition("?")
    before, slash, last = path.rpartition("/")
    _, colon, method = last.rpartition(":")
    if not (slash and colon):
        return url
    return f"{before}/{quote(model.removeprefix('models/'), safe='')}:{method}{mark}{query}"


def set_param(document: JsonObject, name: str, value: Any) -> None:
    """Set a parameter: of the request if it is one of its own, else of the generation config."""
    path = name.split(".")
    if path[0] not in _TOP_KEYS and path[0] not in document:
        path.insert(0, next((key for key in _CONFIG_KEYS if key in document), _CONFIG_KEYS[0]))
    put_path(document, path, value)


# --- reading ---------------------------------------------------------------------------------------------------------


def _contents(document: JsonObject) -> list[bytes]:
    elements = document.elements("contents")
    if elements is None:
        value = document.get("contents")
        elements = [encode(value)] if isinstance(value, dict | str) else []
    return elements


def _first(document: JsonObject, names: tuple[str, ...]) -> Any:
    return next((value for name in names if (value := document.get(name)) is not None), None)


def _units(value: Any, wire: int) -> list[Unit]:
    if isinstance(value, str):
        return [Unit("user", [{"text": value}], [wire], shell={"role": "user", "parts": []})]
    content = as_object(value)
    if not content:
        return [Unit("unknown", [], [wire], shell={"role": "user"})]
    role = as_text(content.get("role")) or "user"
    role = "assistant" if role == "model" else role
    units: list[Unit] = []
    open_unit: Unit | None = None
    for part in as_list(content.get("parts")):
        fields = as_object(part)
        answer = as_object(first_of(fields, "functionResponse", "function_response"))
        if answer:
            called = Called(as_text(answer.get("id")), as_text(answer.get("name")) or "")
            units.append(Unit("tool", [part], [wire], shell=content, result_of=called))
            open_unit = None
            continue
        if open_unit is None:
            open_unit = Unit(role, [], [wire], shell=content)
            units.append(open_unit)
        open_unit.parts.append(part)
        call = as_object(first_of(fields, "functionCall", "function_call"))
        if call:
            open_unit.calls.append(Called(as_text(call.get("id")), as_text(call.get("name")) or ""))
    return _without_blanks(units) or [Unit(role, [], [wire], shell=content)]


def _without_blanks(units: list[Unit]) -> list[Unit]:
    """Empty texts between responses are no message: they go along with the response before or behind them."""
    kept: list[Unit] = []
    carried: list[Any] = []
    for unit in units:
        blank = unit.result_of is None and len(units) > 1 and all(part in ("", {"text": ""}) for part in unit.parts)
        if blank and kept:
            kept[-1].parts += unit.parts
        elif blank:
            carried = unit.parts
        else:
            unit.parts[:0], carried = carried, []
            kept.append(unit)
    return kept


def _with_result(part: Any, text: str) -> Any:
    """A function response with another result, in the form the old one has.

    The SDKs wrap what a function returned as `result` or `output`; a context shows the response whole, as JSON. A text
    that is an object with the same keys is the whole response, anything else goes where the old text was.
    """
    key = next((name for name in ("functionResponse", "function_response") if name in as_object(part)), None)
    if key is None:
        return part
    answer = dict(as_object(part[key]))
    old = answer.get("response")
    try:
        given = decode_json(text)
    except ValueError:
        given = None
    wrapped = [name for name in _RESULT_KEYS if name in as_object(old)]
    if isinstance(given, dict) and (not wrapped or set(given) == set(as_object(old))):
        answer["response"] = given
    elif wrapped:
        was_text = isinstance(as_object(old)[wrapped[0]], str)
        value = text if was_text or given is None else given
        answer["response"] = {**as_object(old), wrapped[0]: value}
    else:
        answer["response"] = {"result": text}
    return {**part, key: answer}
