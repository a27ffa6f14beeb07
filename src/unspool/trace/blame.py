"""Why a trace was slow, dear or wrong: the critical path, the hotspots, and where the errors began.

All of it is computed from the tree alone, in one pass over its spans and one walk along the critical path.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from operator import itemgetter
from typing import Any, Final

from msgspec import Struct

from unspool.events import SpanID, TraceID
from unspool.recording.lines import encode_json
from unspool.trace.critical import CriticalSegment, critical_path
from unspool.trace.errors_chain import ErrorChain, ErrorLink, chains_of, error_message
from unspool.trace.quiet import gc_paused
from unspool.trace.spans import FAILING, NS_PER_MS, Span, interval_of
from unspool.trace.tree import SpanNode, SpanTree, metadata_of

__all__ = ["TOP", "BlameEntry", "BlameResult", "BlameSummary", "analyze_trace", "self_time_of"]

TOP: Final = 3  # entries of a hotspot list, as in the seed


class BlameEntry(Struct):
    """A hotspot. `percentage` is its part of the trace's duration, tokens or cost; `rank` counts from 1.

    `self_time` is the time of the span that none of its children covers, in nanoseconds.
    """

    span: Span
    percentage: float
    rank: int
    self_time: int = 0


class BlameSummary(Struct, frozen=True):
    """Totals, without a synthetic root. `critical_path_pct` is at most 100, and less where spans outlive the root.

    `total_cost_usd` is None when no span has a cost.
    """

    total_spans: int = 0
    error_spans: int = 0
    total_duration: int = 0
    total_tokens: int = 0
    critical_path_pct: float = 0.0
    total_cost_usd: float | None = None


class BlameResult(Struct):
    """The analysis of one trace. Durations in nanoseconds.

    `critical_segments` cut the root's interval into parts; `critical_path` has the spans of these parts once each, the
    root first; `critical_duration` is their sum. Chains are in the order in which their errors began. `parents` are the
    spans that have children, in no order, and `covered` how much of the time of each these cover.
    """

    trace_id: TraceID = ""
    critical_path: list[SpanNode] = []
    critical_duration: int = 0
    duration_hotspots: list[BlameEntry] = []
    token_hotspots: list[BlameEntry] = []
    cost_hotspots: list[BlameEntry] = []
    error_chains: list[ErrorChain] = []
    handled_errors: list[ErrorChain] = []
    summary: BlameSummary = BlameSummary()
    critical_segments: list[CriticalSegment] = []
    parents: list[Span] = []
    covered: list[int] = []

    def critical_times(self) -> list[int]:
        """Nanoseconds on the critical path of each span of `critical_path`."""
        times: dict[int, int] = {}
        for part in self.critical_segments:
            times[id(part.span)] = times.get(id(part.span), 0) + part.duration
        return [times.get(id(node.span), 0) for node in self.critical_path]

    def to_json(self) -> bytes:
        """The wire form: the seed's keys and units, exact nanoseconds beside them."""
        path = zip(self.critical_path, self.critical_times(), strict=True)
        summary = self.summary
        return encode_json(
            {
                "trace_id": self.trace_id,
                "critical_path": [_path_wire(node.span, time_ns) for node, time_ns in path],
                "critical_duration_ms": self.critical_duration // NS_PER_MS,
                "duration_hotspots": [_entry_wire(entry) for entry in self.duration_hotspots],
                "token_hotspots": [_entry_wire(entry) for entry in self.token_hotspots],
                "error_chains": [_chain_wire(chain) for chain in self.error_chains],
                "summary": {
                    "total_spans": summary.total_spans,
                    "error_spans": summary.error_spans,
                    "total_duration_ms": summary.total_duration // NS_PER_MS,
                    "total_tokens": summary.total_tokens,
                    "critical_path_pct": summary.critical_path_pct,
                    "total_duration_ns": summary.total_duration,
                    "total_cost_usd": summary.total_cost_usd,
                },
                "critical_duration_ns": self.critical_duration,
                "critical_segments": [_segment_wire(part) for part in self.critical_segments],
                "cost_hotspots": [_entry_wire(entry) for entry in self.cost_hotspots],
                "handled_errors": [_chain_wire(chain) for chain in self.handled_errors],
            }
        )


def analyze_trace(
    tree: SpanTree | None, *, top: int = TOP, proven: Iterable[tuple[SpanID, SpanID]] = ()
) -> BlameResult | None:
    """Which spans explain the duration, the tokens, the cost and the failure of a trace; None without a tree.

    Args:
        top: how many hotspots of each kind.
        proven: pairs (earlier, later) of span ids whose order is forced by data; see `unspool.trace.critical`.

    Raises:
        ValueError: `top` is negative.
    """
    if tree is None or tree.root is None:  # the latter in a tree made by hand
        return None
    if top < 0:
        raise ValueError(f"top must not be negative, got {top}")
    with gc_paused():
        return _analyze(tree, top, proven)


def _analyze(tree: SpanTree, top: int, proven: Iterable[tuple[SpanID, SpanID]]) -> BlameResult:
    metadata = tree.metadata
    if not metadata.total_spans:  # a tree made by hand
        metadata = metadata_of([node.span for node, _ in tree.walk()])
    until = metadata.end_time_ns
    segments, path = critical_path(tree.root, until, proven)
    critical_duration = sum(part.end_ns - part.start_ns for part in segments)
    found = _survey(tree.root, until, top)
    error_chains, handled_errors = chains_of(found.origins, until)
    total = metadata.total_duration
    return BlameResult(
        trace_id=tree.trace_id,
        critical_path=path,
        critical_duration=critical_duration,
        duration_hotspots=found.slow.entries(total, until),
        token_hotspots=found.hungry.entries(found.tokens, until),
        cost_hotspots=found.dear.entries(found.cost or 0.0, until),
        error_chains=error_chains,
        handled_errors=handled_errors,
        summary=BlameSummary(
            total_spans=found.spans,
            error_spans=found.errors,
            total_duration=total,
            total_tokens=found.tokens,
            critical_path_pct=_pct(critical_duration, total),
            total_cost_usd=found.cost,
        ),
        critical_segments=segments,
        parents=found.parents,
        covered=found.covered,
    )


class _Hotspots:
    """The highest values seen. Keeps a few hundred candidates, so that most spans cost one comparison."""

    __slots__ = ("_candidates", "_top", "floor")

    def __init__(self, top: int) -> None:
        self._top = top
        self._candidates: list[tuple[float, int, SpanID, SpanNode]] = []
        self.floor: float = 0  # a value below this is in no list; nor is 0

    def add(self, value: float, node: SpanNode) -> None:
        self._candidates.append((-value, node.span.start_time_ns, node.span.span_id, node))
        if len(self._candidates) >= 256 + 2 * self._top:
            self._prune()

    def _prune(self) -> None:
        self._candidates.sort(key=itemgetter(0, 1, 2))
        del self._candidates[self._top :]
        if self._candidates:
            self.floor = -self._candidates[-1][0]

    def entries(self, total: float, until: int) -> list[BlameEntry]:
        self._prune()
        return [
            BlameEntry(node.span, _pct(-negative, total), rank, self_time_of(node, until))
            for rank, (negative, _, _, node) in enumerate(self._candidates, 1)
        ]


class _Survey:
    """What one pass over all spans finds."""

    __slots__ = ("costs", "covered", "dear", "errors", "hungry", "origins", "parents", "slow", "spans", "tokens")

    def __init__(self, top: int) -> None:
        self.slow, self.hungry, self.dear = _Hotspots(top), _Hotspots(top), _Hotspots(top)
        self.spans = self.errors = self.tokens = 0
        self.costs: list[float] = []
        self.origins: list[ErrorLink] = []
        self.parents: list[Span] = []
        self.covered: list[int] = []

    @property
    def cost(self) -> float | None:
        return math.fsum(self.costs) if self.costs else None


def _survey(root: SpanNode, until: int, top: int) -> _Survey:
    # A span is looked at among its siblings, and again only if it has children, to add up what they cover: at a
    # million spans the time goes into cache misses.
    found = _Survey(top)
    slow, hungry, dear, costs = found.slow, found.hungry, found.dear, found.costs
    links: dict[int, ErrorLink] = {}  # of failing spans that have children, by the identity of their node
    stack = [(SpanNode(Span("", "", synthetic=True), [root]), 0, 0)]
    while stack:
        node, start, end = stack.pop()
        span = node.span
        failed = links.pop(id(node), None)
        is_origin = True
        covered, point, before, in_order = 0, start, 0, True
        for child in node.children:
            below = child.span
            child_start, child_end = below.start_time_ns, below.end_time_ns
            if not 0 < child_start <= child_end:
                child_start, child_end = interval_of(below, until)
            if child_start < before:
                in_order = False  # a tree made by hand
            before = child_start
            low, high = max(child_start, point), min(child_end, end)
            if high > low:
                covered += high - low
                point = high
            link = None
            if below.status in FAILING:
                link = ErrorLink(below, failed, span)
                is_origin = False
                found.errors += 1
            if child.children:
                if link is not None:
                    links[id(child)] = link
                stack.append((child, child_start, child_end))
            else:
                if link is not None:
                    found.origins.append(link)
                own = child_end - child_start
                if own >= slow.floor and own:
                    slow.add(own, child)
            if below.synthetic:
                continue
            found.spans += 1
            if tokens := below.tokens_used:
                found.tokens += tokens
                if tokens >= hungry.floor:
                    hungry.add(tokens, child)
            if (cost := below.cost_usd) is not None:
                costs.append(cost)
                if cost >= dear.floor and cost > 0:
                    dear.add(cost, child)
        if failed is not None and is_origin:
            found.origins.append(failed)
        if not span.synthetic:
            if not in_order:
                covered = end - start - self_time_of(node, until)
            own = end - start - covered
            found.parents.append(span)
            found.covered.append(covered)
            if own >= slow.floor and own:
                slow.add(own, node)
    return found


def self_time_of(node: SpanNode, until: int) -> int:
    """Time of a span that none of its children covers, in nanoseconds; overlapping children count once."""
    start, end = interval_of(node.span, until)
    own, point = end - start, start
    for child_start, child_end in sorted(interval_of(child.span, until) for child in node.children):
        low, high = max(child_start, point), min(child_end, end)
        if high > low:
            own -= high - low
            point = high
    return own


def _pct(part: float, whole: float) -> float:
    return part / whole * 100 if whole > 0 else 0.0


# --- wire form -------------------------------------------------------------------------------------------------------


def _span_wire(span: Span) -> dict[str, Any]:
    return {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "pid": span.pid,
        "name": span.name,
        "duration_ms": span.duration // NS_PER_MS,
        "tokens_used": span.tokens_used,
        "status": str(span.status),
        "kind": span.kind,
        "duration_ns": span.duration,
        "cost_usd": span.cost_usd,
    }


def _path_wire(span: Span, time_ns: int) -> dict[str, Any]:
    return {**_span_wire(span), "critical_ms": time_ns // NS_PER_MS, "critical_ns": time_ns}


def _entry_wire(entry: BlameEntry) -> dict[str, Any]:
    return {
        **_span_wire(entry.span),
        "percentage": entry.percentage,
        "rank": entry.rank,
        "self_time_ms": entry.self_time // NS_PER_MS,
        "self_time_ns": entry.self_time,
    }


def _chain_wire(chain: ErrorChain) -> dict[str, Any]:
    return {
        "path": [_span_wire(span) for span in chain.path],
        "root_cause": _span_wire(chain.root_cause),
        "message": error_message(chain.root_cause),
        "handled_by": None if chain.handled_by is None else _span_wire(chain.handled_by),
    }


def _segment_wire(part: CriticalSegment) -> dict[str, Any]:
    return {
        "span_id": part.span.span_id,
        "name": part.span.name,
        "critical_ms": part.duration // NS_PER_MS,
        "start_ms": part.start_ns // NS_PER_MS,
        "end_ms": part.end_ns // NS_PER_MS,
        "critical_ns": part.duration,
        "start_ns": part.start_ns,
        "end_ns": part.end_ns,
        "proven": part.proven,
    }
