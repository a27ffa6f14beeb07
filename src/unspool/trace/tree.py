"""Spans as a tree. Linear and without recursion: a million spans, in any order, of any depth and of any damage.

Every span of the input is in the tree exactly once, except repetitions of an id. What does not fit (several roots, a
parent that is not there, a circle) hangs under a synthetic root named `(trace)` and is said in `notes`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

from msgspec import Struct

from unspool.events import SpanID, TraceID
from unspool.recording.lines import encode_json, is_plain, to_wire
from unspool.trace.quiet import gc_paused
from unspool.trace.spans import (
    FAILING,
    NS_PER_MS,
    Span,
    SpanStatus,
    instant_ms,
    instant_time,
    interval_of,
    short_wire,
)

__all__ = [
    "SYNTHETIC_NAME",
    "SpanNode",
    "SpanTree",
    "TraceMetadata",
    "build_span_tree",
    "metadata_of",
    "unique_spans",
]

SYNTHETIC_NAME: Final = "(trace)"
SYNTHETIC_ID: Final = "0" * 32  # W3C Trace Context declares it invalid, so no real span has it
_SHOWN_IDS = 5  # ids named in one note
_MANY = 1000  # children of one span that do not fit into fast memory


class SpanNode(Struct, eq=False):
    """A span and the spans below it, by start time, then span id. Compared by identity."""

    span: Span
    children: list[SpanNode] = []

    # The generated one would print, and compare, the whole tree below: by recursion.
    def __repr__(self) -> str:
        return f"SpanNode({self.span.name!r}, span_id={self.span.span_id!r}, children={len(self.children)})"

    @property
    def span_id(self) -> SpanID:
        """The id of its span."""
        return self.span.span_id

    @property
    def name(self) -> str:
        """The name of its span."""
        return self.span.name


class TraceMetadata(Struct, frozen=True):
    """Totals of a trace, without a synthetic root. Durations in nanoseconds, instants of the Unix epoch.

    `total_tokens` and `total_cost_usd` sum what is known; a cost of None means that no span has one. `error_count`
    counts errors and timeouts.
    """

    total_spans: int = 0
    total_tokens: int = 0
    total_duration: int = 0
    start_time_ns: int = 0
    end_time_ns: int = 0
    error_count: int = 0
    total_cost_usd: float | None = None

    @property
    def start_time(self) -> datetime | None:
        """When the first span began, in UTC; None if unknown."""
        return instant_time(self.start_time_ns)

    @property
    def end_time(self) -> datetime | None:
        """When the last span ended, in UTC; None if unknown."""
        return instant_time(self.end_time_ns)


class SpanTree(Struct):
    """The spans of one trace under one root. `notes` says what did not fit, in words for people.

    `spans` are those of the nodes in the order in which they were given, which is that of memory: to go through all of
    them this way costs a fraction of a walk. Without the synthetic root, and empty in a tree made by hand.
    """

    root: SpanNode
    trace_id: TraceID = ""
    metadata: TraceMetadata = TraceMetadata()
    notes: list[str] = []
    spans: list[Span] = []

    def walk(self) -> Iterator[tuple[SpanNode, int]]:
        """Every node with its depth (0 for the root), parents first, children in their order."""
        stack = [(self.root, 0)]
        while stack:
            node, depth = stack.pop()
            yield node, depth
            if node.children:
                stack.extend([(child, depth + 1) for child in reversed(node.children)])

    def to_json(self) -> bytes:
        """The wire form: nested spans, totals, notes. Deeper than many parsers of JSON read if the tree is."""
        metadata = self.metadata
        rest = {
            "trace_id": self.trace_id,
            "metadata": {
                "total_spans": metadata.total_spans,
                "total_tokens": metadata.total_tokens,
                "total_duration_ms": metadata.total_duration // NS_PER_MS,
                "start_time_ms": instant_ms(metadata.start_time_ns),
                "end_time_ms": instant_ms(metadata.end_time_ns),
                "error_count": metadata.error_count,
                "start_time_ns": metadata.start_time_ns,
                "end_time_ns": metadata.end_time_ns,
                "total_duration_ns": metadata.total_duration,
                "total_cost_usd": metadata.total_cost_usd,
            },
            "notes": self.notes,
        }
        return b"".join((b'{"root":', *self._json_pieces(), b",", encode_json(rest)[1:]))

    def _json_pieces(self) -> Iterator[bytes]:
        depth_before = -1
        for node, depth in self.walk():
            if depth > depth_before:
                if depth:
                    yield b',"children":['
            else:
                yield b"}" + b"]}" * (depth_before - depth) + b","
            depth_before = depth
            yield encode_json(_node_wire(node.span))[:-1]
        yield b"}" + b"]}" * depth_before


def _node_wire(span: Span) -> dict[str, Any]:
    wire = short_wire(span)
    if not span.parent_span_id:
        del wire["parent_span_id"]
    if span.attributes:
        wire["attributes"] = span.attributes if is_plain(span.attributes) else to_wire(span.attributes)
    return wire


def build_span_tree(spans: Iterable[Span] | None, *, until_ns: int = 0) -> SpanTree | None:
    """The tree of the spans of one trace; None if there are none. The order of the input does not matter.

    One span without a parent is the root. Otherwise, or if parents are missing or in a circle, a synthetic root takes
    what is left at the top; it spans from the first start to the last end and counts in no total.

    Args:
        spans: not changed, and shared with the tree.
        until_ns: the instant up to which unfinished spans are known to have lasted, such as now for a running agent;
            at the least they last until the last instant that any span names.
    """
    with gc_paused():
        return _build(spans or (), until_ns)


def _build(spans: Iterable[Span], until_ns: int) -> SpanTree | None:
    unique = list(spans)
    if not unique:
        return None
    # Everything in the order of the input, and so of memory, as far as possible: at a million spans the time goes into
    # cache misses. Sorting all spans by start first takes twice as long as sorting the children of each.
    nodes = {span.span_id: SpanNode(span, []) for span in unique}
    all_nodes = list(nodes.values())
    repeated: list[SpanID] = []
    if len(nodes) != len(unique) or "" in nodes:
        unique, repeated = unique_spans(unique)
        all_nodes = [SpanNode(span, []) for span in unique]
        nodes = {node.span.span_id: node for node in all_nodes}
        nodes.pop("", None)  # spans without an id are nobody's parent

    metadata = metadata_of(unique, until_ns=until_ns)
    top: list[SpanNode] = []
    orphans: list[SpanID] = []
    may_circle = False  # a circle has a parent that did not begin before its child
    for node in all_nodes:
        span = node.span
        parent_id = span.parent_span_id
        if not parent_id:
            top.append(node)
            continue
        parent = nodes.get(parent_id)
        if parent is None:
            orphans.append(parent_id)
            top.append(node)
        else:
            parent.children.append(node)
            if parent.span.start_time_ns >= span.start_time_ns:
                may_circle = True
    roots = sum(not node.span.parent_span_id for node in top)
    circles = _break_circles(all_nodes, nodes, top) if may_circle else []

    for node in all_nodes:
        if len(node.children) > 1:
            _sort_by_start(node.children)
    _sort_by_start(top)

    trace_id = unique[0].trace_id
    trace_ids = {trace_id}
    if any(span.trace_id != trace_id for span in unique):
        named = [span for span in unique if span.trace_id]
        trace_ids = {span.trace_id for span in named}
        trace_id = min(named, key=lambda span: (span.start_time_ns, span.span_id)).trace_id
    if len(top) == 1 and not top[0].span.parent_span_id:
        root = top[0]
    else:
        root = SpanNode(_synthetic_root(trace_id, metadata), top)
    notes = [
        note
        for note in (
            _note(repeated, "{n} repeated: the same span id came more than once, and one span of each id was kept"),
            _note([""] * (roots if roots > 1 else 0), "{n} without a parent; they hang under " + SYNTHETIC_NAME),
            _note(orphans, "{n} whose parent is missing; they hang under " + SYNTHETIC_NAME),
            _note(circles, "{n} in a circle of parents, cut at the earliest; it hangs under " + SYNTHETIC_NAME),
        )
        if note
    ]
    if len(trace_ids) > 1:
        notes.append(
            f"spans of {len(trace_ids)} traces ({_some(trace_ids)}); the tree is named after the one that began first"
        )
    return SpanTree(root=root, trace_id=trace_id, metadata=metadata, notes=notes, spans=unique)


def unique_spans(spans: Iterable[Span]) -> tuple[list[Span], list[SpanID]]:
    """One span for each id, and the ids of the others. An ended one is preferred to an open one, then the later end."""
    by_id: dict[SpanID, Span] = {}
    nameless: list[Span] = []
    repeated: list[SpanID] = []
    for span in spans:
        known = by_id.get(span.span_id)
        if known is None:
            by_id[span.span_id] = span
            continue
        if not span.span_id:
            nameless.append(span)
            continue
        repeated.append(span.span_id)
        if _weight(span) > _weight(known):
            by_id[span.span_id] = span
    return [*by_id.values(), *nameless], repeated


def _weight(span: Span) -> tuple[bool, int, bytes]:
    # The line decides last, so that the order of the input never does.
    return span.status is not SpanStatus.OPEN, span.end_time_ns, span.to_json()


def metadata_of(spans: list[Span], *, until_ns: int = 0) -> TraceMetadata:
    """Totals over spans of different ids."""
    tokens = errors = last_end = 0
    first_start: int | None = None
    is_open = False
    costs: list[float] = []
    for span in spans:
        start, end = span.start_time_ns, span.end_time_ns
        if not 0 < start <= end:
            start, end = interval_of(span, 0)
        if first_start is None or start < first_start:
            first_start = start
        last_end = max(last_end, end)
        tokens += span.tokens_used or 0
        status = span.status
        if status in FAILING:
            errors += 1
        elif status is SpanStatus.OPEN and not span.end_time_ns:
            is_open = True
        if span.cost_usd is not None:
            costs.append(span.cost_usd)
    if is_open:
        last_end = max(last_end, until_ns)
    first_start = first_start or 0
    return TraceMetadata(
        total_spans=len(spans),
        total_tokens=tokens,
        total_duration=max(last_end - first_start, 0),
        start_time_ns=first_start,
        end_time_ns=last_end,
        error_count=errors,
        total_cost_usd=math.fsum(costs) if costs else None,
    )


def _sort_by_start(nodes: list[SpanNode]) -> None:
    """By start time, then span id. Two passes: comparing numbers is several times faster than comparing tuples."""
    if len(nodes) > _MANY:
        # The keys beside each other: what is sorted and compared then is not a million spans all over the memory.
        # Sorted are floats, which Python does faster than large integers; within 2**53 ns (104 days) they are exact.
        starts = list(map(_start_of, nodes))
        base = min(starts)
        keys: list[float] = [start - base for start in starts]
        if max(keys) < 2**53:
            keys = list(map(float, keys))
        order = sorted(range(len(keys)), key=keys.__getitem__)
        nodes[:] = [nodes[at] for at in order]
        ordered = [keys[at] for at in order]
    else:
        nodes.sort(key=_start_of)
        ordered = [node.span.start_time_ns for node in nodes]
    first = 0
    start = ordered[0]
    for index, next_start in enumerate(ordered):
        if next_start != start:
            if index - first > 1:
                nodes[first:index] = sorted(nodes[first:index], key=_id_order)
            first, start = index, next_start
    if len(nodes) - first > 1:
        nodes[first:] = sorted(nodes[first:], key=_id_order)


_start_of = attrgetter("span.start_time_ns")


def _id_order(node: SpanNode) -> tuple[SpanID, bytes]:
    span = node.span
    return span.span_id, b"" if span.span_id else span.to_json()


def _break_circles(all_nodes: list[SpanNode], nodes: dict[SpanID, SpanNode], top: list[SpanNode]) -> list[SpanID]:
    """Cut each circle of parents at its earliest span, which joins `top`; gives the ids of the spans cut."""
    # Counting is several times cheaper than remembering, and there are no circles in nearly every trace.
    count = 0
    stack = list(top)
    while stack:
        children = stack.pop().children
        count += 1
        if children:
            stack.extend(children)
    if count == len(all_nodes):
        return []
    cut: list[SpanID] = []
    reached: set[int] = set()
    _reach(top, reached)
    for node in all_nodes:
        # Whoever is not reached has a parent that is not reached either, so going up ends in a circle.
        trail: dict[int, SpanNode] = {}
        current = node
        while id(current) not in reached and id(current) not in trail:
            trail[id(current)] = current
            current = nodes[current.span.parent_span_id]
        if id(current) in reached:
            continue
        members = list(trail.values())
        circle = members[members.index(current) :]
        head = min(circle, key=lambda one: (one.span.start_time_ns, one.span.span_id))
        nodes[head.span.parent_span_id].children.remove(head)
        cut.append(head.span.span_id)
        top.append(head)
        _reach([head], reached)
    return cut


def _reach(start: list[SpanNode], reached: set[int]) -> None:
    stack = list(start)
    while stack:
        node = stack.pop()
        reached.add(id(node))
        stack.extend(node.children)


def _synthetic_root(trace_id: TraceID, metadata: TraceMetadata) -> Span:
    return Span(
        trace_id=trace_id,
        span_id=SYNTHETIC_ID,
        name=SYNTHETIC_NAME,
        start_time_ns=metadata.start_time_ns,
        end_time_ns=metadata.end_time_ns,
        kind="other",
        synthetic=True,
    )


def _note(ids: list[SpanID], text: str) -> str:
    """One line on several spans, naming the first few ids; "" for none."""
    if not ids:
        return ""
    line = text.replace("{n}", "1 span" if len(ids) == 1 else f"{len(ids)} spans")
    named = _some(one for one in ids if one)
    return f"{line} ({named})" if named else line


def _some(ids: Iterable[str]) -> str:
    shown = sorted(set(ids))
    return ", ".join(shown[:_SHOWN_IDS]) + (", …" if len(shown) > _SHOWN_IDS else "")
