"""Traces as text for people. Pure functions; no analysis happens here, and everything a span says is escaped.

Time and length are linear in what is shown: deep trees are indented up to a limit, long paths and chains are shortened
in their middle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final

from unspool.durations import format_duration
from unspool.text import cut, escape_controls, show_text
from unspool.trace.blame import BlameEntry, BlameResult
from unspool.trace.errors_chain import ErrorChain, error_message
from unspool.trace.spans import Span, SpanStatus, is_failing
from unspool.trace.storage import TraceSummary
from unspool.trace.tree import SpanTree

__all__ = ["format_blame_result", "format_trace_list", "format_trace_tree"]

RED, YELLOW, CYAN, GRAY, BOLD, RESET = "\x1b[91m", "\x1b[33m", "\x1b[36m", "\x1b[90m", "\x1b[1m", "\x1b[0m"
_STATUS_COLORS: Final = {SpanStatus.ERROR: RED, SpanStatus.TIMEOUT: YELLOW, SpanStatus.OPEN: CYAN}

_ID_LIMIT = 32
_NAME_LIMIT = 80  # intents are prose; this much tells which span it is
_MESSAGE_LIMIT = 200
_INDENT_LIMIT = 24  # levels that are indented; deeper ones show their depth as a number
_PATH_LIMIT = 30  # spans of a critical path or of one chain
_CHAIN_LIMIT = 10  # chains of one list


def format_trace_list(summaries: Iterable[TraceSummary] | None, color: bool = False) -> str:
    """A table of traces, one line each. No final newline."""
    rows = [
        f"{escape_controls(one.trace_id)[:_ID_LIMIT]:<34}{one.span_count:>5}  {format_duration(one.total_duration):>10}"
        f"  {_when(one.start_time):<20}  {show_text(one.root_span_name, _NAME_LIMIT)}".rstrip()
        for one in summaries or ()
    ]
    if not rows:
        return "No traces found."
    header = f"{'TRACE ID':<34}{'SPANS':>5}  {'DURATION':>10}  {'STARTED':<20}  ROOT"
    return "\n".join((_in(BOLD, header, color), "─" * 70, *rows))


def format_trace_tree(tree: SpanTree | None, verbose: bool = False, color: bool = False) -> str:
    """The spans of a trace, one line each, below the totals; remarks on damage at the end. No final newline.

    The duration of an unfinished span is what is known of it so far, marked with `+`.

    Args:
        verbose: a second line for each span, with ids, counts, kind, cost and start; names and remarks in full.
    """
    if tree is None or tree.root is None:  # the latter in a tree made by hand
        return "No spans found for this trace."
    metadata = tree.metadata
    head = (
        f"Trace: {escape_controls(tree.trace_id)}  |  {metadata.total_spans} spans  |  "
        f"{format_duration(metadata.total_duration)}  |  {metadata.total_tokens} tokens"
    )
    if metadata.total_cost_usd is not None:
        head += f"  |  {_dollars(metadata.total_cost_usd)}"
    lines = [_in(BOLD, head, color), ""]
    columns: list[str] = []  # for each ancestor below the root, whether its line goes on
    left = [1]  # for each level, siblings still to come
    for node, depth in tree.walk():
        del left[depth + 1 :]
        left[depth] -= 1
        del columns[max(depth - 1, 0) :]
        is_last = left[depth] == 0
        indent = _indent(columns)
        branch = "┌─ " if depth == 0 else "└─ " if is_last else "├─ "
        lines.append(indent + branch + _tree_line(node.span, metadata.end_time_ns, verbose, color))
        if depth:
            columns.append("   " if is_last else "│  ")
        if verbose:
            lines.append(f"{_indent(columns)}   {_in(GRAY, _detail(node.span), color)}")
        left.append(len(node.children))
    if tree.notes:
        lines += ["", *(_in(YELLOW, f"Note: {escape_controls(note)}", color) for note in tree.notes)]
    return "\n".join(lines)


def format_blame_result(result: BlameResult | None, color: bool = False) -> str:
    """The report on a trace: where its time, tokens and cost went, and where its errors began. No final newline."""
    if result is None:
        return "No blame data available."
    summary = result.summary
    head = f"Blame: {escape_controls(result.trace_id)}  |  {summary.total_spans} spans"
    if summary.error_spans:
        head += f"  |  {summary.error_spans} errors"
    lines = [_in(BOLD, head, color), ""]
    lines.append(_in(BOLD, f"Critical Path ({summary.critical_path_pct:.1f}% of total):", color))
    lines += _critical_lines(result, color)
    lines.append(f"  Total: {format_duration(result.critical_duration)} / {format_duration(summary.total_duration)}")
    lines += _hotspot_lines("Duration Hotspots (self time):", result.duration_hotspots, _self_time, color)
    lines += _hotspot_lines("Token Hotspots:", result.token_hotspots, _tokens, color)
    if result.cost_hotspots:
        lines += _hotspot_lines("Cost Hotspots:", result.cost_hotspots, _cost, color)
    if result.error_chains:
        lines += ["", _in(BOLD, "Error Chains:", color), *_chain_lines(result.error_chains, color)]
    if result.handled_errors:
        lines += ["", _in(BOLD, "Handled Errors:", color), *_chain_lines(result.handled_errors, color)]
    return "\n".join(lines)


# --- parts of a line -------------------------------------------------------------------------------------------------


def _in(code: str, text: str, color: bool) -> str:
    return f"{code}{text}{RESET}" if color and text else text


def _label(span: Span, *, whole: bool = False) -> str:
    name = escape_controls(span.name) if whole else show_text(span.name, _NAME_LIMIT)
    return name if span.synthetic else f"{name} (PID {span.pid})"


def _status(span: Span, color: bool) -> str:
    if span.synthetic:
        return ""
    return _in(_STATUS_COLORS.get(span.status, ""), str(span.status), color and span.status in _STATUS_COLORS)


def _token_count(span: Span) -> str:
    return f"{'?' if span.tokens_used is None else span.tokens_used} tok"


def _dollars(amount: float) -> str:
    """Four decimals: a single model call costs parts of a cent."""
    return f"${amount:.4f}"


def _when(instant: datetime | None) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ") if instant is not None else "-"


# --- tree ------------------------------------------------------------------------------------------------------------


def _indent(columns: list[str]) -> str:
    hidden = len(columns) - _INDENT_LIMIT
    # The full prefix of a chain of n spans takes n² characters.
    return "".join(columns) if hidden <= 0 else f"[{len(columns) + 1}] {''.join(columns[-_INDENT_LIMIT:])}"


def _tree_line(span: Span, end_ns: int, verbose: bool, color: bool) -> str:
    tokens = "" if span.synthetic else _token_count(span)
    line = f"{_label(span, whole=verbose):<35}  {_shown_duration(span, end_ns):>8}  {tokens:>7}  {_status(span, color)}"
    return line.rstrip()


def _shown_duration(span: Span, end_ns: int) -> str:
    if span.status is SpanStatus.OPEN and not span.end_time_ns:
        return f"{format_duration(max(end_ns - span.start_time_ns, 0))}+"
    return format_duration(span.duration)


def _detail(span: Span) -> str:
    start = span.start_time
    parts = [
        f"SpanID: {escape_controls(span.span_id)}",
        f"Parent: {escape_controls(span.parent_span_id or '') or '-'}",
        f"Syscalls: {span.syscall_count}",
        f"Start: {start.isoformat().replace('+00:00', 'Z') if start is not None else '-'}",
        f"Kind: {escape_controls(span.kind)}",
    ]
    if span.cost_usd is not None:
        parts.append(f"Cost: {_dollars(span.cost_usd)}")
    if is_failing(span) and (message := error_message(span)):
        parts.append(f"Error: {escape_controls(message)}")
    return "  ".join(parts)


# --- blame -----------------------------------------------------------------------------------------------------------


def _critical_lines(result: BlameResult, color: bool) -> list[str]:
    # A result made by hand may have no segments.
    times = (
        result.critical_times() if result.critical_segments else [node.span.duration for node in result.critical_path]
    )
    proven = {id(part.span) for part in result.critical_segments if part.proven}
    order = range(len(times))
    kept = set(order if len(times) <= _PATH_LIMIT else sorted(order, key=lambda at: (-times[at], at))[:_PATH_LIMIT])
    kept |= {0} if times else set()
    lines: list[str] = []
    skipped = skipped_ns = 0
    for at, (node, time_ns) in enumerate(zip(result.critical_path, times, strict=True)):
        if at not in kept:
            skipped, skipped_ns = skipped + 1, skipped_ns + time_ns
            continue
        if skipped:
            lines.append(f"    … {skipped} more, {format_duration(skipped_ns)}")
            skipped = skipped_ns = 0
        line = f"  → {_label(node.span):<35}  {format_duration(time_ns):>8}"
        if not node.span.synthetic:
            line += f"  {_token_count(node.span):>7}"
        lines.append(line + ("  (needed the result of the span before)" if id(node.span) in proven else ""))
    if skipped:
        lines.append(f"    … {skipped} more, {format_duration(skipped_ns)}")
    return lines


def _self_time(entry: BlameEntry) -> str:
    return format_duration(entry.self_time or entry.span.duration)  # 0 only in an entry made by hand


def _tokens(entry: BlameEntry) -> str:
    return _token_count(entry.span)


def _cost(entry: BlameEntry) -> str:
    return _dollars(entry.span.cost_usd or 0.0)


def _hotspot_lines(title: str, entries: list[BlameEntry], shown: Callable[[BlameEntry], str], color: bool) -> list[str]:
    lines = ["", _in(BOLD, title, color)]
    lines += [
        f"  #{entry.rank}  {_label(entry.span):<35}  {shown(entry):>8}  {entry.percentage:5.1f}%" for entry in entries
    ]
    return lines if entries else [*lines, "  none"]


def _chain_lines(chains: Sequence[ErrorChain], color: bool) -> list[str]:
    lines: list[str] = []
    for number, chain in enumerate(chains[:_CHAIN_LIMIT], 1):
        lines.append(f"  Chain {number}:")
        length = len(chain.path)
        for at, span in enumerate(chain.path):
            if length > _PATH_LIMIT and _PATH_LIMIT // 2 <= at < length - _PATH_LIMIT // 2:
                if at == _PATH_LIMIT // 2:
                    lines.append(f"    … {length - _PATH_LIMIT // 2 * 2} more")
                continue
            mark = "✗" if is_failing(span) else "↑"
            line = f"    {mark} {_label(span)}  {format_duration(span.duration)}  {span.status}"
            if span is chain.root_cause:
                line += "  [ROOT CAUSE]"
            if message := error_message(span):
                line += f"  {cut(escape_controls(message[: _MESSAGE_LIMIT + 1]), _MESSAGE_LIMIT)}"
            lines.append(_in(RED, line, color and is_failing(span)))
        if chain.handled_by is not None:
            lines.append(f"    ↑ {_label(chain.handled_by)}  {chain.handled_by.status}  (handled here)")
    if len(chains) > _CHAIN_LIMIT:
        lines.append(f"  … {len(chains) - _CHAIN_LIMIT} more chains")
    return lines
