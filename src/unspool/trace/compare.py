"""What made one trace slower or dearer than another: the differences of both, call by call, that sum to the whole.

The two trees are laid over each other by path of names: the calls of `search` under the same agent are one row,
however many there are. The time of a row is its part of the critical path, so that all rows of a trace sum to its
duration; tokens and cost are the spans' own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from unspool.events import SpanID
from unspool.trace.blame import BlameResult
from unspool.trace.names import model_of
from unspool.trace.quiet import gc_paused
from unspool.trace.spans import Span, is_failing
from unspool.trace.tree import SpanTree

__all__ = ["Comparison", "Measure", "PathDelta", "PathTotals", "compare_traces"]

Measure: TypeAlias = Literal["time", "tokens", "cost", "errors"]

# Ports, process ids, dates, issue numbers in the names of agents and commands: other ones in the next run.
_VARYING: Final = re.compile(r"0x[0-9a-fA-F]+|\b[0-9a-f]{8,}\b|\d{2,}")


class PathTotals(Struct):
    """What the spans of one path add up to; `time` is nanoseconds of the critical path."""

    calls: int = 0
    time: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    errors: int = 0


class PathDelta(Struct):
    """One path in both traces: the names from the root on, the root left out; () is the root itself.

    Numbers that differ from run to run (ports, ids) are not part of a name: the first one met stands for all.
    """

    path: tuple[str, ...]
    kind: str
    before: PathTotals
    after: PathTotals

    def change(self, measure: Measure) -> float:
        """How much more the second trace has: ns, tokens, US dollars or errors; whole numbers but for dollars."""
        if measure == "time":
            return self.after.time - self.before.time
        if measure == "tokens":
            return self.after.tokens - self.before.tokens
        if measure == "errors":
            return self.after.errors - self.before.errors
        return self.after.cost_usd - self.before.cost_usd


class Comparison(Struct):
    """Two traces, path by path. `before` and `after` are their totals: the sums over all paths.

    `has_cost` is false where one of them has no known cost at all: then a difference in cost would mean nothing.
    """

    before: PathTotals
    after: PathTotals
    deltas: list[PathDelta]
    has_cost: bool = True

    def change(self, measure: Measure) -> float:
        """How much more the second trace has; the changes of all paths sum to it."""
        changes = [delta.change(measure) for delta in self.deltas]
        return math.fsum(changes) if measure == "cost" else sum(changes)

    def ranked(self, measure: Measure) -> list[PathDelta]:
        """The paths that changed, the one that explains most of the difference first.

        Those that pushed in the direction of the whole difference come before those that went against it.
        """
        sign = -1 if self.change(measure) < 0 else 1
        changed = [delta for delta in self.deltas if delta.change(measure)]
        return sorted(changed, key=lambda delta: (-sign * delta.change(measure), delta.path))


def compare_traces(
    before: SpanTree, before_result: BlameResult, after: SpanTree, after_result: BlameResult
) -> Comparison:
    """Compare two traces that were analysed."""
    with gc_paused():
        one, other = _paths(before, before_result), _paths(after, after_result)
        deltas = []
        for key in {**one, **other}:
            shown, before_totals = one.get(key) or ((), PathTotals())
            other_shown, after_totals = other.get(key) or ((), PathTotals())
            deltas.append(PathDelta(shown or other_shown, key[1], before_totals, after_totals))
    has_cost = before.metadata.total_cost_usd is not None and after.metadata.total_cost_usd is not None
    totals = [_sum(total for _, total in paths.values()) for paths in (one, other)]
    return Comparison(totals[0], totals[1], sorted(deltas, key=lambda one: (one.path, one.kind)), has_cost)


# By the names without what varies, and kind: the names to show, and the sums.
_Paths: TypeAlias = dict[tuple[tuple[str, ...], str], tuple[tuple[str, ...], PathTotals]]


def _paths(tree: SpanTree, result: BlameResult) -> _Paths:
    on_path: dict[SpanID, int] = {}
    for part in result.critical_segments:
        on_path[part.span.span_id] = on_path.get(part.span.span_id, 0) + part.duration
    found: _Paths = {}
    # Paths are made once for each different one, not for each span: a tree of a million spans has few.
    interned: dict[tuple[int, str, str], int] = {}
    paths: list[tuple[tuple[str, ...], str]] = [((), tree.root.span.kind)]
    shown: list[tuple[str, ...]] = [()]
    numbers: list[int] = []  # of the spans around
    costs: dict[int, list[float]] = {}
    totals: list[PathTotals] = [PathTotals()]
    for node, depth in tree.walk():
        span = node.span
        del numbers[depth:]
        if not depth:
            number = 0
        else:
            key = (numbers[-1], span.kind, _name(span))
            number = interned.setdefault(key, len(paths))
            if number == len(paths):
                paths.append(((*paths[key[0]][0], key[2]), span.kind))
                shown.append((*shown[key[0]], model_of(span) or span.name))
                totals.append(PathTotals())
        numbers.append(number)
        row = totals[number]
        row.time += on_path.get(span.span_id, 0)
        if span.synthetic:
            continue
        row.calls += 1
        row.tokens += span.tokens_used or 0
        row.errors += is_failing(span)
        if span.cost_usd is not None:
            costs.setdefault(number, []).append(span.cost_usd)
    for number, amounts in costs.items():
        totals[number].cost_usd = math.fsum(amounts)
    for path, names, total in zip(paths, shown, totals, strict=True):
        # A tool and a command of the same name may have calls of the same name below them.
        found[path] = (found[path][0], _sum([found[path][1], total])) if path in found else (names, total)
    return found


def _name(span: Span) -> str:
    if span.kind in ("agent", "other"):
        return _VARYING.sub("#", span.name)
    return model_of(span) or span.name


def _sum(rows: Iterable[PathTotals]) -> PathTotals:
    total = PathTotals()
    costs = []
    for row in rows:
        total.calls += row.calls
        total.time += row.time
        total.tokens += row.tokens
        total.errors += row.errors
        costs.append(row.cost_usd)
    total.cost_usd = math.fsum(costs)
    return total
