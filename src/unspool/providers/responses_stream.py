"""The output items of a Responses stream, put together from its events.

Needed when the stream broke before `response.completed`, which repeats them all, or when that event leaves them out.
Source: openai.types.responses, the `*_event.py` modules.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from unspool.providers.wire import as_count, as_list, as_object, as_text

__all__ = ["assemble_items"]


class _Place(NamedTuple):
    """Where a delta belongs: a kind of item, one of its keys, and for keys that hold a list the type of its elements
    and the event's field with the element's number."""

    item: str
    key: str
    element: str | None = None
    number: str = "content_index"


_DELTAS: Final = {
    "response.output_text.delta": _Place("message", "content", "output_text"),
    "response.refusal.delta": _Place("message", "content", "refusal"),
    "response.reasoning_text.delta": _Place("reasoning", "content", "reasoning_text"),
    "response.reasoning_summary_text.delta": _Place("reasoning", "summary", "summary_text", "summary_index"),
    "response.function_call_arguments.delta": _Place("function_call", "arguments"),
    "response.custom_tool_call_input.delta": _Place("custom_tool_call", "input"),
    "response.mcp_call_arguments.delta": _Place("mcp_call", "arguments"),
    "response.code_interpreter_call_code.delta": _Place("code_interpreter_call", "code"),
}


def assemble_items(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items in output order: as their done event gives them, else their beginning with the deltas added."""
    items: dict[int, dict[str, Any]] = {}
    done: set[int] = set()
    deltas: dict[int, dict[tuple[_Place, int], list[str]]] = {}
    for event in events:
        kind = as_text(event.get("type")) or ""
        index = as_count(event.get("output_index")) or 0
        if kind in ("response.output_item.added", "response.output_item.done"):
            item = as_object(event.get("item"))
            if item:
                items[index] = item
                if kind.endswith("done"):
                    done.add(index)
        elif kind in _DELTAS:
            place = _DELTAS[kind]
            text = as_text(event.get("delta"))
            if text:
                number = as_count(event.get(place.number)) or 0
                deltas.setdefault(index, {}).setdefault((place, number), []).append(text)
    for index, pieces in deltas.items():
        if index not in done:
            items[index] = _with_deltas(items.get(index), pieces)
    return [items[index] for index in sorted(items)]


def _with_deltas(begun: dict[str, Any] | None, pieces: dict[tuple[_Place, int], list[str]]) -> dict[str, Any]:
    places = sorted(pieces, key=lambda entry: entry[1])
    item = dict(begun or {"type": places[0][0].item})
    lists: dict[str, list[dict[str, str]]] = {}
    for place, number in places:
        text = "".join(pieces[place, number])
        if place.element is None:
            item[place.key] = text
        else:
            field = "refusal" if place.element == "refusal" else "text"
            lists.setdefault(place.key, []).append({"type": place.element, field: text})
    for key, elements in lists.items():
        item[key] = [*as_list(item.get(key)), *elements]
    return item
