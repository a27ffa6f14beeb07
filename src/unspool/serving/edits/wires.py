"""Putting units back into the arrays of a request, and changing keys within objects."""

from __future__ import annotations

from collections import Counter
from typing import Any

from unspool.serving.edits.json_text import JsonObject, encode
from unspool.serving.edits.units import Unit

__all__ = ["flat_elements", "nested_elements", "put_path"]


def flat_elements(units: list[Unit], raws: list[bytes]) -> list[bytes]:
    """The elements of an array in which each part of a unit is an element."""
    return [
        raws[wire] if wire >= 0 and not unit.touched else encode(part)
        for unit in units
        for part, wire in zip(unit.parts, unit.wires, strict=True)
    ]


def nested_elements(units: list[Unit], raws: list[bytes], read: list[Unit], key: str) -> list[bytes]:
    """The elements of an array in which the parts of a unit are blocks of an element.

    Units that came in one element go out in one, unless something stands between them now.

    Args:
        raws: the elements as they came.
        read: the units as they were read, to see which elements are complete.
        key: where an element has its blocks.
    """
    whole = Counter(unit.wires[0] for unit in read)
    elements: list[bytes] = []
    for group in _groups(units):
        wire = group[0].wires[0]
        if wire >= 0 and len(group) == whole[wire] and not any(unit.touched for unit in group):
            elements.append(raws[wire])
            continue
        parts = [part for unit in group for part in unit.parts]
        shell = group[0].shell or {}
        plain = shell.get(key)
        # A content that was a string stays one.
        content: Any = parts
        if (
            isinstance(plain, str)
            and len(parts) == 1
            and isinstance(parts[0], dict)
            and set(parts[0]) <= {"type", "text"}
        ):
            content = parts[0].get("text", "")
        elements.append(encode({**shell, key: content}))
    return elements


def _groups(units: list[Unit]) -> list[list[Unit]]:
    """Neighbours that came in the same element."""
    groups: list[list[Unit]] = []
    for unit in units:
        last = groups[-1][-1] if groups else None
        if last is not None and last.wires[0] == unit.wires[0] >= 0:
            groups[-1].append(unit)
        else:
            groups.append([unit])
    return groups


def put_path(document: JsonObject, path: list[str], value: Any) -> None:
    """Set a key, or a key within objects; None takes it away. What stands in the way and is no object is replaced."""
    key, *rest = path
    if not rest:
        if value is None:
            document.remove(key)
        else:
            document.set(key, value)
        return
    if value is None and key not in document:
        return
    found = document.get(key)
    outer: dict[str, Any] = found if isinstance(found, dict) else {}
    place = outer
    for name in rest[:-1]:
        inner = place.get(name)
        if not isinstance(inner, dict):
            inner = place[name] = {}
        place = inner
    if value is None:
        place.pop(rest[-1], None)
    else:
        place[rest[-1]] = value
    document.set(key, outer)
