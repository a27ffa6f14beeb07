"""JSON laid out for `git diff`: what is short on one line, texts of several lines line by line, nothing said twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

__all__ = ["fold_lines", "layout_json", "shared_lists", "unfold_lines", "with_shared"]

_WIDTH: Final = 110
_LINES: Final = "$lines"
_LITERAL: Final = "$literal"
_MARKS: Final = (_LINES, _LITERAL)
_SHARED_LEAST: Final = 2  # elements; naming them takes a line, too


# --- texts -----------------------------------------------------------------------------------------------------------


def fold_lines(value: Any) -> Any:
    """`value` with each text of several lines as `{"$lines": […]}`; a dict that looks like it is marked `$literal`."""
    if isinstance(value, str):
        return {_LINES: value.split("\n")} if "\n" in value else value
    if isinstance(value, list):
        return [fold_lines(item) for item in value]
    if isinstance(value, dict):
        folded = {key: fold_lines(item) for key, item in value.items()}
        return {_LITERAL: folded} if len(folded) == 1 and next(iter(folded)) in _MARKS else folded
    return value


def unfold_lines(value: Any) -> Any:
    """What `fold_lines` was given.

    Raises:
        ValueError: a mark is not what it should be.
    """
    if isinstance(value, list):
        return [unfold_lines(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        if (lines := value.get(_LINES)) is not None:
            if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
                raise ValueError(f"{_LINES} holds something else than lines")
            return "\n".join(lines)
        if (literal := value.get(_LITERAL)) is not None:
            if not isinstance(literal, dict):
                raise ValueError(f"{_LITERAL} holds something else than an object")
            return {key: unfold_lines(item) for key, item in literal.items()}
    return {key: unfold_lines(item) for key, item in value.items()}


# --- what was said before --------------------------------------------------------------------------------------------


def shared_lists(value: Any, before: Sequence[Any]) -> tuple[Any, dict[str, tuple[int, int]]]:
    """A JSON object without the leading elements that its lists share with those of an earlier one.

    Args:
        before: the earlier ones, in their order.

    Returns:
        What is left, and for each such list the number of the earlier one (from 1) and how many elements it shares.
    """
    shared: dict[str, tuple[int, int]] = {}
    if not isinstance(value, dict):
        return value, shared
    left = dict(value)
    for key, items in value.items():
        if not isinstance(items, list):
            continue
        counts = [(_shared(items, one.get(key)) if isinstance(one, dict) else 0) for one in before]
        most = max(counts, default=0)
        if most >= _SHARED_LEAST:
            # The first that has as many: what is there does not depend on how many came since.
            shared[key] = counts.index(most) + 1, most
            left[key] = items[most:]
    return left, shared


def _shared(items: list[Any], others: Any) -> int:
    count = 0
    for one, other in zip(items, others if isinstance(others, list) else (), strict=False):
        # Equal as JSON: 1, 1.0 and true are equal to Python.
        if one is not other and (one != other or json.dumps(one) != json.dumps(other)):
            break
        count += 1
    return count


def with_shared(left: Any, shared: dict[str, tuple[int, int]], before: Sequence[Any]) -> Any:
    """What `shared_lists` was given.

    Raises:
        ValueError: what is named is not there.
    """
    if not shared:
        return left
    whole = dict(left) if isinstance(left, dict) else {}
    for key, (number, count) in shared.items():
        earlier = before[number - 1] if 0 < number <= len(before) else None
        other = earlier.get(key) if isinstance(earlier, dict) else None
        own = whole.get(key)
        if not isinstance(other, list) or not isinstance(own, list) or not 0 <= count <= len(other):
            raise ValueError(f"{key!r} names {count} elements of exchange {number}, which are not there")
        whole[key] = other[:count] + own
    return whole


# --- lines -----------------------------------------------------------------------------------------------------------


def layout_json(value: Any, indent: int = 0) -> str:
    """The value as JSON, objects and lists that fit on one line; and each event of a stream, however long."""
    flat = json.dumps(value, ensure_ascii=False)
    if indent + len(flat) <= _WIDTH or not isinstance(value, dict | list) or not value:
        return flat
    inner = " " * (indent + 2)
    if isinstance(value, dict):
        rows = []
        for key, item in value.items():
            name = json.dumps(key, ensure_ascii=False)
            rows.append(f"{inner}{name}: {_stream(item, indent) if key == 'events' else layout_json(item, indent + 2)}")
        return "{\n" + ",\n".join(rows) + "\n" + " " * indent + "}"
    rows = [inner + layout_json(item, indent + 2) for item in value]
    return "[\n" + ",\n".join(rows) + "\n" + " " * indent + "]"


def _stream(events: Any, indent: int) -> str:
    if not isinstance(events, list) or not events:
        return layout_json(events, indent + 2)
    inner = " " * (indent + 4)
    return "[\n" + ",\n".join(inner + json.dumps(one, ensure_ascii=False) for one in events) + "\n" + inner[2:] + "]"
