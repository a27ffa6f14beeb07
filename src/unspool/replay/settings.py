"""What changed around the messages: tool definitions, model, parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from msgspec import Struct

from unspool.events import ContextSnapshotData, ToolDef
from unspool.replay.messages import without_cache_marks

__all__ = ["ToolChange", "ToolsDiff", "ValueChange", "diff_params", "diff_tools", "diff_values"]

_MAX_DEPTH = 60  # deeper values are compared whole; no tool's schema goes there, a hostile file may


class ValueChange(Struct, frozen=True):
    """A value that is there on one side only, or differs. `path` is its keys joined by dots.

    `before` is None where it was added, `after` where it was removed; `change` tells that from null.
    """

    path: str
    change: Literal["added", "removed", "changed"]
    before: Any = None
    after: Any = None


class ToolChange(Struct, frozen=True):
    """A tool whose definition changed, and in what."""

    name: str
    changes: list[ValueChange]


class ToolsDiff(Struct, frozen=True):
    """What happened to the tools offered to the model, by name.

    `reordered`: the tools of both sides do not stand in the same order, which changes nothing for the model but breaks
    a prompt cache.
    """

    added: list[str] = []
    removed: list[str] = []
    changed: list[ToolChange] = []
    reordered: bool = False
    from_count: int = 0
    to_count: int = 0


def diff_tools(before: Sequence[ToolDef], after: Sequence[ToolDef]) -> ToolsDiff:
    """Compare tool definitions by name; of several with one name the first with the first, and so on."""
    old, new = _by_name(before), _by_name(after)
    both = [name for name in old if name in new]
    changes = {name: list(_tool_changes(old[name], new[name])) for name in both}
    return ToolsDiff(
        added=[name for name, _ in new if (name, _) not in old],
        removed=[name for name, _ in old if (name, _) not in new],
        changed=[ToolChange(key[0], found) for key, found in changes.items() if found],
        reordered=both != [name for name in new if name in old],
        from_count=len(before),
        to_count=len(after),
    )


def diff_params(before: ContextSnapshotData, after: ContextSnapshotData) -> list[ValueChange]:
    """Compare provider, model and parameters (temperature, tool choice, …); only the last have a value per key."""
    return [
        *_changes("provider", before.provider, after.provider),
        *_changes("model", before.model, after.model),
        *_nested("", before.params or {}, after.params or {}, 0),
    ]


def diff_values(before: Any, after: Any) -> list[ValueChange]:
    """The parts of two JSON values that differ, each with its path; lists are compared element by element."""
    return list(_values("", _as_dicts(before, 0), _as_dicts(after, 0), 0))


def _as_dicts(value: Any, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        return value
    if isinstance(value, list):
        return {str(number): _as_dicts(item, depth + 1) for number, item in enumerate(value)}
    if isinstance(value, dict):
        return {key: _as_dicts(item, depth + 1) for key, item in value.items()}
    return value


def _by_name(tools: Sequence[ToolDef]) -> dict[tuple[str, int], ToolDef]:
    seen: Counter[str] = Counter()
    named: dict[tuple[str, int], ToolDef] = {}
    for tool in tools:
        named[tool.name, seen[tool.name]] = tool
        seen[tool.name] += 1
    return named


def _tool_changes(before: ToolDef, after: ToolDef) -> Iterator[ValueChange]:
    yield from _changes("description", before.description, after.description)
    yield from _changes("schema", without_cache_marks(before.schema), without_cache_marks(after.schema))


def _changes(path: str, before: Any, after: Any) -> Iterator[ValueChange]:
    """As `_values`, for fields where None means that there is no value."""
    if before is None and after is not None:
        yield ValueChange(path, "added", None, after)
    elif after is None and before is not None:
        yield ValueChange(path, "removed", before)
    else:
        yield from _values(path, before, after, 0)


def _values(path: str, before: Any, after: Any, depth: int) -> Iterator[ValueChange]:
    if isinstance(before, dict) and isinstance(after, dict) and depth < _MAX_DEPTH:
        yield from _nested(path, before, after, depth)
    elif before != after or isinstance(before, bool) is not isinstance(after, bool):
        yield ValueChange(path, "changed", before, after)


def _nested(path: str, before: dict[str, Any], after: dict[str, Any], depth: int) -> Iterator[ValueChange]:
    for key in [*before, *(key for key in after if key not in before)]:
        inner = f"{path}.{key}" if path else str(key)
        if key not in after:
            yield ValueChange(inner, "removed", before[key])
        elif key not in before:
            yield ValueChange(inner, "added", None, after[key])
        else:
            yield from _values(inner, before[key], after[key], depth + 1)
