"""A run on one axis of time, in SVG: a lane for each agent, its calls in it, and what the end was waiting for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import escape
from typing import Final

from unspool.durations import format_duration
from unspool.text import escape_controls
from unspool.trace.errors_chain import error_message
from unspool.trace.names import model_of
from unspool.trace.spans import Span, SpanStatus, interval_of, is_failing
from unspool.web.links import Links
from unspool.web.prose import Cutter
from unspool.web.shelf import LoadedRun

__all__ = ["svg_text", "timeline_svg"]

WIDTH: Final = 1200
_LEFT: Final = 132  # pixels of the names of lanes
_ROW: Final = 15
_ROWS_MAX: Final = 6  # of one lane
_LANES_MAX: Final = 40
_AXIS: Final = 20
_LEAST: Final = 2.0  # pixels of the shortest bar, so that it can be seen
_CHAR: Final = 6.2
_NO_XML: Final = re.compile("[\x00-\x1f\ud800-\udfff\ufffe\uffff]")


def svg_text(text: str, limit: int = 200) -> str:
    """A text inside SVG or HTML: controls written out, markup escaped, cut."""
    shown = escape_controls(_NO_XML.sub(" ", text[: limit + 1]))
    return escape(shown if len(shown) <= limit else shown[: limit - 1] + "…")


@dataclass
class _Lane:
    name: str
    rows: list[int] = field(default_factory=list)  # when the last bar of each row ends, in ns
    drawn: list[float] = field(default_factory=list)  # where the last one that was drawn ends, in pixels
    bars: list[str] = field(default_factory=list)
    hidden: int = 0

    @property
    def height(self) -> int:
        return max(len(self.rows), 1) * _ROW + 8


def timeline_svg(run: LoadedRun, links: Links, cutter: Cutter | None = None) -> str:
    """The drawing. Bars too close together to be told apart are drawn once; failed ones always are."""
    start, whole = run.start_ns, max(run.end_ns - run.start_ns, 1)
    scale = (WIDTH - _LEFT - 4) / whole
    lanes: dict[int, _Lane] = {}
    for one in run.subject.recorded.processes[:_LANES_MAX]:
        lanes[one.agent.pid] = _Lane(one.agent.name)
    for span in run.spans:
        lane = lanes.get(span.pid)
        if lane is None or span.kind == "agent":
            if span.kind != "agent" and len(lanes) < _LANES_MAX:
                lane = lanes[span.pid] = _Lane(span.name)
            else:
                continue
        if span.kind == "other" and not is_failing(span) and span.duration * scale < _LEAST:
            continue
        _draw(lane, span, run, links, (scale, cutter or Cutter(300)))
    parts: list[str] = []
    y = _AXIS
    parts += _axis(whole, scale)
    parts.append(_critical(run, start, scale, y))
    y += 18
    for lane in lanes.values():
        name = svg_text(lane.name, 21)
        more = f" · {lane.hidden} more, too close to draw" if lane.hidden else ""
        parts.append(
            f'<g transform="translate(0 {y})"><title>{svg_text(lane.name)}{more}</title>'
            f'<text class="lane" x="4" y="15">{name}</text><line class="rule" x1="0" x2="{WIDTH}" y1="0" y2="0"/>'
            f"{''.join(lane.bars)}</g>"
        )
        y += lane.height
    left = len(run.subject.recorded.processes) - _LANES_MAX
    if left > 0:
        parts.append(f'<text class="lane" x="4" y="{y + 14}">… and {left} more agents</text>')
        y += 20
    return (
        f'<svg class="timeline" viewBox="0 0 {WIDTH} {y + 4}" width="100%" role="group" '
        f'aria-label="Timeline of {format_duration(whole)}">{"".join(parts)}</svg>'
    )


def _draw(lane: _Lane, span: Span, run: LoadedRun, links: Links, how: tuple[float, Cutter]) -> None:
    scale, cutter = how
    start, end = interval_of(span, run.end_ns)
    x = _LEFT + max(start - run.start_ns, 0) * scale
    width = max((end - start) * scale, _LEAST)
    failed = is_failing(span)
    row = next((number for number, until in enumerate(lane.rows) if until <= start), None)
    if row is None and len(lane.rows) < _ROWS_MAX:
        lane.rows.append(0)
        lane.drawn.append(0.0)
        row = len(lane.rows) - 1
    if row is None:
        row = _ROWS_MAX - 1
    lane.rows[row] = max(lane.rows[row], end)
    if x + width < lane.drawn[row] + _LEAST and not failed:
        lane.hidden += 1  # what stands there covers it
        return
    lane.drawn[row] = max(lane.drawn[row], x + width)
    name = model_of(span) or span.name or "?"
    kind = span.kind if span.kind in ("llm", "tool", "other") else "other"
    hover = f"{name}, {format_duration(end - start)}"
    if span.status is SpanStatus.OPEN:
        hover += ", not ended"
    if span.span_id in run.critical:
        hover += f", {format_duration(run.critical[span.span_id])} of it on the critical path"
    if failed:
        hover += f": {cutter.cut(error_message(span) or str(span.status))[0]}"
    classes = f"bar {kind}{' failed' if failed else ''}{' open' if span.status is SpanStatus.OPEN else ''}"
    room = int((width - 5) / _CHAR)
    label = f'<text x="{x + 3:.1f}" y="{row * _ROW + 15}">{svg_text(name, room)}</text>' if room >= 4 else ""
    box = (
        f'<title>{svg_text(hover)}</title><rect class="{classes}" x="{x:.2f}" y="{row * _ROW + 4}" '
        f'width="{width:.2f}" height="{_ROW - 2}" rx="2"/>{label}'
    )
    record, seq = run.record_of(span), run.seq_of(span)
    href = links.step(record, seq) if record and seq else ""
    lane.bars.append(f'<a href="{escape(href)}">{box}</a>' if href else f"<g>{box}</g>")


def _critical(run: LoadedRun, start_ns: int, scale: float, y: int) -> str:
    """What the end waited for at every instant: one band without gap or overlap."""
    parts: list[str] = []
    last: tuple[str, float, float, Span] | None = None
    for segment in run.report.result.critical_segments:
        kind = segment.span.kind if segment.span.kind in ("llm", "tool", "other") else "agent"
        x1, x2 = _LEFT + (segment.start_ns - start_ns) * scale, _LEFT + (segment.end_ns - start_ns) * scale
        if last is not None and (last[0] == kind or x2 - last[1] < 1.0):
            last = (last[0], last[1], x2, last[3])
            continue
        if last is not None:
            parts.append(_band(*last))
        last = (kind, x1, x2, segment.span)
    if last is not None:
        parts.append(_band(*last))
    return f'<g transform="translate(0 {y})"><text class="lane" x="4" y="10">critical path</text>{"".join(parts)}</g>'


def _band(kind: str, x1: float, x2: float, span: Span) -> str:
    name = {"llm": "waiting for models", "tool": "waiting for tools", "agent": "the agents' own code"}.get(kind, kind)
    return (
        f"<g><title>{svg_text(name)}: {svg_text(span.name, 80)}</title>"
        f'<rect class="path {kind}" x="{x1:.2f}" y="2" width="{max(x2 - x1, 0.3):.2f}" height="10"/></g>'
    )


def _axis(whole: int, scale: float) -> list[str]:
    step = 1
    for factor in (1, 2, 5) * 20:
        if step * factor * scale >= 110:
            step *= factor
            break
        if factor == 5:
            step *= 10
    parts = []
    at = 0
    while at <= whole:
        x = _LEFT + at * scale
        parts.append(
            f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="14" y2="10000"/>'
            f'<text class="axis" x="{x + 3:.1f}" y="11">{format_duration(at)}</text>'
        )
        at += step
    return parts
