"""The spans of a run as lines with bars on one axis of time; choosing one leads to its event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from unspool.cli import amounts
from unspool.cli.subjects import Subject
from unspool.cli.table import clip, display_width
from unspool.durations import format_duration
from unspool.text import show_text
from unspool.trace.critical import critical_path
from unspool.trace.names import model_of
from unspool.trace.report import has_times
from unspool.trace.spans import Span, SpanStatus, interval_of, is_failing
from unspool.tui.details import Shown
from unspool.tui.pane import PaneLine

__all__ = ["Place", "SpanTable", "span_lines", "span_table"]

_LINES_MAX: Final = 20_000
_INDENT_MAX: Final = 12
_RED, _BOLD, _DIM, _RESET = "\x1b[91m", "\x1b[1m", "\x1b[90m", "\x1b[0m"


@dataclass(frozen=True)
class Place:
    """Where a span is recorded: the recording, and the number of its event (None for a process)."""

    record_id: str
    seq_num: int | None


@dataclass(frozen=True)
class _Row:
    name: str
    amount: str
    start: int
    end: int
    failed: bool
    critical: bool
    place: Place | None


@dataclass(frozen=True)
class SpanTable:
    """The spans, measured; `whole` is the duration of all in nanoseconds, 0 where no times are known."""

    rows: list[_Row]
    whole: int
    head: str
    more: int


def span_table(subject: Subject) -> SpanTable:
    """The spans of a run in the order of the tree, with what is on the critical path."""
    tree = subject.tree
    metadata = tree.metadata
    is_timed = has_times(tree)
    begin, until = metadata.start_time_ns, max(metadata.end_time_ns, metadata.start_time_ns + 1)
    segments, _ = critical_path(tree.root, until)
    critical = {segment.span.span_id for segment in segments if segment.duration}
    rows: list[_Row] = []
    more = 0
    for node, depth in tree.walk():
        if len(rows) >= _LINES_MAX:
            more += 1
            continue
        span = node.span
        start, end = interval_of(span, until)
        lead = "  " * min(depth, _INDENT_MAX) + ("" if depth <= _INDENT_MAX else f"[{depth}] ")
        record_id, _, seq = subject.place_of(span).partition("@")
        place = Place(record_id, int(seq) if seq else None) if record_id else None
        rows.append(
            _Row(
                lead + _name(span),
                _amount(span, end - start if is_timed else None),
                start - begin,
                end - begin,
                is_failing(span),
                is_timed and span.span_id in critical,
                place,
            )
        )
    unknown = sum(node.span.kind == "llm" and node.span.tokens_used is None for node, _ in tree.walk())
    cost = f", {amounts.cost(metadata.total_cost_usd)}" if metadata.total_cost_usd is not None else ""
    head = (
        f"{amounts.counted(metadata.total_spans, 'span')}, "
        f"{format_duration(metadata.total_duration) if is_timed else 'no times'}, "
        f"{amounts.token_sum(metadata.total_tokens, unknown)}{cost}, {amounts.counted(metadata.error_count, 'error')}"
    )
    return SpanTable(rows, until - begin if is_timed else 0, head, more)


def span_lines(table: SpanTable, width: int) -> Shown:
    """The lines, drawn for a width; those on the critical path are full, the others shaded."""
    amount_width = max((len(row.amount) for row in table.rows), default=0)
    longest = max((display_width(row.name) for row in table.rows), default=0)
    name_width = max(min(longest, width - amount_width - 20), 16)
    bar_width = max(width - name_width - amount_width - 3, 8)
    lines = [PaneLine(f"{_BOLD}{table.head}{_RESET}")]
    if table.whole:
        axis = format_duration(table.whole)
        offset = " " * (name_width + amount_width + 2)
        lines.append(PaneLine(f"{_DIM}{offset}0{axis:>{bar_width - 1}}{_RESET}"))
    for row in table.rows:
        name = clip(row.name, name_width)
        name += " " * (name_width - display_width(name))
        shown = f"{_RED}{name}{_RESET}" if row.failed else f"{_BOLD}{name}{_RESET}" if row.critical else name
        drawn = _bar(row, table.whole, bar_width) if table.whole else ""
        paint = _RED if row.failed else "" if row.critical else _DIM
        lines.append(
            PaneLine(f"{shown} {row.amount:>{amount_width}} {paint}{drawn}{_RESET if paint else ''}", row.place)
        )
    if table.more:
        lines.append(PaneLine(f"{_DIM}… {table.more:,} more spans: unspool trace show{_RESET}"))
    return Shown(lines)


def _name(span: Span) -> str:
    mark = "✗ " if is_failing(span) else "◌ " if span.status is SpanStatus.OPEN else ""
    pid = f" (PID {span.pid})" if span.kind == "agent" and span.pid else ""
    return f"{mark}{show_text(model_of(span) or span.name, 60)}{pid}"


def _amount(span: Span, lasted: int | None) -> str:
    text = (
        ""
        if lasted is None
        else format_duration(lasted) + ("+" if span.status is SpanStatus.OPEN and not span.end_time_ns else "")
    )
    return f"{text:>8}" + (f" {amounts.tokens(span.tokens_used):>6}" if span.kind == "llm" else " " * 7)


def _bar(row: _Row, whole: int, width: int) -> str:
    first = min(max(row.start * width // whole, 0), width - 1)
    cells = max(-(-row.end * width // whole) - first, 1)
    block = "█" if row.critical else "▒"
    if (row.end - row.start) * width < whole:
        block = "┃" if row.critical else "│"
        cells = 1
    return " " * first + block * min(cells, width - first)
