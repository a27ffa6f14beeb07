"""The steps of a run as rows: what each was asked and gave back, when, for how long, and what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from unspool.cli import amounts
from unspool.durations import format_duration
from unspool.errors import CorruptRecording, SeqNotFound
from unspool.events import LLMResponse, LLMResponseData, RecordEvent, RecordStatus
from unspool.recording.reader import RecordReader
from unspool.text import cut, display_value
from unspool.trace.errors_chain import error_message
from unspool.trace.names import CACHED, CALL, INPUT, ORIGIN, OUTPUT, RETRY, STEP, WHERE, count_of, model_of, text_of
from unspool.trace.spans import Span, SpanStatus, interval_of, is_failing
from unspool.web.links import Links
from unspool.web.prose import Cutter
from unspool.web.readers import Readers
from unspool.web.shelf import LoadedRun
from unspool.web.timeline import WHOLE, Window
from unspool.web.wholetexts import answer_of, given_of, result_of

__all__ = [
    "KINDS",
    "TEXT",
    "StepQuery",
    "StepRow",
    "StepsPage",
    "answer_line",
    "last_answer",
    "list_steps",
    "neighbours",
    "row_of",
]

PAGE: Final = 100
KINDS: Final = ("llm", "tool", "agent", "other")
TEXT: Final = 220


@dataclass
class StepQuery:
    """Which steps are wanted: kinds, only failed ones, of one process, with a name, in a window.

    `page` counts from 1; 0 is the one a person wants to see.
    """

    kinds: tuple[str, ...] = ("llm", "tool", "agent")
    errors: bool = False
    pid: int = 0
    name: str = ""
    page: int = 0
    window: Window = WHOLE
    unfolded: bool = False

    @classmethod
    def of(cls, given: Mapping[str, str]) -> StepQuery:
        """From the address of the page; what makes no sense is left out."""
        kinds = tuple(kind for kind in given.get("kinds", "").split(",") if kind in KINDS)
        return cls(
            kinds=kinds or cls.kinds,
            errors=given.get("errors", "") not in ("", "0"),
            pid=_number(given.get("pid", "")),
            name=given.get("name", ""),
            page=_number(given.get("page", "")),
            window=Window.of(given),
            unfolded=given.get("lanes", "") == "all",
        )

    def query(self, **change: Any) -> dict[str, Any]:
        """The fields of an address, with some changed."""
        kinds = "" if self.kinds == StepQuery.kinds else ",".join(self.kinds)
        now = {"kinds": kinds, "errors": "1" if self.errors else "", "pid": self.pid or "", "name": self.name}
        now |= {**self.window.query(), "lanes": "all" if self.unfolded else ""}
        if "from" in change:  # another window takes the place of this one
            now.pop("to", None)
        return {name: value for name, value in {**now, **change}.items() if value not in ("", None)}

    def wants(self, span: Span, run: LoadedRun) -> bool:
        """Whether a span is one of these. What failed is shown whatever its kind."""
        failed = is_failing(span)
        return (
            self._is_within(span, run)
            and (failed or (not self.errors and span.kind in self.kinds))
            and (not self.pid or span.pid == self.pid)
            and (not self.name or self.name.casefold() in span.name.casefold())
        )

    def _is_within(self, span: Span, run: LoadedRun) -> bool:
        if self.window.is_whole:
            return True
        first, last = self.window.within(run.end_ns - run.start_ns)
        start, end = interval_of(span, run.end_ns)
        return start - run.start_ns <= last and end - run.start_ns >= first


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


@dataclass
class StepRow:
    """One step. Durations are texts; `critical` says how long the end of the run waited for it, "" for never."""

    kind: str
    name: str
    href: str
    record_id: str
    seq_num: int
    agent: str
    lane: int
    at: str
    start_ns: int
    duration: str
    duration_ns: int
    critical: str
    status: str
    error: str
    asked: str
    said: str
    tokens: str
    cost: str
    call: int | None
    step: int | None
    origin: str
    retry: bool
    where: str
    span_id: str = ""


@dataclass
class StepsPage:
    """A page of steps. `is_tail`: what comes next belongs at its end."""

    query: StepQuery
    rows: list[StepRow]
    total: int
    pages: int
    hidden: int
    is_tail: bool = False


def list_steps(run: LoadedRun, query: StepQuery, links: Links, readers: Readers) -> StepsPage:
    """A page of the steps of a run."""
    fitting = [span for span in run.spans if query.wants(span, run)]
    pages = max(-(-len(fitting) // PAGE), 1)
    # Whoever looks at a run that goes on looks at its end, unless the address says otherwise.
    query = replace(query, page=min(query.page or (pages if run.is_live else 1), pages))
    first = (query.page - 1) * PAGE
    return StepsPage(
        query=query,
        rows=[row_of(run, span, links, readers, Cutter(TEXT)) for span in fitting[first : first + PAGE]],
        total=len(fitting),
        pages=pages,
        hidden=len(run.spans) - len(fitting),
        is_tail=run.is_live and query.page == pages and not query.query(lanes=""),
    )


def last_answer(run: LoadedRun, links: Links, readers: Readers) -> StepRow | None:
    """What the model said last to the first agent of a run that is over; None if it said nothing."""
    if run.is_live or not run.subject.recorded.processes:
        return None
    first = run.subject.recorded.processes[0].agent.pid
    calls = (span for span in reversed(run.spans) if span.kind == "llm" and span.pid == first)
    last = next((span for span in calls if run.seq_of(span) and not is_failing(span)), None)
    row = row_of(run, last, links, readers, Cutter(400)) if last is not None else None
    return row if row is not None and row.said else None


def row_of(run: LoadedRun, span: Span, links: Links, readers: Readers, cutter: Cutter) -> StepRow:
    """A step, with the beginning of what it gave back."""
    record_id, seq = run.record_of(span), run.seq_of(span)
    said = asked = ""
    reader = readers.get(record_id) if record_id and seq else None
    if reader is not None:
        try:
            asked, said = _texts(reader, span, seq)
        except (CorruptRecording, SeqNotFound):
            said = "(cannot be read)"
    end = span.end_time_ns or run.end_ns
    duration = max(end - span.start_time_ns, 0) if span.status is SpanStatus.OPEN else span.duration
    critical = run.critical.get(span.span_id, 0)
    counts = [count_of(span, INPUT), count_of(span, OUTPUT)]
    tokens = ""
    if span.kind == "llm":
        cached = count_of(span, CACHED)
        tokens = f"{amounts.tokens(counts[0])} → {amounts.tokens(counts[1])}" + (
            f" ({amounts.tokens(cached)} cached)" if cached else ""
        )
    agents = [one.agent.pid for one in run.subject.recorded.processes]
    return StepRow(
        kind=span.kind,
        name=cut(model_of(span) or span.name or "?", 160),
        href=links.step(record_id, seq) if record_id and seq else "",
        record_id=record_id,
        seq_num=seq,
        agent=_agent_name(run, span.pid),
        lane=agents.index(span.pid) if span.pid in agents else 0,
        at=f"+{format_duration(max(span.start_time_ns - run.start_ns, 0))}" if run.has_times else "",
        start_ns=max(span.start_time_ns - run.start_ns, 0),
        duration=format_duration(duration) + ("+" if span.status is SpanStatus.OPEN else "")
        if run.is_timed(span)
        else amounts.UNKNOWN,
        duration_ns=duration,
        critical=format_duration(critical) if critical and span.kind != "agent" and run.has_times else "",
        status=str(span.status),
        error=cutter.cut(error_message(span) or str(span.status))[0] if is_failing(span) else "",
        asked=cutter.cut(asked)[0],
        said=cutter.cut(said)[0],
        tokens=tokens,
        cost=amounts.cost(span.cost_usd) if span.cost_usd is not None else "",
        call=count_of(span, CALL),
        step=count_of(span, STEP),
        origin=text_of(span, ORIGIN),
        retry=bool(span.attributes.get(RETRY)),
        where=text_of(span, WHERE),
        span_id=span.span_id,
    )


def _agent_name(run: LoadedRun, pid: int) -> str:
    agents = run.subject.recorded.processes
    if len(agents) < 2 or (agents and agents[0].agent.pid == pid):
        return ""  # the first one's steps are what the page is about
    return next((one.agent.name for one in agents if one.agent.pid == pid), "")


def _texts(reader: RecordReader, span: Span, seq: int) -> tuple[str, str]:
    """What a call was asked, and what came back, on one line each."""
    event = reader.events().bare(reader.index_of(seq))
    if span.kind == "llm":
        return "", _said(reader, event, is_failing(span))
    data = reader.whole(event).syscall
    if data is None:
        return "", ""
    given, result = given_of(reader, event), result_of(reader, event)
    shown = result if isinstance(result, str) else display_value(result, TEXT)
    return display_value(given, TEXT) if given else "", "" if result is None else " ".join(shown[:2000].split())


def _said(reader: RecordReader, event: RecordEvent, has_failed: bool) -> str:
    """What the model answered; where nothing of it is left in the recording, that."""
    found = _answering(reader, event)
    if found is None:
        is_over = reader.metadata.status is not RecordStatus.RECORDING
        return "(no answer is recorded)" if is_over and not has_failed else ""
    said, missing = answer_of(reader, found)
    if missing:
        return f"(the answer is missing from the recording: {missing})"
    return "" if said is None else answer_line(said)


def answer_line(answer: LLMResponse | LLMResponseData) -> str:
    """An answer on one line: its text, and the tools it asks for."""
    pieces = [" ".join((answer.text or "")[:2000].split())]
    pieces += [f"→ {call.name}({cut(call.arguments, 120)})" for call in answer.tool_calls or ()]
    return " ".join(piece for piece in pieces if piece)


def _answering(reader: RecordReader, event: RecordEvent) -> RecordEvent | None:
    """The event with the answer of the call that an event belongs to, as it is on disk."""
    if event.llm is not None:
        return event
    for later in _after(reader, event):
        if later.llm is not None and (event.call is None or later.call == event.call):
            return later
    return None


def _after(reader: RecordReader, event: RecordEvent, most: int = 20_000) -> Iterator[RecordEvent]:
    for count, later in enumerate(reader.bare_events(reader.index_of(event.seq_num))):
        if count > most or (event.call is None and count and later.context is not None):
            return
        yield later


def neighbours(run: LoadedRun, place: int, kinds: Sequence[str] = ("llm", "tool")) -> tuple[Span | None, Span | None]:
    """The steps before and after a place among the spans."""
    before = next((s for s in reversed(run.spans[:place]) if s.kind in kinds and run.seq_of(s)), None)
    after = next((s for s in run.spans[place + 1 :] if s.kind in kinds and run.seq_of(s)), None)
    return before, after
