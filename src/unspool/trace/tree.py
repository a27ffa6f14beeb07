"""Spans as a tree. Linear and without recursion: a million spans, in any order, of any depth and of any damage.

Every span of the input is in the tree exactly once, except repetitions of an id. What does not fit (several roots, a
parent that is not there, a circle) hangs under a synthetic root named `(trace)` and is said in `notes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

from msgspec import Struct

from unspool.events import SpanID, TraceID
from unspool.recording.lines import encode_json, is_plain, to_wire
from unspool.trace.spans import NS_PER_MS, Span, SpanStatus, instant_ms, instant_time, interval_of, is_failing, short_wire

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


class TraceMetadata(Struct):
    """Totals of a trace, without a synthetic root. Durations in nanoseconds, instants of the Unix epoch.

    `total_tokens` and `total_cost_usd` sum what is known; a cost of None means that no span has one. `error_count` counts
    errors and timeouts.
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
    """The spans of one trace under one root. `notes` says what did not fit, in words for people."""

    root: SpanNode
    trace_id: TraceID = ""
    metadata: TraceMetadata = TraceMetadata()
    notes: list[str] = []

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


def build_span_tree(spans: Iterable[Span], *, until_ns: int = 0) -> SpanTree | None:
    """The tree of the spans of one trace; None if there are none. The order of the input does not matter.

    One span without a parent is the root. Otherwise, or if parents are missing or in a circle, a synthetic root takes
    what is left at the top; it spans from the first start to the last end and counts in no total.

    Args:
        spans: not changed, and shared with the tree.
        until_ns: the instant up to which unfinished spans are known to have lasted, such as now for a running agent;
            at the least they last until the last instant that any span names.
    """
    unique, repeated = unique_spans(spans)
    if not unique:
        return None
    _sort_by_start(unique)
    metadata = metadata_of(unique, until_ns=until_ns)
    # Spans without an id are nobody's parent.
    all_nodes = [SpanNode(span, []) for span in unique]
    nodes = {node.span.span_id: node for node in all_nodes}
    nodes.pop("", None)

    top: list[SpanNode] = []
    orphans: list[SpanID] = []
    for node in all_nodes:
        parent_id = node.span.parent_span_id
        if not parent_id:
            top.append(node)
            continue
        parent = nodes.get(parent_id)
        if parent is None:
            orphans.append(parent_id)
            top.append(node)
        else:
            parent.children.append(node)
    roots = sum(not node.span.parent_span_id for node in top)
    circles = _break_circles(all_nodes, nodes, top)

    trace_ids = {span.trace_id: None for span in unique if span.trace_id}  # in order of start
    trace_id = next(iter(trace_ids), "")
    if len(top) == 1 and not top[0].span.parent_span_id:
        root = top[0]
    else:
        top.sort(key=lambda node: (node.span.start_time_ns, node.span.span_id))
        root = SpanNode(_synthetic_root(trace_id, metadata), top)
    notes = [
        note
        for note in (
            _note(repeated, "{n} repeated: the same span id came more than once, and one span of each id was kept"),
            _note(["", *trace_ids] if len(trace_ids) > 1 else [], "{n} beyond the first trace id", first=2),
            _note([""] * (roots if roots > 1 else 0), "{n} without a parent; they hang under " + SYNTHETIC_NAME),
            _note(orphans, "{n} whose parent is missing; they hang under " + SYNTHETIC_NAME),
            _note(circles, "{n} in a circle of parents, cut at the earliest; it hangs under " + SYNTHETIC_NAME),
        )
        if note
    ]
    return SpanTree(root=root, trace_id=trace_id, metadata=metadata, notes=notes)


def unique_spans(spans: Iterable[Span]) -> tuple[list[Span], list[SpanID]]:
    """One span for each id, and the ids of the others. An ended one is preferred to an open one, then the later end."""
    by_id: dict[SpanID, Span] = {}
    nameless: list[Span] = []
    repeated: list[SpanID] = []
    for span in spans:
        known = by_id.setdefault(span.span_id, span)
        if known is span:
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
    tokens = errors = 0
    cost: float | None = None
    last = max(span.end_time_ns for span in spans)
    last = max(last, until_ns, max(span.start_time_ns + (0 if span.end_time_ns else span.duration) for span in spans))
    first_start, last_end = last, 0
    for span in spans:
        tokens += span.tokens_used or 0
        if is_failing(span):
            errors += 1
        if span.cost_usd is not None:
            cost = (cost or 0.0) + span.cost_usd
        start, end = interval_of(span, last)
        first_start = min(first_start, start)
        last_end = max(last_end, end)
    return TraceMetadata(
        total_spans=len(spans),
        total_tokens=tokens,
        total_duration=last_end - first_start,
        start_time_ns=first_start,
        end_time_ns=last_end,
        error_count=errors,
        total_cost_usd=cost,
    )


def _sort_by_start(spans: list[Span]) -> None:
    """By start time, then span id. Two passes: comparing numbers is several times faster than comparing tuples."""
    spans.sort(key=attrgetter("start_time_ns"))
    first = 0
    for index in range(1, len(spans) + 1):
        if index < len(spans) and spans[index].start_time_ns == spans[first].start_time_ns:
            continue
        if index - first > 1:
            spans[first:index] = sorted(spans[first:index], key=lambda span: (span.span_id, span.to_json() if not span.span_id else b""))
        first = index


def _break_circles(all_nodes: list[SpanNode], nodes: dict[SpanID, SpanNode], top: list[SpanNode]) -> list[SpanID]:
    """Cut each circle of parents at its earliest span, which joins `top`; gives the ids of the spans cut."""
    count = 0
    stack = list(top)
    while stack:
        node = stack.pop()
        count += 1
        if node.children:
            stack.extend(node.children)
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


def _note(ids: list[SpanID], text: str, first: int = 0) -> str:
    """One line on several spans, naming the first few ids; "" for none."""
    if not ids:
        return ""
    shown = sorted({one for one in ids[first:] if one})
    named = ", ".join(shown[:_SHOWN_IDS]) + (", …" if len(shown) > _SHOWN_IDS else "")
    number = len(ids) - first
    line = text.replace("{n}", "1 span" if number == 1 else f"{number} spans")
    return f"{line} ({named})" if named else line
