"""A trace as folded stacks, the format that flame graph programs read, and as a flame graph of its own in SVG.

A stack is the names from the root to a span; spans with equal names at the same place are one. Values are whole
numbers: microseconds of self time, tokens, or millionths of a dollar.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from unspool.events import SpanID
from unspool.text import escape_controls
from unspool.trace.blame import self_time_of
from unspool.trace.carried import CarriedCost
from unspool.trace.names import model_of
from unspool.trace.quiet import gc_paused
from unspool.trace.spans import Span
from unspool.trace.tree import SpanTree

__all__ = ["FlameMeasure", "Stacks", "fold_stacks", "format_folded"]

FlameMeasure: TypeAlias = Literal["time", "tokens", "cost", "carried"]
Stacks: TypeAlias = dict[tuple[tuple[str, str], ...], int]
"""Values by stack; a frame of it is (kind, name)."""

_NAME_MAX: Final = 120  # characters of a frame
_DEPTH_MAX: Final = 500  # deeper spans count for their ancestor at this depth
_MILLION: Final = 1_000_000


def fold_stacks(tree: SpanTree, by: FlameMeasure = "time", carried: CarriedCost | None = None) -> Stacks:
    """The stacks of a trace and what each adds up to by itself, without what is above it; none is 0.

    Args:
        by: `time`: self time in µs; `tokens`, `cost` (millionths of a dollar): of each model call; `carried`: the input
            cost of all calls, charged to who produced what they sent, and the cost of answers to the calls themselves.
        carried: for `by="carried"`.

    Raises:
        ValueError: `carried` is missing.
    """
    if by == "carried" and carried is None:
        raise ValueError("the carried cost is needed to show it")
    with gc_paused():
        charges = _charges(carried) if by == "carried" and carried is not None else None
        return _fold(tree, by, charges)


_Charges: TypeAlias = dict[SpanID, list[tuple[tuple[str, str] | None, float]]]


def _charges(carried: CarriedCost) -> _Charges:
    """What each span is charged with, and under which further frame; what a tool or an answer gave has none."""
    found: _Charges = {span_id: [(None, usd)] for span_id, usd in carried.answers}
    for entry in carried.entries:
        producer = entry.producer
        is_own = producer.kind == "tool" and producer.key[1] == producer.span.span_id
        if is_own:
            frame = None
        elif producer.kind == "model" and producer.key[1] == producer.span.span_id:
            frame = ("model", "its answer, sent again")
        else:
            frame = (producer.kind, producer.name)
        found.setdefault(producer.span.span_id, []).append((frame, entry.cost_usd or 0.0))
    return found


def _fold(tree: SpanTree, by: FlameMeasure, charges: _Charges | None) -> Stacks:
    until = tree.metadata.end_time_ns
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    # Prefixes are shared: a chain of n spans would otherwise take n² names.
    around: list[tuple[tuple[str, str], ...]] = []
    known: dict[tuple[int, tuple[str, str]], tuple[tuple[str, str], ...]] = {}
    for node, depth in tree.walk():
        span = node.span
        del around[depth:]
        frame = (span.kind, _frame_name(span))
        above = around[-1] if around else ()
        stack = known.get((id(above), frame)) if depth < _DEPTH_MAX else above
        if stack is None:
            stack = known[id(above), frame] = (*above, frame)
        around.append(stack)
        if span.synthetic:
            continue
        if charges is not None:
            for further, usd in charges.get(span.span_id, ()):
                key = stack if further is None else (*stack, further)
                sums[key] = sums.get(key, 0.0) + usd * _MILLION
            continue
        value = self_time_of(node, until) / 1000 if by == "time" else _value(span, by)
        if value:
            sums[stack] = sums.get(stack, 0.0) + value
    return {stack: round(value) for stack, value in sums.items() if round(value)}


def _value(span: Span, by: FlameMeasure) -> float:
    return span.tokens_used or 0 if by == "tokens" else (span.cost_usd or 0.0) * _MILLION


def _frame_name(span: Span) -> str:
    name = escape_controls(model_of(span) or span.name or "?")
    return name if len(name) <= _NAME_MAX else name[: _NAME_MAX - 1] + "…"


def format_folded(stacks: Stacks) -> str:
    """One line a stack, `root;child;grandchild 1234`, by name. A `;` in a name becomes a comma. No final newline."""
    lines = (
        f"{';'.join(name.replace(';', ',') for _, name in stack)} {value}" for stack, value in sorted(stacks.items())
    )
    return "\n".join(lines)
