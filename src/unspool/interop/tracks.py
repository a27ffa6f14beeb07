"""Spans laid out on tracks: on one track they nest like calls on a stack, as timeline viewers want them.

A span goes on the track of its parent if it lies within what is open there, else on another of its process, else on a
new one: concurrent calls are beside each other.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from unspool.trace.spans import Span, interval_of
from unspool.trace.tree import SpanTree

__all__ = ["Placed", "Track", "lay_out"]

_LOOKED_AT: Final = 64  # tracks of a process that are tried before a new one is made


class Placed(Struct):
    """A span on its track: from `start` to `end`, nanoseconds of the Unix epoch."""

    span: Span
    start: int
    end: int


class Track(Struct):
    """Spans that nest, in order of their start; `pid` is the process they are of."""

    pid: int
    number: int
    spans: list[Placed] = []


def lay_out(tree: SpanTree) -> list[Track]:
    """The tracks of a trace, the processes in order of their first span. Synthetic spans are left out."""
    until = max(tree.metadata.end_time_ns, tree.root.span.end_time_ns)
    tracks: list[Track] = []
    open_ends: list[list[int]] = []  # by track: the ends of the spans that are open there
    of_pid: dict[int, list[int]] = {}
    home: dict[str, int] = {}  # by span id
    placed: list[tuple[int, int, int, int, Span]] = []
    above: dict[str, str] = {}
    for node, depth in tree.walk():
        for child in node.children:
            above[child.span.span_id] = node.span.span_id
        if not node.span.synthetic:
            start, end = interval_of(node.span, until)
            placed.append((start, -end, depth, len(placed), node.span))
    placed.sort(key=lambda one: one[:4])
    for start, negative_end, _, _, span in placed:
        end = -negative_end
        own = of_pid.setdefault(span.pid, [])
        preferred = home.get(above.get(span.span_id, ""))
        candidates = own[-_LOOKED_AT:]
        if preferred is not None and tracks[preferred].pid == span.pid:
            candidates = [preferred, *candidates]
        for index in candidates:
            ends = open_ends[index]
            while ends and ends[-1] <= start and not (ends[-1] == start == end):
                ends.pop()
            if not ends or ends[-1] >= end:
                break
        else:
            index = len(tracks)
            tracks.append(Track(span.pid, len(own) + 1))
            open_ends.append([])
            own.append(index)
        open_ends[index].append(end)
        tracks[index].spans.append(Placed(span, start, end))
        home[span.span_id] = index
    order = {pid: position for position, pid in enumerate(of_pid)}
    return sorted(tracks, key=lambda track: (order[track.pid], track.number))
