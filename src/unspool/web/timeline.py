"""A run on one axis of time, in SVG: a lane for each agent, its calls in it, and what the end was waiting for.

A window of the run fills the drawing: its ends are in the address. Calls too close to be told apart are drawn as one
bar, which leads to the window it stands for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Final

from unspool.cli import amounts
from unspool.durations import format_duration
from unspool.text import escape_controls
from unspool.trace.errors_chain import error_message
from unspool.trace.names import model_of
from unspool.trace.spans import Span, SpanStatus, interval_of, is_failing
from unspool.web.links import Links
from unspool.web.prose import Cutter
from unspool.web.shelf import LoadedRun

__all__ = ["WHOLE", "Timeline", "Window", "svg_text", "timeline_of"]

WIDTH: Final = 1200
_LEFT: Final = 132  # pixels of the names of lanes
_ROW: Final = 15
_ROWS_MAX: Final = 6  # of one lane
_LANES: Final = 10  # before agents are folded into one lane
_LANES_MAX: Final = 40
_AXIS: Final = 20
_LEAST: Final = 2.0  # pixels of the shortest bar, so that it can be seen
_NARROW: Final = 4.0  # bars narrower than this may be drawn as one
_CLUSTER: Final = 22.0  # pixels of the widest bar that stands for several
_CHAR: Final = 6.2
_NO_XML: Final = re.compile("[\x00-\x1f\ud800-\udfff\ufffe\uffff]")
_SECOND: Final = 1_000_000_000
_SHORTEST_NS: Final = 1_000  # of a window


def svg_text(text: str, limit: int = 200) -> str:
    """A text inside SVG or HTML: controls written out, markup escaped, cut."""
    shown = escape_controls(_NO_XML.sub(" ", text[: limit + 1]))
    return escape(shown if len(shown) <= limit else shown[: limit - 1] + "…")


@dataclass(frozen=True)
class Window:
    """A part of a run, in nanoseconds since its start; `end_ns` 0: to its end."""

    start_ns: int = 0
    end_ns: int = 0

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Window:
        """From the address of a page, where it is in seconds; what makes no sense is left out."""
        start, end = (_nanoseconds(given.get(name, "")) for name in ("from", "to"))
        return cls(start, end) if not end or end - start >= _SHORTEST_NS else cls()

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the run."""
        return not self.start_ns and not self.end_ns

    def query(self) -> dict[str, str]:
        """The fields of an address."""
        ends = {"from": self.start_ns, "to": self.end_ns}
        return {name: f"{ns / _SECOND:.6f}".rstrip("0").rstrip(".") for name, ns in ends.items() if ns}

    def within(self, whole_ns: int) -> tuple[int, int]:
        """Its ends in a run of this length."""
        start = min(self.start_ns, max(whole_ns - _SHORTEST_NS, 0))
        end = min(self.end_ns, whole_ns) if self.end_ns else whole_ns
        return start, max(end, start + _SHORTEST_NS)


def _nanoseconds(text: str) -> int:
    return round(float(text) * _SECOND) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text) else 0


WHOLE: Final = Window()


@dataclass
class Timeline:
    """The drawing, and the windows around this one by what they do: in, out, earlier, later, whole.

    `folded` counts agents that share a lane.
    """

    svg: str
    window: Window
    shown: str
    moves: dict[str, dict[str, str]]
    folded: int = 0
    unfolded: bool = False


@dataclass
class _Bar:
    """One call, or several that are too close: `busy` is how long by kind."""

    x: float
    end: float
    spans: list[Span]
    busy: dict[str, int]


@dataclass
class _Lane:
    name: str
    pid: int = 0
    rows: list[int] = field(default_factory=list)  # when the last bar of each row ends, in ns
    bars: list[list[_Bar]] = field(default_factory=list)
    failed: list[tuple[int, Span]] = field(default_factory=list)

    @property
    def height(self) -> int:
        return max(len(self.rows), 1) * _ROW + 8


@dataclass
class _Scale:
    """Pixels of instants of a run, for a window of it."""

    start: int
    end: int
    per_ns: float

    def x(self, at_ns: int) -> float:
        return _LEFT + (min(max(at_ns, self.start), self.end) - self.start) * self.per_ns


def timeline_of(
    run: LoadedRun, links: Links, cutter: Cutter | None = None, window: Window = WHOLE, *, unfolded: bool = False
) -> Timeline:
    """The drawing of a window of a run. What failed is always to be seen.

    Args:
        unfolded: a lane for each agent, however many there are.
    """
    whole = max(run.end_ns - run.start_ns, 1)
    first, last = window.within(whole)
    scale = _Scale(run.start_ns + first, run.start_ns + last, (WIDTH - _LEFT - 4) / (last - first))
    lanes, others = _lanes(run, unfolded=unfolded)
    for span in run.spans:
        lane = lanes.get(span.pid)
        start, end = interval_of(span, run.end_ns)
        if lane is None or span.kind == "agent" or end < scale.start or start > scale.end:
            continue
        if span.kind == "other" and not is_failing(span) and (end - start) * scale.per_ns < _LEAST:
            continue
        _place(lane, span, start, end, scale)
    parts = [*_axis(first, last, scale), _critical(run, scale, _AXIS)]
    y = _AXIS + 18
    painter = _Painter(run, links, scale, cutter or Cutter(300))
    for lane in _distinct(lanes):
        parts.append(painter.lane(lane, y))
        y += lane.height
    left = len(run.subject.recorded.processes) - _LANES_MAX if unfolded else 0
    if left > 0:
        parts.append(f'<text class="lane" x="4" y="{y + 14}">… and {left} more agents</text>')
        y += 20
    svg = (
        f'<svg class="timeline" viewBox="0 0 {WIDTH} {y + 4}" width="100%" role="group" data-left="{_LEFT}" '
        f'data-width="{WIDTH}" data-right="4" data-from="{first / _SECOND:.6f}" data-to="{last / _SECOND:.6f}" '
        f'aria-label="Timeline of {format_duration(last - first)}">{"".join(parts)}</svg>'
    )
    shown = (
        "" if window.is_whole else f"{format_duration(first)} to {format_duration(last)} of {format_duration(whole)}"
    )
    return Timeline(svg, window, shown, _moves(window, first, last, whole), others, unfolded)


def _moves(window: Window, first: int, last: int, whole: int) -> dict[str, dict[str, str]]:
    """Windows to go to; one that would be this one again is left out."""
    size = last - first
    middle = (first + last) // 2

    def at(start: int, length: int) -> dict[str, str]:
        start = max(min(start, whole - length), 0)
        return Window(start, start + length if start + length < whole else 0).query() or {"from": ""}

    moves: dict[str, dict[str, str]] = {}
    if size > 4 * _SHORTEST_NS:
        moves["in"] = at(middle - size // 4, size // 2)
    if not window.is_whole:
        moves["out"] = at(middle - size, size * 2) if size * 2 < whole else {"from": ""}
        if first > 0:
            moves["earlier"] = at(first - size // 2, size)
        if last < whole:
            moves["later"] = at(first + size // 2, size)
        moves["whole"] = {"from": ""}
    return moves


def _lanes(run: LoadedRun, *, unfolded: bool) -> tuple[dict[int, _Lane], int]:
    """Lanes by PID, those that share one last, and how many do. What failed and what did the most have their own."""
    agents = {one.agent.pid: one.agent.name for one in run.subject.recorded.processes}
    for span in run.spans:
        agents.setdefault(span.pid, span.name)
    if len(agents) <= _LANES or unfolded:
        return {pid: _Lane(name, pid) for pid, name in list(agents.items())[:_LANES_MAX]}, 0
    weight = dict.fromkeys(agents, 0)
    for span in run.spans:
        if span.kind in ("llm", "tool"):
            weight[span.pid] += 1
        if is_failing(span):
            weight[span.pid] += len(run.spans)
    weight[next(iter(agents))] += len(run.spans) ** 2 + 1  # the first one is what the page is about
    chosen = set(sorted(agents, key=lambda pid: -weight[pid])[: _LANES - 1])
    lanes = {pid: _Lane(name, pid) for pid, name in agents.items() if pid in chosen}
    rest = _Lane(f"{len(agents) - len(lanes)} more agents")
    lanes.update((pid, rest) for pid in agents if pid not in chosen)
    return lanes, len(agents) - len(chosen)


def _distinct(lanes: Mapping[int, _Lane]) -> list[_Lane]:
    return list({id(lane): lane for lane in lanes.values()}.values())


def _place(lane: _Lane, span: Span, start: int, end: int, scale: _Scale) -> None:
    """Put a call into the first row that is free, into the bar before it if they are too close."""
    row = next((number for number, until in enumerate(lane.rows) if until <= start), None)
    if row is None and len(lane.rows) < _ROWS_MAX:
        lane.rows.append(0)
        lane.bars.append([])
        row = len(lane.rows) - 1
    if row is None:
        row = _ROWS_MAX - 1
    lane.rows[row] = max(lane.rows[row], end)
    if is_failing(span):
        lane.failed.append((row, span))
        return
    x, until = scale.x(start), scale.x(end)
    bars = lane.bars[row]
    kind = span.kind if span.kind in ("llm", "tool") else "other"
    last = bars[-1] if bars else None
    if last is not None and until - x < _NARROW and x < last.end + _LEAST and until - last.x < _CLUSTER:
        is_cluster = len(last.spans) > 1 or last.end - last.x < _NARROW
        if is_cluster:
            last.end = max(last.end, until)
            last.spans.append(span)
            last.busy[kind] = last.busy.get(kind, 0) + end - start
            return
    if last is not None and until < last.end:
        return  # what stands there covers it
    bars.append(_Bar(x, until, [span], {kind: end - start}))


class _Painter:
    """Writes lanes as SVG."""

    def __init__(self, run: LoadedRun, links: Links, scale: _Scale, cutter: Cutter) -> None:
        self._run, self._links, self._scale, self._cutter = run, links, scale, cutter

    def lane(self, lane: _Lane, y: int) -> str:
        """A lane at a height."""
        drawn = [self._bar(bar, row) for row, bars in enumerate(lane.bars) for bar in bars]
        last: dict[int, float] = {}
        for row, span in lane.failed:
            x = self._scale.x(interval_of(span, self._run.end_ns)[0])
            if x - last.get(row, -9.0) >= _LEAST:
                last[row] = x
                drawn.append(self._one(span, row))
        name = f'<title>{svg_text(lane.name)}</title><text class="lane" x="4" y="15">{svg_text(lane.name, 21)}</text>'
        query: dict[str, Any] = {"pid": lane.pid} if lane.pid else {"lanes": "all"}
        href = self._links.run(self._run.subject.name, **query, **_plain(self._window()))
        if not href.startswith("#"):
            name = f'<a href="{escape(href)}">{name}<rect class="hit" x="0" y="1" width="{_LEFT - 6}" height="20"/></a>'
        return (
            f'<g transform="translate(0 {y})"><line class="rule" x1="0" x2="{WIDTH}" y1="0" y2="0"/>'
            f"{name}{''.join(drawn)}</g>"
        )

    def _window(self) -> Window:
        whole = self._run.end_ns - self._run.start_ns
        start, end = self._scale.start - self._run.start_ns, self._scale.end - self._run.start_ns
        return Window(start, end if end < whole else 0)

    def _bar(self, bar: _Bar, row: int) -> str:
        if len(bar.spans) == 1:
            return self._one(bar.spans[0], row)
        first = min(span.start_time_ns for span in bar.spans) - self._run.start_ns
        last = max(interval_of(span, self._run.end_ns)[1] for span in bar.spans) - self._run.start_ns
        room = (last - first) // 10
        window = Window(max(first - room, 0), last + room + _SHORTEST_NS)
        href = self._links.run(self._run.subject.name, **_plain(window))
        names = ", ".join(f"{format_duration(ns)} {_SAID[kind]}" for kind, ns in sorted(bar.busy.items()) if ns)
        box = f"<title>{amounts.counted(len(bar.spans), 'call')}, {svg_text(names)}: zoom in</title>"
        width, height, top = max(bar.end - bar.x, _LEAST), _ROW - 2, row * _ROW + 4.0
        total = sum(bar.busy.values()) or 1
        for kind in ("llm", "tool", "other"):
            if part := bar.busy.get(kind, 0) * height / total:
                box += _rect(f"bar {kind}", bar.x, top, width, part)
                top += part
        return f'<a href="{escape(href)}">{box}</a>' if not href.startswith("#") else f"<g>{box}</g>"

    def _one(self, span: Span, row: int) -> str:
        run = self._run
        start, end = interval_of(span, run.end_ns)
        x = self._scale.x(start)
        failed = is_failing(span)
        width = max(self._scale.x(end) - x, _LEAST + failed)
        name = model_of(span) or span.name or "?"
        kind = span.kind if span.kind in ("llm", "tool") else "other"
        hover = f"{name}, {format_duration(end - start)}"
        if span.status is SpanStatus.OPEN:
            hover += ", not ended"
        if span.span_id in run.critical:
            hover += f", {format_duration(run.critical[span.span_id])} of it on the critical path"
        if failed:
            hover += f": {self._cutter.cut(error_message(span) or str(span.status))[0]}"
        classes = f"bar {kind}{' failed' if failed else ''}{' open' if span.status is SpanStatus.OPEN else ''}"
        room = int((width - 5) / _CHAR)
        label = f'<text x="{x + 3:.1f}" y="{row * _ROW + 15}">{svg_text(name, room)}</text>' if room >= 4 else ""
        rect = _rect(classes, x, row * _ROW + 4, width, _ROW - 2)
        box = f"<title>{svg_text(hover)}</title>{rect}{label}"
        record, seq = run.record_of(span), run.seq_of(span)
        href = self._links.step(record, seq) if record and seq else ""
        return f'<a href="{escape(href)}">{box}</a>' if href else f"<g>{box}</g>"


_SAID: Final = {"llm": "models", "tool": "tools", "other": "other work", "agent": "the agents' own code"}


def _plain(window: Window) -> dict[str, Any]:
    return dict(window.query())


def _rect(classes: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{classes}" x="{x:.2f}" y="{y:.1f}" width="{width:.2f}" height="{height:.1f}" rx="1.5"/>'


def _critical(run: LoadedRun, scale: _Scale, y: int) -> str:
    """What the end waited for at every instant: one band without gap or overlap."""
    parts: list[str] = []
    last: tuple[str, float, float, Span] | None = None
    for segment in run.report.result.critical_segments:
        if segment.end_ns < scale.start or segment.start_ns > scale.end:
            continue
        kind = segment.span.kind if segment.span.kind in ("llm", "tool", "other") else "agent"
        x1, x2 = scale.x(segment.start_ns), scale.x(segment.end_ns)
        if last is not None and (last[0] == kind or x2 - last[1] < _LEAST):
            last = (last[0], last[1], x2, last[3])
            continue
        if last is not None:
            parts.append(_band(*last))
        last = (kind, x1, x2, segment.span)
    if last is not None:
        parts.append(_band(*last))
    return f'<g transform="translate(0 {y})"><text class="lane" x="4" y="10">critical path</text>{"".join(parts)}</g>'


def _band(kind: str, x1: float, x2: float, span: Span) -> str:
    name = f"waiting for {_SAID[kind]}" if kind in ("llm", "tool") else _SAID[kind]
    return (
        f"<g><title>{svg_text(name)}: {svg_text(span.name, 80)}</title>"
        f"{_rect(f'path {kind}', x1, 2, max(x2 - x1, 0.3), 10)}</g>"
    )


def _step(least_ns: float) -> int:
    """The shortest of the round durations that is no shorter than this; none is below what can be written."""
    for unit in (_SECOND, 60 * _SECOND):
        found = next((unit * factor for factor in (1, 2, 5, 10, 20, 30) if unit * factor >= least_ns), 0)
        if found and least_ns > _SECOND // 2:
            return found
    unit = _SHORTEST_NS if least_ns <= _SECOND else 3600 * _SECOND
    factor = 1
    while unit * factor < least_ns:
        factor = factor * 2 if str(factor)[0] in "15" else factor * 5 // 2
    return unit * factor


def _axis(first: int, last: int, scale: _Scale) -> Sequence[str]:
    step = _step(110 / scale.per_ns)
    parts = []
    at = -(-first // step) * step
    while at <= last:
        x = _LEFT + (at - first) * scale.per_ns
        parts.append(
            f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="14" y2="10000"/>'
            f'<text class="axis" x="{x + 3:.1f}" y="11">{format_duration(at) if at else 0}</text>'
        )
        at += step
    return parts
