"""A trace as a tree whose lines have bars on one axis of time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from unspool.cli import amounts
from unspool.cli.table import clip, display_width
from unspool.cli.terminal import bold, dim, red
from unspool.durations import format_duration
from unspool.text import show_text
from unspool.trace.blame import BlameResult
from unspool.trace.names import model_of
from unspool.trace.report import has_times
from unspool.trace.spans import Span, SpanStatus, interval_of, is_failing
from unspool.trace.tree import SpanNode, SpanTree

__all__ = ["Least", "timeline_text"]

_NARROW: Final = 100  # columns, where no terminal says how many there are
_BAR_LEAST: Final = 16
_ID_MAX: Final = 16
_INDENT_MAX: Final = 12  # levels that are indented
_UNITS: Final = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000}
_LEAST: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ns|us|µs|ms|s|m|%)")


@dataclass(frozen=True)
class Least:
    """A shortest duration: so many nanoseconds, or a share of the whole."""

    nanoseconds: int = 0
    share: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Least:
        """From `250ms`, `1.5s`, `2%`.

        Raises:
            ValueError: it is none of these.
        """
        match = _LEAST.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is no duration: write 250ms, 1.5s or 2%")
        number = float(match[1])
        return cls(share=number / 100) if match[2] == "%" else cls(nanoseconds=round(number * _UNITS[match[2]]))

    def of(self, whole: int) -> float:
        """The shortest duration in a trace of this length, in nanoseconds."""
        return max(self.nanoseconds, self.share * whole)


@dataclass
class _Line:
    node: SpanNode
    depth: int
    start: int
    end: int
    lead: str = ""
    hidden: int = 0  # spans below it that have no line


def timeline_text(
    tree: SpanTree,
    result: BlameResult,
    *,
    only_critical: bool = False,
    depth: int | None = None,
    least: Least | None = None,
    limit: int = 0,
    color: bool = False,
    width: int | None = None,
) -> str:
    """The tree with its bars, below the totals. No final newline.

    Where no times are known there are neither durations nor bars, and no critical path.

    Args:
        depth: levels below the root that are shown.
        limit: lines at most; the shortest spans give way, but none whose children stay.
    """
    metadata = tree.metadata
    is_timed = has_times(tree)
    asked_critical, only_critical = only_critical, only_critical and is_timed
    least = least if is_timed else None
    on_path = dict(zip((node.span.span_id for node in result.critical_path), result.critical_times(), strict=True))
    critical_ids = _around_path(tree, on_path)
    shortest = least.of(metadata.total_duration) if least else 0
    lines = _lines(tree, critical_ids if only_critical else None, depth, shortest)
    if limit and len(lines) > limit:
        lines = _longest(lines, limit)
    _draw_branches(lines)
    columns = width or _NARROW
    amounts_of = [
        _amounts(line.node.span, line.start, line.end, on_path if only_critical else None)
        if is_timed
        else _tokens(line.node.span)
        for line in lines
    ]
    amount_width = max(map(len, amounts_of), default=0)
    names = [_label(line) for line in lines]
    name_width = min(max(map(display_width, names), default=0), max(columns - amount_width - _BAR_LEAST - 4, 16))
    bar_width = max(min(columns - name_width - amount_width - 4, 80), 8)
    begin, end = metadata.start_time_ns, max(metadata.end_time_ns, metadata.start_time_ns + 1)
    out = [bold(_head(tree), color)]
    out += [_axis(name_width + amount_width + 4, bar_width, end - begin, color)] if is_timed else []
    for line, name, amount in zip(lines, names, amounts_of, strict=True):
        span = line.node.span
        text = clip(name, name_width)
        padded = text + " " * (name_width - display_width(text))
        critical = span.span_id in critical_ids
        bar = ""
        if is_timed:
            bar = _bar(line.start - begin, line.end - begin, end - begin, bar_width, full=critical)
        shown = red(padded, color) if is_failing(span) else bold(padded, color and critical)
        drawn = bar if critical or not bar else dim(bar, color)
        out.append(f"{shown}  {amount:>{amount_width}}  {drawn}".rstrip())
    if only_critical:
        total = sum(on_path.values())
        out.append(f"The parts sum to {format_duration(total)}, the whole duration.")
    elif asked_critical:
        out.append("No times are known, so there is no critical path: this is all of it.")
    total_hidden = metadata.total_spans - sum(not line.node.span.synthetic for line in lines)
    if total_hidden > 0:
        out.append(f"{amounts.counted(total_hidden, 'span')} not shown.")
    out += [f"Note: {show_text(note)}" for note in tree.notes]
    return "\n".join(out)


def _head(tree: SpanTree) -> str:
    metadata = tree.metadata
    spans = [node.span for node, _ in tree.walk()]
    unknown = sum(span.kind == "llm" and span.tokens_used is None for span in spans)
    unpriced = unknown + sum(bool(span.tokens_used) and span.cost_usd is None for span in spans)
    dollars = amounts.cost(metadata.total_cost_usd, more=unpriced > 0)
    cost = f", {dollars}" if metadata.total_cost_usd is not None else ""
    errors = f", {amounts.counted(metadata.error_count, 'error')}" if metadata.error_count else ""
    return (
        f"Trace {show_text(tree.trace_id)[:_ID_MAX]}: {amounts.counted(metadata.total_spans, 'span')}, "
        f"{format_duration(metadata.total_duration) if has_times(tree) else 'no times'}, "
        f"{amounts.token_sum(metadata.total_tokens, unknown)}{cost}{errors}"
    )


def _lines(tree: SpanTree, only: set[str] | None, depth: int | None, least: float) -> list[_Line]:
    """The spans that have a line; what is left out is counted at the nearest one above."""
    until = tree.metadata.end_time_ns
    lines: list[_Line] = []
    around: list[_Line] = []  # lines of the spans around the current one, by depth
    hidden_below: int | None = None  # everything deeper than this is left out
    for node, level in tree.walk():
        if hidden_below is not None and level > hidden_below:
            around[-1].hidden += 1
            continue
        hidden_below = None
        span = node.span
        start, end = interval_of(span, until)
        del around[level:]
        if level and (
            (depth is not None and level > depth)
            or end - start < least
            or (only is not None and span.span_id not in only)
        ):
            around[-1].hidden += 1
            hidden_below = level
            continue
        line = _Line(node, level, start, end)
        around.append(line)
        lines.append(line)
    return lines


def _around_path(tree: SpanTree, on_path: dict[str, int]) -> set[str]:
    """Ids of the spans that are on the critical path, or have one below them that is."""
    found: set[str] = set()
    around: list[str] = []
    for node, level in tree.walk():
        del around[level:]
        around.append(node.span.span_id)
        if on_path.get(node.span.span_id):
            for span_id in reversed(around):
                if span_id in found:
                    break
                found.add(span_id)
    return found


def _longest(lines: list[_Line], limit: int) -> list[_Line]:
    """So many lines, the longest spans and what is around them."""
    order = sorted(range(len(lines)), key=lambda at: (-(lines[at].end - lines[at].start), at))
    parents: list[int] = []
    stack: list[int] = []
    for at, line in enumerate(lines):
        del stack[line.depth :]
        parents.append(stack[-1] if stack else -1)
        stack.append(at)
    kept: set[int] = set()
    for at in order:
        missing = []
        up = at
        while up >= 0 and up not in kept:
            missing.append(up)
            up = parents[up]
        if len(kept) + len(missing) <= limit:
            kept.update(missing)
        if len(kept) >= limit:
            break
    for at in range(len(lines) - 1, -1, -1):
        if at not in kept and parents[at] >= 0:
            lines[parents[at]].hidden += 1 + lines[at].hidden
    return [lines[at] for at in sorted(kept)]


def _draw_branches(lines: list[_Line]) -> None:
    """The lines of the tree in front of each name, found from the end: only then it is known which is the last."""
    following: set[int] = set()  # levels on which another line follows
    for line in reversed(lines):
        following = {level for level in following if level <= line.depth}
        if line.depth:
            columns = ["│ " if level in following else "  " for level in range(1, line.depth)]
            folded = "" if line.depth <= _INDENT_MAX else f"[{line.depth}] "
            branch = "├ " if line.depth in following else "└ "
            line.lead = folded + "".join(columns[-_INDENT_MAX:]) + branch
        following.add(line.depth)


def _label(line: _Line) -> str:
    span = line.node.span
    mark = "✗ " if is_failing(span) else "◌ " if span.status is SpanStatus.OPEN else ""
    pid = f" (PID {span.pid})" if span.kind == "agent" and span.pid else ""
    more = f" +{line.hidden}" if line.hidden else ""
    return f"{line.lead}{mark}{show_text(model_of(span) or span.name, 60)}{pid}{more}"


def _amounts(span: Span, start: int, end: int, on_path: dict[str, int] | None) -> str:
    lasted = on_path.get(span.span_id, 0) if on_path is not None else end - start
    # What was cut off with its process has an end all the same, where that of the process is known.
    text = format_duration(lasted) + ("+" if span.status is SpanStatus.OPEN and not span.end_time_ns else "")
    return f"{text:>8}" + (_tokens(span) or " " * 7)


def _tokens(span: Span) -> str:
    return f" {amounts.tokens(span.tokens_used):>6}" if span.kind == "llm" else ""


def _axis(offset: int, bar_width: int, whole: int, color: bool) -> str:
    """`0` and the end of the axis above the bars."""
    right = format_duration(whole)
    middle = format_duration(whole // 2) if bar_width >= 40 else ""
    half = bar_width // 2
    text = "0".ljust(half - len(middle) // 2) + middle
    return dim(" " * offset + text.ljust(bar_width - len(right)) + right, color)


def _bar(start: int, end: int, whole: int, width: int, *, full: bool) -> str:
    """A bar of at least a sliver, to an eighth of a column at its end."""
    left, right = start * width / whole, end * width / whole
    first = min(max(int(left), 0), width - 1)
    # The beginning is cut to a column, the length is not: it is what one compares.
    count, eighths = divmod(max(round((right - left) * 8), 1), 8)
    block = "█" if full else "░"
    if count == 0 and not full:
        return " " * first + "┊"
    partial = "▏▎▍▌▋▊▉"[eighths - 1] if full and eighths and first + count < width else ""
    return " " * first + block * min(count, width - first) + partial
