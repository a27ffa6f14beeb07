"""The conversation of an Anthropic request: messages of blocks, each tool result block a message of its own."""

from __future__ import annotations

from typing import Any, Final

from unspool.providers.wire import as_list, as_object, as_text
from unspool.serving.edits.digests import normalised
from unspool.serving.edits.json_text import JsonObject, decode
from unspool.serving.edits.texts import plain_text, with_text
from unspool.serving.edits.units import Called, Unit, seal
from unspool.serving.edits.wires import nested_elements, put_path

__all__ = ["ROLES", "read", "say", "set_model", "set_param", "set_system", "set_text", "system", "write"]

ROLES: Final = ("user", "assistant")
_TEXT: Final = frozenset({"text"})


def read(document: JsonObject) -> list[Unit]:
    """The messages."""
    units: list[Unit] = []
    for wire, raw in enumerate(document.elements("messages") or []):
        units += _units(decode(raw), wire)
    return seal(units, normalised)


def write(document: JsonObject, units: list[Unit]) -> None:
    """Put messages in the place of those that were read."""
    raws = document.elements("messages") or []
    document.set_elements("messages", nested_elements(units, raws, read(document), "content"))


def system(document: JsonObject) -> str | None:
    """The top-level `system`, a text or blocks."""
    value = document.get("system")
    if isinstance(value, str):
        return value
    texts = [text for block in as_list(value) if (text := as_text(as_object(block).get("text"))) is not None]
    return "\n".join(texts) if texts else None


def set_system(document: JsonObject, text: str) -> None:
    """Put one text in the place of all; a cache mark on any of the blocks stays."""
    value = document.get("system")
    if not isinstance(value, list):
        document.set("system", text)
        return
    block: dict[str, Any] = {"type": "text", "text": text}
    marks = [as_object(old)["cache_control"] for old in value if "cache_control" in as_object(old)]
    if marks:
        block["cache_control"] = marks[-1]
    document.set("system", [block])


def set_text(unit: Unit, text: str) -> None:
    """Give a message another text; of a tool result, another result."""
    if unit.result_of is not None:
        unit.parts = [
            {**part, "content": with_text(part.get("content"), text, _TEXT, "text")}
            if as_object(part).get("type") == "tool_result"
            else part
            for part in unit.parts
        ]
    else:
        # Thinking must stay in front of what was said.
        kinds = [as_object(part).get("type") for part in unit.parts]
        at = next((i for i, kind in enumerate(kinds) if kind not in ("thinking", "redacted_thinking")), len(kinds))
        unit.parts = with_text(unit.parts, text, _TEXT, "text", at=at)
    unit.touched = True


def say(role: str, text: str) -> Unit:
    """A new message."""
    return Unit(role, [{"type": "text", "text": text}], [-1], shell={"role": role, "content": ""})


def set_model(document: JsonObject, url: str, model: str) -> str:
    """Ask another model."""
    document.set("model", model)
    return url


def set_param(document: JsonObject, name: str, value: Any) -> None:
    """Set a parameter."""
    put_path(document, name.split("."), value)


def _units(value: Any, wire: int) -> list[Unit]:
    message = as_object(value)
    if not message:
        text = value if isinstance(value, str) else ""
        return [Unit("unknown", [{"type": "text", "text": text}], [wire], shell={"role": "user", "content": ""})]
    role = as_text(message.get("role")) or "unknown"
    content = message.get("content")
    if isinstance(content, str):
        # The empty text leaves no block, but the message is there.
        return [Unit(role, [{"type": "text", "text": content}], [wire], shell=message)]
    units: list[Unit] = []
    open_unit: Unit | None = None
    for block in [content] if isinstance(content, dict) else as_list(content):
        kind = as_object(block).get("type")
        if kind == "tool_result":
            called = Called(as_text(block.get("tool_use_id")), "")
            units.append(Unit("tool", [block], [wire], shell=message, result_of=called))
            open_unit = None
            continue
        if open_unit is None:
            open_unit = Unit(role, [], [wire], shell=message)
            units.append(open_unit)
        open_unit.parts.append(block)
        if kind == "tool_use":
            open_unit.calls.append(Called(as_text(block.get("id")), as_text(block.get("name")) or ""))
    return _without_blanks(units) or [Unit(role, [], [wire], shell=message)]


def _without_blanks(units: list[Unit]) -> list[Unit]:
    """Empty texts between results are no message: they go along with the result before or behind them."""
    kept: list[Unit] = []
    carried: list[Any] = []
    for unit in units:
        blank = unit.result_of is None and len(units) > 1 and all(_is_blank(part) for part in unit.parts)
        if blank and kept:
            kept[-1].parts += unit.parts
        elif blank:
            carried = unit.parts
        else:
            unit.parts[:0], carried = carried, []
            kept.append(unit)
    return kept


def _is_blank(block: Any) -> bool:
    return block == "" or (as_object(block).get("type") == "text" and not plain_text(as_object(block).get("text")))
