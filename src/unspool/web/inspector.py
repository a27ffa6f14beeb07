"""One step in full: the context as it was sent, the answer, what ran because of it, and the exchange itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from unspool.cli import amounts
from unspool.cli.exchanges import Exchange, exchange_of
from unspool.durations import format_duration
from unspool.errors import SeqNotFound
from unspool.events import Body, CtxMessage, HttpRequest, HttpResponse, RecordEvent
from unspool.recording.reader import RecordReader
from unspool.text import cut, display_value, dump_json
from unspool.trace.names import CALL, count_of
from unspool.trace.spans import Span
from unspool.web.aftermath import aftermath
from unspool.web.forkable import why_no_fork
from unspool.web.links import Links
from unspool.web.prose import Cutter, Piece, ShownCall, ShownMessage, pieces_of, pretty, shown_calls, shown_messages
from unspool.web.readers import Readers
from unspool.web.shelf import LoadedRun
from unspool.web.steps import StepRow, neighbours, row_of
from unspool.web.wholetexts import Found, answer_of, find_places, given_of, messages_of, result_of

__all__ = ["Answer", "Half", "StepPage", "load_step", "span_of"]

_EARLIER: Final = 2_000  # characters of a message that the call before sent too
_NEW: Final = 20_000
_RAW_MAX: Final = 40_000  # characters of a body on the page
_TOOL: Final = 3_000  # characters of a tool's description, and of its schema
_PARAM: Final = 200  # characters of a parameter
_OLD_SHOWN: Final = 60  # older messages on the page
_AROUND: Final = 20  # before and after an older message that was asked for


@dataclass
class Answer:
    """What the model said; `missing` is why there is nothing of it, where the recording has lost it."""

    pieces: list[Piece]
    calls: list[ShownCall]
    reasoning: list[Piece]
    left_out: int = 0
    finish_reason: str = ""
    model: str = ""
    error: str = ""
    partial: str = ""
    reasoning_left_out: int = 0
    missing: str = ""


@dataclass
class Half:
    """A request or a response: its first line, its headers, its body as text, laid out if it is JSON."""

    title: str
    headers: list[tuple[str, str]]
    size: str
    text: str
    left_out: int
    missing: str
    facts: list[str] = field(default_factory=list)
    has_bytes: bool = False


@dataclass
class StepPage:
    """A step.

    `messages` are those on the page, `unsent` how many older ones are not; `ran` the tools that ran on this answer;
    `came` the steps that the result or the failure led to; `asked_by` is the model call a tool ran for. `cut` is how
    many characters of a text, by its name, are not on the page; `whole` where whole texts are, "" if nowhere. `found`
    are the places of a text that was looked for; `why_no_fork` says why no fork can be made here, "" if one can.
    """

    run: LoadedRun
    row: StepRow
    record_id: str
    seq_num: int
    snapshot_seq: int | None
    kind: str
    title: str
    facts: list[tuple[str, str]]
    system: list[Piece]
    system_length: int
    system_brief: str
    tools: list[tuple[str, str, str]]
    params: list[tuple[str, str]]
    messages: list[ShownMessage]
    folded: int
    unsent: int
    total_messages: int
    partial: str
    answer: Answer | None
    given: list[Piece]
    result: list[Piece]
    error: str
    ran: list[StepRow]
    came: list[StepRow]
    request: Half | None
    response: Half | None
    event_json: str
    before: str
    after: str
    before_seq: int | None = None
    asked_by: tuple[str, str] | None = None
    cut: dict[str, int] = field(default_factory=dict)
    whole: str = ""
    wanted: str = ""
    found: list[Found] = field(default_factory=list)
    why_no_fork: str = ""


def span_of(run: LoadedRun, record_id: str, event: RecordEvent, exchange: Exchange) -> Span | None:
    """The span an event belongs to."""
    for one in (exchange.syscall, event, exchange.answer, exchange.snapshot):
        if one is not None and (place := run.places.get((record_id, one.seq_num))) is not None:
            return run.spans[place]
    return None


def load_step(
    run: LoadedRun,
    reader: RecordReader,
    seq_num: int,
    links: Links,
    readers: Readers,
    *,
    report_cutter: Cutter | None = None,
    message: int = 0,
    wanted: str = "",
) -> StepPage:
    """The step an event is of.

    Args:
        report_cutter: shortens every text; without it each as a page may hold of its kind.
        message: the number of one that must be on the page, with those around it.
        wanted: a text that was looked for, whose places are shown.

    Raises:
        SeqNotFound: there is no such event.
    """
    event = reader.event(seq_num)
    exchange = exchange_of(reader, event)
    span = span_of(run, reader.record_id, event, exchange)
    snapshot = exchange.snapshot
    row = (
        row_of(run, span, links, readers, report_cutter or Cutter(400))
        if span is not None
        else _bare_row(run, reader, event)
    )
    place = run.places.get((reader.record_id, run.seq_of(span)), 0) if span is not None else 0
    before, after = neighbours(run, place) if span is not None else (None, None)
    context = snapshot.context if snapshot is not None else None
    messages: list[ShownMessage] = []
    total = kept = 0
    system = ""
    if context is not None and snapshot is not None:
        parsed = messages_of(reader, context)
        total = len(parsed)
        kept = _shared(reader, context.prev, parsed)
        system = context.system_prompt or ""
        if parsed and parsed[0].role in ("system", "developer") and parsed[0].content == system:
            system = ""  # it stands among the messages already
        first = max(min(kept - _OLD_SHOWN, total), 0)
        old = shown_messages(parsed, report_cutter or Cutter(_EARLIER), new_from=kept)
        asked: list[ShownMessage] = []
        if 0 < message <= first:
            around = max(message - 1 - _AROUND, 0), min(message + _AROUND, kept)
            asked, first = old[around[0] : around[1]], max(first, around[1])
        new = shown_messages(parsed, report_cutter or Cutter(_NEW), new_from=kept)[kept:]
        messages = asked + old[first:kept] + new
    data = exchange.syscall.syscall if exchange.syscall is not None else event.syscall
    cutter = report_cutter or Cutter(_NEW)
    is_model = row.kind == "llm"
    given: list[Piece] = []
    result: list[Piece] = []
    left: dict[str, int] = {}
    if data is not None and not is_model:
        of_call = exchange.syscall or event
        given, left["given"] = _value_pieces(given_of(reader, of_call), cutter)
        gave = result_of(reader, of_call)
        if gave is not None:
            result, left["result"] = _value_pieces(gave, cutter)
    if event.state is not None:
        result = [Piece("text", f"{event.state.from_state} → {event.state.to_state}: {event.state.reason}")]
    request_body = _bytes(reader, exchange.request)
    system_text, left["system"] = cutter.cut(system)
    error, left["error"] = cutter.cut(_error(event, exchange))
    params = (context.params or {}) if context is not None else {}
    shown_params = [(key, display_value(value, _PARAM)) for key, value in params.items()]
    left["params"] = sum(len(text) >= _PARAM for _, text in shown_params)
    tools = [
        (tool.name, tool.description or "", pretty(dump_json(tool.schema)) or "")
        for tool in (context.tools if context is not None else None) or ()
    ]
    for number, (_, text, schema) in enumerate(tools, start=1):
        left[f"tool-{number}"] = sum(max(len(one) - _TOOL, 0) for one in (text, schema))
    return StepPage(
        run=run,
        row=row,
        record_id=reader.record_id,
        seq_num=event.seq_num,
        snapshot_seq=snapshot.seq_num if snapshot is not None else None,
        kind=row.kind,
        title=row.name,
        facts=[(name, cutter.cut(value)[0]) for name, value in _facts(row, event, exchange)],
        system=pieces_of(system_text),
        system_length=len(system),
        system_brief=cut(" ".join(system[:400].split()), 160),
        tools=[(cut(name, 120), cut(text, _TOOL), cut(schema, _TOOL)) for name, text, schema in tools],
        params=shown_params,
        messages=messages,
        folded=sum(not one.is_new for one in messages),
        unsent=total - len(messages),
        total_messages=total,
        partial=(context.partial or "") if context is not None else "",
        answer=_answer(reader, exchange, cutter),
        given=given,
        result=result,
        error=error,
        ran=_ran(run, reader.record_id, row, links, readers) if is_model and report_cutter is None else [],
        came=_came(run, reader, span, links, readers) if span is not None and report_cutter is None else [],
        request=_request_half(exchange.request, request_body),
        response=_response_half(reader, exchange.response, exchange),
        event_json=""
        if report_cutter is not None
        else Cutter(_RAW_MAX).cut(pretty(dump_json(reader.events().bare(reader.index_of(seq_num)))) or "")[0],
        before=links.step(run.record_of(before), run.seq_of(before)) if before is not None else "",
        after=links.step(run.record_of(after), run.seq_of(after)) if after is not None else "",
        before_seq=context.prev if context is not None else None,
        asked_by=_asked_by(run, reader.record_id, row, links),
        cut={name: count for name, count in left.items() if count},
        whole=links.step(reader.record_id, event.seq_num, "text") if report_cutter is None else "",
        wanted=wanted,
        found=find_places(reader, event.seq_num, wanted) if wanted else [],
        why_no_fork=why_no_fork(reader, event) if report_cutter is None else "",
    )


def _asked_by(run: LoadedRun, record_id: str, row: StepRow, links: Links) -> tuple[str, str] | None:
    """The model call that a tool ran for, as its name and address."""
    if row.kind != "tool" or row.call is None:
        return None
    for process in run.subject.recorded.processes:
        span = process.calls.get(row.call) if process.reader.record_id == record_id else None
        if span is not None and (seq := run.seq_of(span)):
            return f"call {row.call}", links.step(record_id, seq)
    return None


def _shared(reader: RecordReader, before: int | None, messages: list[CtxMessage]) -> int:
    """How many messages, from the first on, the call before sent too."""
    if before is None:
        return 0
    try:
        context = reader.event(before).context
    except SeqNotFound:
        return 0
    old = messages_of(reader, context) if context is not None else []
    count = 0
    while count < min(len(old), len(messages)) and old[count] == messages[count]:
        count += 1
    return count


def _bare_row(run: LoadedRun, reader: RecordReader, event: RecordEvent) -> StepRow:
    """A row for an event that is no call: a state change, or a snapshot whose call never came."""
    start = event.timestamp
    name = str(event.type).replace("_", " ")
    return StepRow(
        kind="llm" if event.context is not None or event.llm is not None else "other",
        name=(event.context.model if event.context is not None else None) or name,
        href="", record_id=reader.record_id, seq_num=event.seq_num, agent="", lane=0,
        at=f"+{format_duration(start)}" if run.has_times else "", start_ns=start,
        duration="", duration_ns=0, critical="", status="", error="",
        asked="", said="", tokens="", cost="", call=event.call, step=event.step, origin=event.origin or "",
        retry=False, where=event.at or "",
    )  # fmt: skip


def _facts(row: StepRow, event: RecordEvent, exchange: Exchange) -> list[tuple[str, str]]:
    data = exchange.syscall.syscall if exchange.syscall is not None else None
    found = [
        ("at", row.at),
        ("took", row.duration),
        ("first byte", format_duration(data.ttft) if data is not None and data.ttft is not None else ""),
        ("critical path", row.critical),
        ("tokens", row.tokens),
        ("cost", row.cost),
        ("call", str(row.call or "")),
        ("step", str(row.step or "")),
        ("event", f"#{event.seq_num}"),
        ("agent", row.agent),
        ("task", event.task or ""),
        ("code", row.where),
        ("origin", row.origin),
    ]
    return [(name, value) for name, value in found if value]


def _error(event: RecordEvent, exchange: Exchange) -> str:
    data = exchange.syscall.syscall if exchange.syscall is not None else event.syscall
    answer = exchange.answer.llm if exchange.answer is not None else None
    if data is not None and data.err:
        kind = data.error.type if data.error is not None else ""
        return data.err if kind.rpartition(".")[2] in data.err else f"{kind}: {data.err}"
    if answer is not None and answer.error is not None:
        return f"{answer.error.type}: {answer.error.message}".removesuffix(": ")
    return ""


def _answer(reader: RecordReader, exchange: Exchange, cutter: Cutter) -> Answer | None:
    event = exchange.answer
    data = event.llm if event is not None else None
    if event is None or data is None:
        return None
    found, missing = answer_of(reader, event)
    said = found or data
    text, left_out = cutter.cut(said.text or "")
    reasoning, reasoning_left_out = cutter.cut(said.reasoning or "")
    calls = shown_calls(said.tool_calls, cutter)
    return Answer(
        pieces=pieces_of(text),
        calls=calls,
        reasoning=pieces_of(reasoning),
        left_out=left_out + sum(call.left_out for call in calls),
        finish_reason=data.finish_reason or "",
        model=data.model or "",
        error=cutter.cut(f"{data.error.type}: {data.error.message}")[0] if data.error is not None else "",
        partial=data.partial or said.partial or "",
        missing=missing,
        reasoning_left_out=reasoning_left_out,
    )


def _ran(run: LoadedRun, record_id: str, row: StepRow, links: Links, readers: Readers) -> list[StepRow]:
    """The tools that ran after this call and before the next one of its conversation."""
    if row.call is None:
        return []
    found = [
        span
        for span in run.spans
        if span.kind == "tool" and count_of(span, CALL) == row.call and run.record_of(span) == record_id
    ]
    return [row_of(run, span, links, readers, Cutter(400)) for span in found[:50]]


def _came(run: LoadedRun, reader: RecordReader, span: Span, links: Links, readers: Readers) -> list[StepRow]:
    return [row_of(run, one, links, readers, Cutter(400)) for one in aftermath(run, reader, span)]


def _value_pieces(value: Any, cutter: Cutter) -> tuple[list[Piece], int]:
    """A value as it is shown, and how many characters of it are not."""
    if isinstance(value, str):
        text, left_out = cutter.cut(value)
        return pieces_of(text), left_out
    text = dump_json(value)
    shown, left_out = cutter.cut(pretty(text) or text)
    return [Piece("code", shown, "json")], left_out


def _bytes(reader: RecordReader, message: HttpRequest | HttpResponse | None) -> bytes | None:
    return reader.body(message.body) if message is not None and message.body is not None else None


def _request_half(request: HttpRequest | None, body: bytes | None) -> Half | None:
    if request is None:
        return None
    return _half(f"{request.method or ''} {request.url or ''}", request.headers, request.body, body, [])


def _response_half(reader: RecordReader, response: HttpResponse | None, exchange: Exchange) -> Half | None:
    if response is None:
        return None
    facts = []
    if response.chunks:
        facts.append(f"in {amounts.counted(len(response.chunks) // 2, 'piece')}")
    if not response.complete:
        facts.append(f"ended early: {response.ended or 'unknown reason'}")
    title = f"{response.status} {response.reason or ''}".strip()
    return _half(title, response.headers, response.body, _bytes(reader, response), facts)


def _half(
    title: str, headers: list[tuple[str, str]] | None, body: Body | None, raw: bytes | None, facts: list[str]
) -> Half:
    text = ""
    missing = ""
    if body is not None and body.size and raw is None:
        missing = body.missing or "pieces of it are missing or damaged"
    if raw is not None:
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            missing = "not text; the exact bytes are behind the link"
    laid_out = pretty(text) if len(text) < _RAW_MAX else None
    shown, left_out = Cutter(_RAW_MAX).cut(laid_out or text)
    size = amounts.bytes_text(body.size) if body is not None else "no body"
    return Half(title, [*(headers or [])], size, shown, left_out, missing, facts, has_bytes=raw is not None)
