"""What the panes of the debugger say about one event, as lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final

from unspool.cli import amounts
from unspool.cli.exchanges import exchange_of
from unspool.cli.terminal import bold, dim
from unspool.context import ContextData, CtxProfileResult, analyze_context
from unspool.errors import NoSnapshot, UnspoolError
from unspool.events import Body, Context, HttpRequest, HttpResponse, LLMResponseData, RecordEvent
from unspool.recording.reader import RecordReader
from unspool.replay import ReplaySession
from unspool.replay.detail import format_context, format_event_in_full
from unspool.replay.diff_format import format_context_diff
from unspool.replay.snapshots import SnapshotFinder
from unspool.text import escape_controls, show_text
from unspool.tui.pane import PaneLine

__all__ = ["TEXT_MAX", "Shown", "context_lines", "diff_lines", "event_lines", "exchange_lines", "profile_at"]

TEXT_MAX: Final = 200_000
"""Characters of one text that are shown; a command that prints all of it stands behind them."""


@dataclass
class Shown:
    """Lines of a pane, and the one to begin with."""

    lines: list[PaneLine] = field(default_factory=list)
    top: int = 0


def context_lines(reader: RecordReader, seq_num: int) -> Shown:
    """The messages the model saw at an event; it begins with those that are new in that call."""
    try:
        snapshot = SnapshotFinder(reader.events()).find_nearest_before(seq_num)
    except NoSnapshot:
        return _said("No model call was made at or before this event, so there is no context yet.")
    context = reader.context_at(seq_num)
    kept = _kept(reader, snapshot, context)
    place = f"context of #{snapshot.seq_num:03d}" + (f", call {snapshot.call}" if snapshot.call is not None else "")
    if kept:
        new = len(context.messages) - kept
        place += f": {amounts.counted(kept, 'message')} as in the call before, then {new or 'none'} new"
    shown = Shown([PaneLine(dim(place, True))])
    titles = {_title(number, message.role, context) for number, message in enumerate(context.messages, 1)}
    first_new = _title(kept + 1, context.messages[kept].role, context) if kept < len(context.messages) else ""
    for line in _cut_long(format_context(context, color=True), reader, seq_num):
        plain = line.removeprefix("\x1b[1m").removesuffix("\x1b[0m")
        if kept and first_new and plain == first_new and line.startswith("\x1b[1m"):
            shown.top = len(shown.lines)
            shown.lines.append(PaneLine(f"\x1b[32m{'─── new in this call ':─<60}\x1b[0m"))
        is_title = line.startswith("\x1b[1m") and plain in titles
        shown.lines.append(PaneLine(f"\x1b[1;36m{plain}\x1b[0m" if is_title else line))
    return shown


def _kept(reader: RecordReader, snapshot: RecordEvent, context: Context) -> int:
    """How many messages are those of the call before.

    Counted in messages as they are shown: `kept` of the snapshot counts those of the request, in which some providers
    send the system prompt along.
    """
    data = snapshot.context
    if data is None or data.prev is None or not data.kept:
        return 0
    try:
        before = reader.context_at(data.prev).messages
    except UnspoolError:  # it is damaged, or was taken out of the recording
        return 0
    pairs = zip(before, context.messages, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _title(number: int, role: str, context: Context) -> str:
    """The heading `format_context` gives a message."""
    message = context.messages[number - 1]
    name = f" {show_text(message.tool_name)}" if message.tool_name else ""
    call = f" [{show_text(message.tool_call_id)}]" if message.tool_call_id else ""
    return f"{number} {show_text(role)}{name}{call}"


def event_lines(reader: RecordReader, seq_num: int) -> Shown:
    """The event itself, in full."""
    event = reader.event(seq_num)
    if event.context is not None:
        # Its messages have a pane of their own.
        event.context.messages = None
        facts = [
            f"{name} {getattr(event, name)}" for name in ("step", "call", "task", "lane", "at") if getattr(event, name)
        ]
        text = f"[#{seq_num:03d} +{event.timestamp / 1e9:.1f}s] context of a model call\n  " + show_text(
            ", ".join(facts)
        )
        return Shown([PaneLine(line) for line in text.split("\n")])
    return Shown([PaneLine(line) for line in _cut_long(format_event_in_full(event, reader, True), reader, seq_num)])


def exchange_lines(reader: RecordReader, seq_num: int) -> Shown:
    """The answer, then request and response as they went over the wire; of a tool call what it was given and gave."""
    event = reader.event(seq_num)
    exchange = exchange_of(reader, event)
    answer = exchange.answer
    lines: list[str] = []
    if answer is not None and answer.llm is not None:
        lines += [*_answer(answer, answer.llm), ""]
    elif exchange.snapshot is not None:
        lines += [dim("no answer is recorded: the call is in flight, or was cut off with its process", True), ""]
    if exchange.request is None and exchange.response is None:
        shown = event_lines(reader, seq_num)
        return Shown([*(PaneLine(line) for line in lines), *shown.lines])
    lines += _message(reader, exchange.request, seq_num)
    lines += _message(reader, exchange.response, seq_num)
    return Shown([PaneLine(line) for line in lines])


def _answer(event: RecordEvent, data: LLMResponseData) -> Iterator[str]:
    counts = f"{_count(data.request_tokens)} + {_count(data.response_tokens)} tokens"
    facts = [show_text(data.model or "?"), counts, show_text(data.finish_reason or "")]
    if data.cached_tokens:
        facts.append(f"{data.cached_tokens} cached")
    yield bold(f"answer #{event.seq_num:03d}", True) + "  " + ", ".join(fact for fact in facts if fact)
    if data.error is not None:
        said = ": ".join(filter(None, (data.error.type, data.error.message)))
        yield f"    \x1b[91m{escape_controls(said)}\x1b[0m"
    if data.reasoning:
        yield from _block("reasoning", data.reasoning)
    if data.text:
        yield from _block("", data.text)
    for call in data.tool_calls or ():
        yield f"    → \x1b[35m{escape_controls(call.name)}\x1b[0m({escape_controls(call.arguments)})"
    if data.partial is not None:
        yield dim(f"    not the whole answer: {show_text(data.partial)}", True)


def _block(title: str, text: str) -> Iterator[str]:
    if title:
        yield dim(f"    ({title})", True)
    yield from (f"    {line}" for line in escape_controls(text, keep="\n\t").split("\n"))


def _count(tokens: int | None) -> str:
    return "?" if tokens is None else f"{tokens:,}"


def _message(reader: RecordReader, message: HttpRequest | HttpResponse | None, seq_num: int) -> Iterator[str]:
    if message is None:
        return
    size = f" ({amounts.bytes_text(message.body.size)})" if message.body is not None and message.body.size else ""
    if isinstance(message, HttpRequest):
        sent = " ".join(filter(None, (message.method, message.url))) or "(method and address are missing)"
        which, head = "request", f"request {show_text(sent)}"
    else:
        which, head = "response", f"response {message.status} {show_text(message.reason or '')}".rstrip()
    yield bold(head, True) + size
    if isinstance(message, HttpResponse) and not message.complete:
        yield f"    \x1b[33mended early: {show_text(message.ended or 'unknown reason')}\x1b[0m"
    yield from (dim(f"    {show_text(name)}: {show_text(value)}", True) for name, value in message.headers or ())
    yield from _body(reader, message.body, which, seq_num)
    yield ""


def _body(reader: RecordReader, body: Body | None, which: str, seq_num: int) -> Iterator[str]:
    if body is None or (body.size == 0 and body.missing is None):
        return
    raw = reader.body(body)
    if raw is None:
        yield f"    ({body.size} bytes, missing: {show_text(body.missing or 'pieces are missing or damaged')})"
        return
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        yield f"    ({body.size} bytes that are no text)"
        return
    if len(text) <= TEXT_MAX:
        text = _pretty(text)
    yield from (f"    {line}" for line in escape_controls(text[:TEXT_MAX], keep="\n\t").split("\n"))
    if len(text) > TEXT_MAX:
        yield _more(len(text) - TEXT_MAX, f"unspool show {reader.record_id}@{seq_num} --raw {which}")


def _pretty(text: str) -> str:
    """JSON with its structure in lines; anything else as it is."""
    if text[:1] not in ("{", "["):
        return text
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def _cut_long(text: str, reader: RecordReader, seq_num: int) -> Iterator[str]:
    """Lines, and of very long ones the beginning."""
    for line in text.split("\n"):
        if len(line) <= TEXT_MAX:
            yield line
        else:
            yield line[:TEXT_MAX]
            yield _more(len(line) - TEXT_MAX, f"unspool show {reader.record_id}@{seq_num}")


def _more(count: int, command: str) -> str:
    return f"\x1b[33m    … {count:,} more characters: {command}\x1b[0m"


def diff_lines(reader: RecordReader, seq_num: int) -> Shown:
    """How the context at an event came from that of the call before it in the same conversation."""
    events = reader.events()
    finder = SnapshotFinder(events)
    try:
        snapshot = finder.find_nearest_before(seq_num)
    except NoSnapshot:
        return _said("No model call was made at or before this event, so there is nothing to compare.")
    before = snapshot.context.prev if snapshot.context is not None else None
    if before is None:
        try:
            before = finder.find_nearest_before(snapshot.seq_num - 1).seq_num
        except NoSnapshot:
            return _said(f"#{snapshot.seq_num:03d} is the first model call: there is none before it to compare with.")
    diff = ReplaySession(reader).diff(before, snapshot.seq_num)
    lines = _cut_long(format_context_diff(diff, True).rstrip("\n"), reader, seq_num)
    return Shown([PaneLine(line) for line in lines])


def profile_at(reader: RecordReader, seq_num: int, budget: int) -> tuple[CtxProfileResult, Context] | None:
    """What fills the context at an event, with the context; None before the first model call.

    Args:
        budget: the model's context window in tokens, 0 if unknown.
    """
    try:
        snapshot = SnapshotFinder(reader.events()).find_nearest_before(seq_num)
    except NoSnapshot:
        return None
    context = reader.context_at(seq_num)
    data = ContextData(context.system_prompt or "", list(context.messages))
    used = _counted(reader, snapshot)
    pid = reader.metadata.pid
    return analyze_context(data, pid, snapshot.call or 0, used, budget), context


def _counted(reader: RecordReader, snapshot: RecordEvent) -> int:
    """The provider's count of a call's input; 0 where there is none."""
    answer: Any = exchange_of(reader, snapshot).answer
    return (answer.llm.request_tokens or 0) if answer is not None and answer.llm is not None else 0


def _said(text: str) -> Shown:
    return Shown([PaneLine(dim(text, True))])
