"""Function calls whose arguments Vertex AI streams in pieces (`streamFunctionCallArguments`).

A call then begins with a part that has its name and `willContinue`; further parts bring `partialArgs`, each a value or
the next piece of a string at a JSON path; a part without `willContinue` ends it. Source: FunctionCall and PartialArg in
google.genai.types. The SDK hands these pieces to its user as they are.
"""

from __future__ import annotations

import re
from typing import Any, Final

from unspool.providers.wire import as_list, as_object, as_text, first_of

__all__ = ["join_streamed_calls"]

_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[(?:'([^']*)'|\"([^\"]*)\")\]")
_LONGEST_ARRAY: Final = 10_000  # a path such as $.a[999999999] must not allocate


def join_streamed_calls(parts: list[Any]) -> list[Any]:
    """`parts` with every row of pieces of one call replaced by one part that holds the whole call."""
    joined: list[Any] = []
    current: dict[str, Any] | None = None
    for value in parts:
        part = as_object(value)
        piece = first_of(part, "functionCall", "function_call")
        if not isinstance(piece, dict):
            joined.append(value)
            continue
        pieces = as_list(first_of(piece, "partialArgs", "partial_args"))
        continues = first_of(piece, "willContinue", "will_continue") is True
        if current is None or as_text(piece.get("name")):
            if not (continues or pieces):
                joined.append(value)
                current = None
                continue
            current = {"name": piece.get("name"), "id": piece.get("id"), "args": dict(as_object(piece.get("args")))}
            joined.append({**part, "functionCall": current})
        for partial in pieces:
            _put(current["args"], as_object(partial))
        if not continues:
            current = None
    return joined


def _put(args: dict[str, Any], partial: dict[str, Any]) -> None:
    path = as_text(first_of(partial, "jsonPath", "json_path")) or ""
    steps = [
        int(number) if number else name or single or double for name, number, single, double in _STEP.findall(path)
    ]
    if not steps or not isinstance(steps[0], str):
        return
    place: Any = args
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        if isinstance(step, int) != isinstance(place, list):
            return
        if isinstance(step, int):
            if step > min(len(place), _LONGEST_ARRAY):
                return
            if step == len(place):
                place.append(None)
        old = place[step] if isinstance(step, int) else place.get(step)
        if following is None:
            place[step] = _value(partial, old)
        elif not isinstance(old, dict | list):
            place[step] = [] if isinstance(following, int) else {}
        place = place[step]


def _value(partial: dict[str, Any], old: Any) -> Any:
    text = as_text(first_of(partial, "stringValue", "string_value"))
    if text is not None:
        return old + text if isinstance(old, str) else text
    return first_of(partial, "boolValue", "bool_value", "numberValue", "number_value")
