"""Time, tokens and cost of a trace by what did it: by call, tool, model, agent or step.

Every span belongs to exactly one row, so each column sums to the total of the trace. `critical` is the time on the
critical path, which sums to the duration of the trace; `self_time` also counts what ran beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from unspool.events import SpanID
from unspool.trace.blame import BlameResult
from unspool.trace.names import STEP, count_of, model_of
from unspool.trace.quiet import gc_paused
from unspool.trace.spans import FAILING, Span, interval_of
from unspool.trace.tree import SpanTree

__all__ = ["GROUPS", "Group", "Share", "rollup"]

Group: TypeAlias = Literal["call", "tool", "model", "agent", "step"]
GROUPS: Final[tuple[Group, ...]] = ("call", "tool", "model", "agent", "step")


class Share(Struct):
    """One row. `calls` counts its spans, without what runs inside them; durations are nanoseconds.

    `cost_usd` is None where nothing has a price; `unpriced` counts model calls that have tokens and no price.
    """

    kind: str
    name: str
    pid: int = 0
    calls: int = 0
    errors: int = 0
    critical: int = 0
    self_time: int = 0
    longest: int = 0
    tokens: int = 0
    cost_usd: float | None = None
    unpriced: int = 0


_Key: TypeAlias = tuple[str, str, int]
_BY_ITSELF: Final[tuple[Group, ...]] = ("call", "model")
_REST: Final[dict[Group, _Key]] = {
    "call": ("other", "(trace)", 0),
    "tool": ("other", "(outside tools)", 0),
    "model": ("other", "(outside model calls)", 0),
    "agent": ("other", "(outside agents)", 0),
    "step": ("other", "(before the first step)", 0),
}


def rollup(tree: SpanTree, result: BlameResult, by: Group = "call") -> list[Share]:
    """The rows, the longest on the critical path first.

    Args:
        by: `call`: kind and name; `tool`, `agent`: the innermost one around a span; `model`: model calls alone;
            `step`: the turn of the agent, what has none belonging to the span around it.

    Raises:
        ValueError: there is no such grouping.
    """
    if by not in GROUPS:
        raise ValueError(f"no grouping {by!r}; there are: {', '.join(GROUPS)}")
    with gc_paused():
        return _rollup(tree, result, by)


def _rollup(tree: SpanTree, result: BlameResult, by: Group) -> list[Share]:
    # In a tree that was made or changed by hand there may be other nodes than spans.
    is_whole = len(tree.spans) == result.summary.total_spans
    table = _by_itself(tree, result, by) if by in _BY_ITSELF and is_whole else _by_place(tree, result, by)
    kept = (row for row in table.rows() if row.calls or row.critical or row.self_time)
    return sorted(kept, key=lambda row: (-row.critical, -row.self_time, row.kind, row.name, row.pid))


def _by_itself(tree: SpanTree, result: BlameResult, by: Group) -> _Table:
    """Where the row of a span does not depend on the spans around it: in the order of memory, which takes half."""
    key_of = _KEYS[by]
    table = _Table(tree)
    for span in tree.spans:
        table.count(span, key_of(span) or _REST[by], is_call=True)
    for span, covered in zip(result.parents, result.covered, strict=True):
        table[key_of(span) or _REST[by]].self_time -= covered
    for part in result.critical_segments:
        key = _REST[by] if part.span.synthetic else key_of(part.span) or _REST[by]
        table[key].critical += part.end_ns - part.start_ns
    return table


def _by_place(tree: SpanTree, result: BlameResult, by: Group) -> _Table:
    on_path: dict[SpanID, int] = {}
    for part in result.critical_segments:
        on_path[part.span.span_id] = on_path.get(part.span.span_id, 0) + part.duration
    key_of = _KEYS[by]
    table = _Table(tree)
    keys: dict[int, _Key] = {}  # of spans that have children, by identity
    stack = [(tree.root, _REST[by])]
    while stack:
        node, around = stack.pop()
        span = node.span
        own = None if span.synthetic else key_of(span)
        key = around if own is None else own
        if node.children:
            keys[id(span)] = key
            stack.extend([(child, key) for child in node.children])
        if (critical := on_path.get(span.span_id)) is not None:
            table[key].critical += critical
        if not span.synthetic:
            table.count(span, key, is_call=own is not None)
    for span, covered in zip(result.parents, result.covered, strict=True):
        table[keys[id(span)]].self_time -= covered
    return table


class _Table(dict[_Key, Share]):
    """Rows by key, made when they are asked for."""

    def __init__(self, tree: SpanTree) -> None:
        self._until = tree.metadata.end_time_ns
        self._costs: dict[_Key, list[float]] = {}

    def __missing__(self, key: _Key) -> Share:
        row = self[key] = Share(*key)
        return row

    def count(self, span: Span, key: _Key, *, is_call: bool) -> None:
        """Add what a span has to its row; what its children cover is taken off later."""
        row = self[key]
        start, end = span.start_time_ns, span.end_time_ns
        if not 0 < start <= end:
            start, end = interval_of(span, self._until)
        row.self_time += end - start
        if is_call:
            row.calls += 1
            if span.status in FAILING:
                row.errors += 1
            row.longest = max(row.longest, span.duration)
        cost = span.cost_usd
        if tokens := span.tokens_used:
            row.tokens += tokens
            if cost is None:
                row.unpriced += 1
        if cost is not None:
            self._costs.setdefault(key, []).append(cost)

    def rows(self) -> list[Share]:
        """The rows, with their costs."""
        for key, amounts in self._costs.items():
            self[key].cost_usd = math.fsum(amounts)
        return list(self.values())


def _call_key(span: Span) -> _Key:
    return span.kind, model_of(span) or span.name, span.pid if span.kind == "agent" else 0


def _tool_key(span: Span) -> _Key | None:
    return ("tool", span.name, 0) if span.kind == "tool" else None


def _model_key(span: Span) -> _Key:
    return ("llm", model_of(span) or span.name, 0) if span.kind == "llm" else _REST["model"]


def _agent_key(span: Span) -> _Key | None:
    return ("agent", span.name, span.pid) if span.kind == "agent" else None


def _step_key(span: Span) -> _Key | None:
    step = count_of(span, STEP)
    if step is None:
        return ("agent", span.name, span.pid) if span.kind == "agent" else None
    return "step", f"step {step}", span.pid


_KEYS: Final[dict[Group, Callable[[Span], _Key | None]]] = {
    "call": _call_key,
    "tool": _tool_key,
    "model": _model_key,
    "agent": _agent_key,
    "step": _step_key,
}
