"""What went wrong in a trace, for people: root causes first, then what never ended, loops, retries, handled errors."""

from __future__ import annotations

import re
from textwrap import wrap
from typing import Final

from unspool.cli import amounts
from unspool.cli.subjects import Subject
from unspool.cli.terminal import bold, dim, red
from unspool.durations import format_duration
from unspool.text import show_text
from unspool.trace.errors_chain import ErrorChain, error_message
from unspool.trace.names import WHERE, text_of
from unspool.trace.repeats import Loop, Retry
from unspool.trace.report import TraceReport, has_times
from unspool.trace.spans import Span, SpanStatus

__all__ = ["cause_lines", "loop_text", "one_line", "retry_text", "what_of"]

_SHOWN: Final = 3  # of each kind
_MESSAGE: Final = 160
_NAME: Final = 50
_EXCEPTION: Final = re.compile(r"[\w.]+(?:Error|Exception|Exit|Interrupt|Group)\b")
_RULE: Final = re.compile(r"([=_~*#-])(?: ?\1){3,}")


def cause_lines(
    subject: Subject, report: TraceReport, *, color: bool, width: int | None, everything: bool = False
) -> list[str]:
    """The lines, each block after an empty one; one line if nothing went wrong.

    Args:
        everything: all of them, not only the first few of each kind.
    """
    limit = 1_000_000 if everything else _SHOWN
    blocks = [
        _chains(subject, report, limit, color),
        _unfinished(subject, report, limit, color),
        _block("Loops", [loop_text(subject, one) for one in report.loops], limit, color),
        _block("Retried", [retry_text(subject, one) for one in report.retries], limit, color),
        _block("Handled errors", [_handled(subject, one) for one in report.handled], limit, color),
    ]
    lines = [line for block in blocks if block for line in ("", *block)]
    if not blocks[0] and not blocks[1] and (everything or not lines):
        calm = "Nothing failed for good." if report.result.summary.error_spans else "Nothing failed."
        lines = ["", calm, *lines]
    return [part for line in lines for part in _folded(line, width, color)]


def _folded(line: str, width: int | None, color: bool) -> list[str]:
    """A line on as many lines as it needs, the later ones indented; escapes of colour do not count."""
    if width is None or len(line) <= width or (color and line.startswith("\x1b")):
        return [line]
    indent = len(line) - len(line.lstrip()) + 4
    return wrap(line, width, subsequent_indent=" " * indent, break_long_words=False, drop_whitespace=True)


def _chains(subject: Subject, report: TraceReport, limit: int, color: bool) -> list[str]:
    chains = report.result.error_chains
    if not chains:
        return []
    lines = [bold("Root cause" if len(chains) == 1 else f"Root causes ({len(chains)})", color)]
    for chain in chains[:limit]:
        cause = chain.root_cause
        lines.append(red(f"  ✗ {what_of(cause)}: {_message(cause)}", color))
        if place := _place(subject, cause):
            lines.append(dim(f"      {place}", color))
        above = list(chain.path)[1:]
        if above:
            names = " → ".join(show_text(span.name, _NAME) for span in above[:4])
            more = f" → … {len(above) - 4} more" if len(above) > 4 else ""
            lines.append(f"      made fail: {names}{more}")
    return [*lines, *_more(chains, limit)]


def _handled(subject: Subject, chain: ErrorChain) -> str:
    cause = chain.root_cause
    by = f", handled by {show_text(chain.handled_by.name, _NAME)}" if chain.handled_by is not None else ""
    return f"{what_of(cause)}: {_message(cause)}{by}{_at(subject, cause)}"


def _unfinished(subject: Subject, report: TraceReport, limit: int, color: bool) -> list[str]:
    spans = report.unfinished
    if not spans:
        return []
    alive = any(not span.end_time_ns for span in spans)
    title = "Still running" if alive else "Never ended: the process was killed here"
    lines = [bold(title, color)]
    until = report.tree.metadata.end_time_ns
    known = {one.agent.pid for one in subject.recorded.processes if one.reader.metadata.end_time is not None}
    for span in spans[:limit]:
        lasted = format_duration((span.end_time_ns or until) - span.start_time_ns)
        open_for = f", for {lasted}" if not span.end_time_ns or span.pid in known else f", for at least {lasted}"
        lines.append(f"  ◌ {what_of(span)}{open_for if report.has_times else ''}")
        if place := _place(subject, span):
            lines.append(dim(f"      {place}", color))
    return [*lines, *_more(spans, limit)]


def loop_text(subject: Subject, loop: Loop) -> str:
    """`search ×7 with the same arguments and results: 12.3s, 4 model tokens, $0.42 after the first (12@31)`."""
    names = " → ".join(show_text(span.name, _NAME) for span in loop.spans[: loop.period])
    same = "the same arguments and results" if loop.same_results else "the same arguments"
    how = "" if loop.consecutive else ", with other calls in between"
    cost = [format_duration(loop.wasted)] if has_times(subject.tree) else []
    if loop.tokens:
        cost.append(f"{amounts.tokens(loop.tokens)} tokens")
    if loop.cost_usd is not None:
        cost.append(amounts.cost(loop.cost_usd))
    lost = f": {', '.join(cost)} after the first" if cost else ""
    return f"{names} ×{loop.rounds} with {same}{how}{lost}{_at(subject, loop.spans[0])}"


def retry_text(subject: Subject, retry: Retry) -> str:
    """`gpt-5: 429 Too Many Requests ×3, then ok, after 1.20s (12@24)`."""
    failures = retry.failures
    last = retry.attempts[-1]
    ending = "then still open" if last.status is SpanStatus.OPEN else "then ok" if retry.succeeded else "and never ok"
    times = f" ×{len(failures)}" if len(failures) > 1 or not retry.succeeded else ""
    lost = f", {format_duration(retry.lost)} lost" if retry.lost and has_times(subject.tree) else ""
    return f"{what_of(failures[0])}: {_message(failures[0])}{times}, {ending}{lost}{_at(subject, failures[0])}"


def _block(title: str, texts: list[str], limit: int, color: bool) -> list[str]:
    if not texts:
        return []
    return [bold(title, color), *(f"  {text}" for text in texts[:limit]), *_more(texts, limit)]


def _more(items: object, limit: int) -> list[str]:
    count = len(items) - limit  # type: ignore[arg-type]  # a list of any kind
    return [f"  … and {count} more: --by errors"] if count > 0 else []


def what_of(span: Span) -> str:
    """`tool search`, `model call gpt-5`."""
    kinds = {"llm": "model call", "tool": "tool", "agent": "agent"}
    return f"{kinds.get(span.kind, '')} {show_text(span.name, _NAME)}".strip()


def one_line(message: str) -> str:
    """What an error says, on one line: of a traceback the line that names the exception, of a drawn rule a bit."""
    lines = [line for line in message.splitlines() if line.strip()]
    if lines and lines[0].startswith("Traceback (most recent call last)"):
        lines = [next((line for line in reversed(lines) if _EXCEPTION.match(line)), lines[-1])]
    return _RULE.sub(r"\1\1\1", " ".join(" ".join(lines).split()))


def _message(span: Span) -> str:
    return show_text(one_line(error_message(span)) or f"ended with {span.status}", _MESSAGE)


def _place(subject: Subject, span: Span) -> str:
    parts = [subject.short_place_of(span), show_text(text_of(span, WHERE))]
    return "  ".join(part for part in parts if part)


def _at(subject: Subject, span: Span) -> str:
    place = subject.short_place_of(span)
    return f"  {place}" if "@" in place else ""
