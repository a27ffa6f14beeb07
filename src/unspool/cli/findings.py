"""The first lines of `unspool blame`: what went wrong, what was slow and what was dear, a line each."""

from __future__ import annotations

from textwrap import wrap
from typing import Final

from unspool.cli import amounts
from unspool.cli.causes import one_line, what_of
from unspool.cli.terminal import bold, red
from unspool.durations import format_duration
from unspool.text import show_text
from unspool.trace.errors_chain import error_message
from unspool.trace.report import TraceReport
from unspool.trace.rollup import Share

__all__ = ["findings", "sentences"]

_MESSAGE: Final = 90
_TITLE: Final = 7  # columns before the text
_WORTH: Final = 0.1  # of the whole: less than this explains nothing


def findings(report: TraceReport, color: bool, width: int | None) -> list[str]:
    """`Wrong`, `Slow` and `Dear` as lines, as far as there is something to say; folded to the width."""
    lines = []
    for title, text in sentences(report):
        shown = (red if title == "Wrong" else bold)(f"{title:<5}", color)
        folded = wrap(text, width - _TITLE, break_long_words=False) if width is not None else [text]
        lines += [(" " * _TITLE if at else f"{shown}  ") + part for at, part in enumerate(folded)]
    return lines


def sentences(report: TraceReport) -> list[tuple[str, str]]:
    """The same as data: what it is about, and the sentence, whose controls are written out."""
    found = [("Wrong", _wrong(report)), ("Slow", _slow(report)), ("Dear", _dear(report))]
    return [(title, text) for title, text in found if text]


def _wrong(report: TraceReport) -> str:
    chains = report.result.error_chains
    if chains:
        cause = chains[0].root_cause
        text = f"{what_of(cause)}: {show_text(one_line(error_message(cause)) or str(cause.status), _MESSAGE)}"
        if len(chains[0].path) > 1:
            text += f", and with it {show_text(chains[0].path[-1].name, 40)}"
        return text + (f" (and {amounts.counted(len(chains) - 1, 'other error')})" if len(chains) > 1 else "")
    if report.unfinished:
        span = report.unfinished[0]
        if span.end_time_ns:
            return f"the process was killed in {what_of(span)}"
        after = f", after {format_duration(_until(report) - span.start_time_ns)}" if report.has_times else ""
        return f"{what_of(span)} has not ended{after}"
    if report.loops:
        loop = report.loops[0]
        return f"a loop: {show_text(loop.spans[0].name, 40)} ×{loop.rounds} with the same arguments"
    if report.retries:
        texts = [
            f"{what_of(one.attempts[0])}: {show_text(one_line(one.reason), _MESSAGE)}, "
            f"{'then ok' if one.succeeded else 'and never ok'}"
            for one in report.retries[:2]
        ]
        more = f" (and {len(report.retries) - 2} more)" if len(report.retries) > 2 else ""
        return f"no error lasted. {'; '.join(texts)}{more}"
    return ""


def _until(report: TraceReport) -> int:
    return report.tree.metadata.end_time_ns


def _slow(report: TraceReport) -> str:
    total = report.result.critical_duration
    if not report.has_times:
        return ""
    calls = [row for row in report.shares("call") if row.kind != "agent" and row.critical]
    if not calls or calls[0].critical < total * _WORTH:
        own = report.result.critical_duration - sum(row.critical for row in calls)
        return f"the agents' own code: {_part(own, total)}" if total and own > total * _WORTH else ""
    row = calls[0]
    times = f" in {row.calls} calls, the longest {format_duration(row.longest)}" if row.calls > 1 else ""
    return f"{_named(row)}: {_part(row.critical, total)}{times}"


def _part(part: int, total: int) -> str:
    return f"{format_duration(part)} of {format_duration(total)} ({part / total * 100:.1f}%)"


def _named(row: Share) -> str:
    words = {"llm": "model", "tool": "tool"}
    return f"{words.get(row.kind, '')} {show_text(row.name, 50)}".strip()


def _dear(report: TraceReport) -> str:
    carried, total = report.carried, report.result.summary.total_cost_usd
    if carried is None:
        return ""
    results = [one for one in carried.entries if one.producer.kind == "tool" and one.sends > 1]
    if total:
        best = max(results, key=lambda one: one.cost_usd or 0.0, default=None)
        if best is None or (best.cost_usd or 0.0) < total * _WORTH:
            return ""
        again = amounts.cost(best.carried_usd)
        share = f"{amounts.cost(best.cost_usd)} of {amounts.cost(total)} ({(best.cost_usd or 0.0) / total * 100:.1f}%)"
        return (
            f"one result of {show_text(best.producer.name, 40)}, {best.tokens:,.0f} tokens sent {best.sends} times: "
            f"{share}, {again} for sending it again"
        )
    best = max(results, key=lambda one: one.sent_tokens, default=None)
    if best is None or best.sent_tokens < carried.input_tokens * _WORTH:
        return ""
    part = best.sent_tokens / carried.input_tokens * 100
    return (
        f"one result of {show_text(best.producer.name, 40)}, {best.tokens:,.0f} tokens sent {best.sends} times: "
        f"{part:.1f}% of all input"
    )
