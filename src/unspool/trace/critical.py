"""The critical path: which span the end of a trace was waiting for, at every instant.

After CRISP (Zhang et al., "CRISP: Critical Path Analysis of Large-Scale Microservice Architectures", USENIX ATC 2022;
uber.com/blog/crisp-critical-path-analysis-for-microservice-architectures): from the end of a span, go back to the child
that finished last and continue from that child's start; what no child on the path covers is the span's own. Children
that outlive their parent are cut at its end.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Final

from msgspec import Struct

from unspool.events import SpanID
from unspool.trace.spans import Span, interval_of
from unspool.trace.tree import SpanNode

__all__ = ["CriticalSegment", "critical_path", "in_start_order"]

_MANY: Final = 1000  # children of one span that do not fit into fast memory
_NONE: Final[list[tuple[int, int, SpanNode]]] = []  # never changed
_end = itemgetter(0)


class CriticalSegment(Struct):
    """A part of the root's time that one span accounts for. Instants in nanoseconds.

    `proven`: data shows that the span had to wait for the sibling before it on the path. Otherwise only their timing
    says so, and one may merely have happened before the other.
    """

    span: Span
    start_ns: int
    end_ns: int
    proven: bool = False

    @property
    def duration(self) -> int:
        """Its length in nanoseconds."""
        return self.end_ns - self.start_ns


def critical_path(
    root: SpanNode, open_until_ns: int, proven: Iterable[tuple[SpanID, SpanID]] = ()
) -> tuple[list[CriticalSegment], list[SpanNode]]:
    """The root's interval cut into parts, in time order, without gap or overlap, and the spans they belong to.

    The spans are given once each, in order of first appearance, the root always first.

    Going back from the end of a span, the child that finished last is on the path; of the others only one that ended
    no later than that child's start, and so on. Of children that ended together the one that began first is taken,
    then the one with the smaller span id. Children are cut to the part of their parent that is on the path; those
    without duration are never on it. A root without duration gives one part of length 0.

    Costs O(k log k) in the children of the spans on the path; the rest of the tree is not visited.

    Args:
        root: of a tree without circles.
        open_until_ns: how long unfinished spans lasted.
        proven: pairs (earlier, later) of span ids of which data shows that the later one needed the earlier, such as a
            tool whose result is in the prompt of a model call.
    """
    edges = set(proven)
    waited: set[int] = set()  # nodes known to have waited for the sibling before them
    start, end = interval_of(root.span, open_until_ns)
    parts: list[tuple[SpanNode, int, int]] = []  # from the end backwards
    frames = [_Frame(root, start, end, open_until_ns)]
    while frames:
        frame = frames[-1]
        found = frame.step_back()
        if found is None:
            if frame.point > frame.start:
                parts.append((frame.node, frame.start, frame.point))
            frames.pop()
            continue
        child_end, child_start, child = found
        if child_end < frame.point:
            parts.append((frame.node, child_end, frame.point))
        if edges and frame.later is not None and (child.span.span_id, frame.later.span.span_id) in edges:
            waited.add(id(frame.later))
        frame.point, frame.later = child_start, child
        frames.append(_Frame(child, child_start, child_end, open_until_ns))
    if not parts:
        parts.append((root, start, end))
    parts.reverse()
    segments = [CriticalSegment(node.span, low, high, id(node) in waited) for node, low, high in parts]
    nodes = {id(root): root}
    for node, _, _ in parts:
        nodes[id(node)] = node
    return segments, list(nodes.values())


class _Frame:
    """A span on the path while time runs backwards through it, from `point` to `start`."""

    __slots__ = ("candidates", "in_order", "later", "node", "point", "start")

    def __init__(self, node: SpanNode, start: int, end: int, open_until_ns: int) -> None:
        self.node, self.start, self.point = node, start, end
        self.later: SpanNode | None = None
        self.candidates = _NONE
        self.in_order = True  # the candidates, by their end
        children = node.children
        if not children:
            return
        candidates = self._candidates(children, open_until_ns, check=True)
        if candidates is None:  # a tree made by hand
            candidates = self._candidates(in_start_order(children), open_until_ns, check=False) or []
        self.candidates = candidates
        self.in_order = len(candidates) <= _MANY
        if self.in_order:
            candidates.sort(key=_end)

    def _candidates(
        self, children: list[SpanNode], open_until_ns: int, *, check: bool
    ) -> list[tuple[int, int, SpanNode]] | None:
        """End, start and node of each child within the span; None if they turn out not to be in order of start.

        One pass, and against the order of start, so that a stable sort by end leaves the earliest start last among
        equal ends. At a million children the time goes into cache misses: each is looked at once.
        """
        low, high = self.start, self.point
        found: list[tuple[int, int, SpanNode]] = []
        later: Span | None = None
        for child in reversed(children):
            span = child.span
            start, end = span.start_time_ns, span.end_time_ns
            if check:
                if later is not None and (
                    start > later.start_time_ns or (start == later.start_time_ns and span.span_id > later.span_id)
                ):
                    return None
                later = span
            if not 0 < start <= end:
                start, end = interval_of(span, open_until_ns)
            start = max(start, low)
            end = min(end, high)
            if start < end:
                found.append((end, start, child))
        return found

    def step_back(self) -> tuple[int, int, SpanNode] | None:
        """The child that finished last at or before `point`; those that were still running then are out for good."""
        if not self.in_order:
            # Of many that overlap each step back drops most: looking for the last takes less than sorting them all.
            left = [one for one in self.candidates if one[0] <= self.point]
            has_shrunk = 2 * len(left) <= len(self.candidates)
            self.candidates = left
            if has_shrunk or self.later is None:
                return max(reversed(left), key=_end, default=None)
            left.sort(key=_end)
            self.in_order = True
        while self.candidates:
            found = self.candidates.pop()
            if found[0] <= self.point:
                if not self.candidates:
                    self.candidates = _NONE  # a path of a million spans in each other is a million of these
                return found
        return None


def in_start_order(children: list[SpanNode]) -> list[SpanNode]:
    """Children by start, then span id: the list itself if it is so already, as in every tree that was built."""
    before = None
    for child in children:
        span = child.span
        if before is not None and (
            span.start_time_ns < before.start_time_ns
            or (span.start_time_ns == before.start_time_ns and span.span_id < before.span_id)
        ):
            return sorted(children, key=lambda node: (node.span.start_time_ns, node.span.span_id))
        before = span
    return children
