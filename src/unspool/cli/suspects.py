"""The steps of a run to look at first if its outcome is wrong: a section of `unspool blame`."""

from __future__ import annotations

from textwrap import wrap
from typing import Any, Final

from unspool.cli.causes import what_of
from unspool.cli.subjects import Subject
from unspool.cli.terminal import bold, dim
from unspool.text import show_text
from unspool.trace.names import CALL, STEP, count_of
from unspool.trace.report import TraceReport
from unspool.trace.spans import Span
from unspool.trace.suspects import Turn
from unspool.trace.turns import suspect_steps

__all__ = ["suspect_lines", "suspects_json"]

_SHOWN: Final = 5
_NAME: Final = 40
_ASKS: Final = 3


def suspect_lines(
    subject: Subject, report: TraceReport, *, color: bool, width: int | None, asked: bool = False
) -> list[str]:
    """The section, after an empty line; nothing for a run that did not fail, unless `asked` for."""
    has_failed = bool(report.result.error_chains)
    found = suspect_steps(subject.recorded)[:_SHOWN] if has_failed or asked else []
    if not found:
        return []
    title = "Suspect steps" if has_failed else "Suspect steps, if the outcome is wrong"
    lines = ["", f"{bold(title, color)} (ranked by what rests on what; no proof)"]
    for rank, (span, turn, suspect) in enumerate(found, 1):
        text = f"  {rank}. {_step(subject, span, turn)}: {'; '.join(suspect.reasons) or 'it came early'}"
        lines += wrap(text, width, subsequent_indent=" " * 5, break_long_words=False) if width is not None else [text]
    root = subject.recorded.processes[0].reader.metadata
    if root.command is None:  # imported: there is nothing to run again
        return lines
    return [*lines, dim(f"     Find the one that decided it: unspool bisect {root.pid} --check CMD", color)]


def _step(subject: Subject, span: Span, turn: Turn) -> str:
    """`call 5 of helper (12@19), asking for search`."""
    call = count_of(span, CALL)
    number = f"call {call}" if call is not None else what_of(span)
    agents = len(subject.recorded.processes)
    who = f" of {show_text(turn.speaker, _NAME)}" if agents > 1 else ""
    place = subject.short_place_of(span)
    where = f" ({place})" if "@" in place else ""
    asked = ", ".join(show_text(name, _NAME) for name in turn.asks[:_ASKS]) + (", …" if len(turn.asks) > _ASKS else "")
    return f"{number}{who}{where}" + (f", asking for {asked}" if asked else "")


def suspects_json(subject: Subject) -> list[dict[str, Any]]:
    """All of them, whether the run failed or not."""
    return [
        {
            "rank": rank,
            "span_id": span.span_id,
            "name": span.name,
            "pid": span.pid,
            "agent": turn.speaker,
            "asks": turn.asks,
            "call": count_of(span, CALL),
            "step": count_of(span, STEP),
            "place": subject.place_of(span),
            "score": round(suspect.score, 4),
            "reasons": suspect.reasons,
        }
        for rank, (span, turn, suspect) in enumerate(suspect_steps(subject.recorded), 1)
    ]
