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
from unspool.trace.blame import BlameResult, self_time_of
from unspool.trace.names import STEP, count_of, model_of
from unspool.trace.quiet import gc_paused
from unspool.trace.spans import Span, is_failing
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
_REST: Final[dict[Group, _Key]] = {
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
    on_path: dict[SpanID, int] = {}
    for part in result.critical_segments:
        on_path[part.span.span_id] = on_path.get(part.span.span_id, 0) + part.duration
    key_of = _KEYS[by]
    rest = _REST.get(by, ("other", "(trace)", 0))
    until = tree.metadata.end_time_ns
    rows: dict[_Key, Share] = {}
    costs: dict[_Key, list[float]] = {}
    stack: list[tuple[_Key, int]] = []  # of the spans around
    for node, depth in tree.walk():
        span = node.span
        del stack[depth:]
        around = stack[-1][0] if stack else rest
        own = None if span.synthetic else key_of(span)
        key = around if own is None else own
        stack.append((key, depth))
        row = rows.get(key)
        if row is None:
            row = rows[key] = Share(*key)
        row.critical += on_path.get(span.span_id, 0)
        if span.synthetic:
            continue
        if own is not None:
            row.calls += 1
            row.errors += is_failing(span)
            row.longest = max(row.longest, span.duration)
        row.self_time += self_time_of(node, until)
        if span.tokens_used:
            row.tokens += span.tokens_used
            row.unpriced += span.cost_usd is None
        if span.cost_usd is not None:
            costs.setdefault(key, []).append(span.cost_usd)
    for key, amounts in costs.items():
        rows[key].cost_usd = math.fsum(amounts)
    kept = (row for row in rows.values() if row.calls or row.critical or row.self_time)
    return sorted(kept, key=lambda row: (-row.critical, -row.self_time, row.kind, row.name, row.pid))


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
