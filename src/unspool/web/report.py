"""A run as one HTML file that needs nothing else: the pages' own templates, with style, script and data inside."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from unspool.web.banner import gaps_of
from unspool.web.blameview import MEASURES, blame_page, chains_of_run, flame_of
from unspool.web.contexts import contexts_of
from unspool.web.growthview import ContextOverTime, context_over_time
from unspool.web.inspector import StepPage, load_step
from unspool.web.links import ReportLinks
from unspool.web.prose import Cutter
from unspool.web.readers import Readers
from unspool.web.render import html, integrity, static_text
from unspool.web.shelf import LoadedRun, Shelf
from unspool.web.steps import row_of
from unspool.web.timeline import timeline_of

__all__ = ["Redactor", "Report", "make_report"]

_KEPT: Final = 200  # characters of a text in a redacted report
_WHOLE: Final = 1_000_000  # of one that is not redacted
_MASKS: Final = (
    (re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), "‹e-mail›"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"), "‹key›"),
    (re.compile(r"\b(?:sk|pk|rk|ghp|gho|ghs|glpat|xox[abprs]|AKIA|ASIA|AIza|hf)[-_]?[A-Za-z0-9][\w-]{9,}"), "‹key›"),
    (re.compile(r"(?<![\w/+])(?=[\w+/-]*\d)(?=[\w+/-]*[A-Za-z])[\w+/-]{32,}={0,2}"), "‹long token›"),
    (re.compile(r"(?<![\w.])(?:\+?\d[ -]?){10,19}(?![\w.])"), "‹number›"),
    (re.compile(r"(/home/|/Users/|\\Users\\)[^/\\\s\"']+"), r"\1‹user›"),
)


class Redactor(Cutter):
    """Keeps the beginning of each text, without what tells persons and accounts apart, and no pictures."""

    def __init__(self) -> None:
        super().__init__(_KEPT, pictures=False)

    def cut(self, text: str) -> tuple[str, int]:
        """What is kept of a text, and how many characters are not. Masks first, so that no half of a key is left."""
        masked = text[: self.limit * 20]
        for pattern, mask in _MASKS:
            masked = pattern.sub(mask, masked)
        return (masked[: self.limit], max(len(text) - self.limit, 0)) if len(text) > self.limit else (masked, 0)


@dataclass
class Report:
    """A finished report. `left_out` counts the steps that are not in it."""

    text: str
    steps: int
    left_out: int

    @property
    def size(self) -> int:
        """In bytes, as a file."""
        return len(self.text.encode("utf-8", "replace"))


def make_report(shelf: Shelf, name: str, *, full: bool = False, limit: int = 500) -> Report:
    """The report of a run or trace.

    Args:
        full: every text whole; otherwise each is cut to its beginning, with e-mail addresses, keys, long tokens,
            numbers of accounts and names of home folders masked.
        limit: steps at most, failed ones first, then from the start on; 0 for all.

    Raises:
        RecordingNotFound, AmbiguousRecordID, InvalidID, CorruptRecording: as they say.
    """
    run = shelf.run(shelf.root_of(name) if _is_recording(shelf, name) else name, carried=True)
    cutter = Cutter(_WHOLE) if full else Redactor()
    calls = [span for span in run.spans if span.kind in ("llm", "tool") and run.seq_of(span) and run.record_of(span)]
    chosen = calls
    if limit and len(calls) > limit:
        kept = {id(span) for span in sorted(calls, key=lambda one: str(one.status) == "ok")[:limit]}
        chosen = [span for span in calls if id(span) in kept]
    links = ReportLinks({(run.record_of(span), run.seq_of(span)) for span in chosen})
    chains, handled = chains_of_run(run, links)
    style, script = static_text("app.css"), static_text("app.js")
    with Readers(shelf.readers) as readers:
        blame = blame_page(run, links)
        for chain in [*chains, *handled, *blame.chains, *blame.handled]:
            chain.message = cutter.cut(chain.message)[0]
        blame.findings = [(title, cutter.cut(said)[0]) for title, said in blame.findings]
        for culprit in [*blame.retries, *blame.loops, *blame.unfinished]:
            culprit.detail = cutter.cut(culprit.detail)[0]
        text = html(
            "report.html",
            links=links,
            live="",
            view="",
            run=run,
            page_title=run.name,
            gaps=gaps_of(run, shelf, is_patient=True)[0],
            full=full,
            kept=_KEPT,
            style=style,
            script=script,
            style_hash=integrity(style),
            script_hash=integrity(script),
            summary=shelf.summary(run.records) if run.records else None,
            chains=chains,
            handled=handled,
            timeline=timeline_of(run, links, cutter),
            rows=[row_of(run, span, links, readers, _row_cutter(cutter, full)) for span in chosen],
            steps=_steps(run, links, readers, cutter),
            left_out=len(calls) - len(chosen),
            blame=blame,
            flames=[(by, flame_of(run, by)) for by in MEASURES],
            contexts=_contexts(run, shelf, links, readers, cutter),
        )
    return Report(text, len(chosen), len(calls) - len(chosen))


def _is_recording(shelf: Shelf, name: str) -> bool:
    from unspool.errors import RecordingNotFound
    from unspool.recording.address import resolve

    try:
        resolve(shelf.store, name)
    except RecordingNotFound:
        return False
    return True


def _row_cutter(cutter: Cutter, full: bool) -> Cutter:
    return Cutter(300) if full else cutter


def _steps(run: LoadedRun, links: ReportLinks, readers: Readers, cutter: Cutter) -> list[StepPage]:
    """The steps of the report, each with the messages that were new in it."""
    found = []
    for span in run.spans:
        record_id, seq = run.record_of(span), run.seq_of(span)
        reader = readers.get(record_id) if links.step(record_id, seq) else None
        if reader is not None:
            found.append(load_step(run, reader, seq, links, readers, report_cutter=cutter))
    return found


def _contexts(
    run: LoadedRun, shelf: Shelf, links: ReportLinks, readers: Readers, cutter: Cutter
) -> list[tuple[str, ContextOverTime]]:
    found = []
    for record in run.records[:20]:
        if readers.get(record.record_id) is None:
            continue
        contexts = contexts_of(shelf, record.record_id, is_patient=True).value
        page = context_over_time(contexts, links) if contexts is not None else None
        if page is not None:
            for one in page.breaks:
                one.was, one.now = cutter.cut(one.was)[0], cutter.cut(one.now)[0]
            found.append((record.intent or f"PID {record.pid}", page))
    return found
