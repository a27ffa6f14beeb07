"""One event, or the context of one call, in full."""

from __future__ import annotations

from typing import Any

from unspool.errors import NoSnapshot
from unspool.events import (
    Body,
    Context,
    CtxMessage,
    ErrorData,
    HttpRequest,
    HttpResponse,
    LLMResponseData,
    RecordEvent,
    ToolCall,
)
from unspool.replay.format import format_replay_event
from unspool.replay.reader import Reader
from unspool.text import display_value, escape_controls, show_text

__all__ = ["event_in_full", "format_context", "format_event_in_full"]

_PLACES = ("step", "call", "task", "lane", "at", "span_id")


def event_in_full(event: RecordEvent, reader: Reader) -> dict[str, Any]:
    """The event and all the texts it refers to, as data.

    Keys: `event`; `context` for a context snapshot; `request_text` and `response_text` for an exchange whose bodies are
    text.
    """
    document: dict[str, Any] = {"event": event}
    if event.context is not None and (context := _context_of(event, reader)) is not None:
        document["context"] = context
    request, response = _exchange(event)
    if request is not None and (text := _body_text(request.body, reader)) is not None:
        document["request_text"] = text
    if response is not None and (text := _body_text(response.body, reader)) is not None:
        document["response_text"] = text
    return document


def format_event_in_full(event: RecordEvent, reader: Reader, color: bool = False) -> str:
    """The event, where it belongs, and every text it refers to, uncut."""
    blocks = [format_replay_event(event, verbose=True, color=color)]
    places = [f"{name}={show_text(str(value))}" for name in _PLACES if (value := getattr(event, name)) is not None]
    if places:
        blocks.append("  " + " ".join(places))
    if event.context is not None and (context := _context_of(event, reader)) is not None:
        blocks.append(format_context(context, color))
    if event.llm is not None:
        blocks += _answer(event.llm)
    if event.syscall is not None:
        blocks += _error(event.syscall.error)
        request, response = _exchange(event)
        blocks += _request(request, reader) + _response(response, reader)
    return "\n".join(blocks)


def format_context(context: Context, color: bool = False) -> str:
    """What the model saw: its settings, the system prompt and each message, numbered from 1, uncut."""
    model = " ".join(show_text(name) for name in (context.provider, context.model) if name) or "unknown model"
    count = len(context.messages)
    lines = [f"{model}, {count} message{'' if count == 1 else 's'}"]
    if context.partial is not None:
        lines.append(f"not all the model saw: {show_text(context.partial)}")
    if context.tools:
        lines.append("tools: " + ", ".join(show_text(tool.name) for tool in context.tools))
    if context.params:
        lines.append("params: " + ", ".join(f"{show_text(k)}={display_value(v)}" for k, v in context.params.items()))
    if context.system_prompt and not _repeats_system_prompt(context):
        lines += [_title("system", color), _indented(context.system_prompt)]
    for number, message in enumerate(context.messages, start=1):
        lines += _message(number, message, color)
    return "\n".join(lines)


def _repeats_system_prompt(context: Context) -> bool:
    return any(message.role in ("system", "developer") for message in context.messages[:1])


def _title(text: str, color: bool) -> str:
    return f"\x1b[1m{text}\x1b[0m" if color else text


def _message(number: int, message: CtxMessage, color: bool) -> list[str]:
    title = f"{number} {show_text(message.role)}"
    if message.tool_name:
        title += f" {show_text(message.tool_name)}"
    if message.tool_call_id:
        title += f" [{show_text(message.tool_call_id)}]"
    lines = [_title(title, color)]
    if message.content:
        lines.append(_indented(message.content))
    lines += [_indented(f"({part.kind}) {part.text or ''}".rstrip()) for part in message.parts or []]
    return lines + _tool_calls(message.tool_calls)


def _tool_calls(calls: list[ToolCall] | None) -> list[str]:
    return [
        _indented(f"→ {call.name}({call.arguments})" + (f" [{call.id}]" if call.id else "")) for call in calls or []
    ]


def _answer(data: LLMResponseData) -> list[str]:
    names = ("finish_reason", "cached_tokens", "cache_write_tokens", "reasoning_tokens", "response_id", "request_id")
    facts = [f"{name}={show_text(str(value))}" for name in names if (value := getattr(data, name)) is not None]
    lines = ["  " + " ".join(facts)] if facts else []
    if data.partial is not None:
        lines.append(f"  not the whole answer: {show_text(data.partial)}")
    if data.reasoning:
        lines += ["reasoning", _indented(data.reasoning)]
    if data.text:
        lines += ["text", _indented(data.text)]
    if data.tool_calls:
        lines += ["tool calls", *_tool_calls(data.tool_calls)]
    return lines + _error(data.error)


def _error(error: ErrorData | None) -> list[str]:
    return [] if error is None else ["error", _indented(f"{error.type}: {error.message}")]


def _request(request: HttpRequest | None, reader: Reader) -> list[str]:
    if request is None:
        return []
    title = f"request {show_text(request.method or '')} {show_text(request.url or '')}".rstrip()
    return [title, *_body(request.body, reader)]


def _response(response: HttpResponse | None, reader: Reader) -> list[str]:
    if response is None:
        return []
    title = f"response {response.status} {show_text(response.reason or '')}".rstrip()
    if not response.complete:
        title += f" (ended early: {show_text(response.ended or 'unknown reason')})"
    return [title, *_body(response.body, reader)]


def _body(body: Body | None, reader: Reader) -> list[str]:
    if body is None or (body.size == 0 and body.missing is None):
        return []
    text = _body_text(body, reader)
    if text is not None:
        return [_indented(text)]
    why = "missing: " + show_text(body.missing) if body.missing else "not text, or missing"
    return [f"    ({body.size} bytes, {why})"]


def _body_text(body: Body | None, reader: Reader) -> str | None:
    """A body as text; None if there is none, its bytes are missing or they are not UTF-8."""
    raw = None if body is None else reader.body(body)
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        return None


def _exchange(event: RecordEvent) -> tuple[HttpRequest | None, HttpResponse | None]:
    if event.syscall is not None:
        return event.syscall.request, event.syscall.response
    return (event.context.request if event.context else None), (event.llm.response if event.llm else None)


def _context_of(event: RecordEvent, reader: Reader) -> Context | None:
    try:
        return reader.context_at(event.seq_num)
    except NoSnapshot:  # a snapshot without a payload, in a damaged recording
        return None


def _indented(text: str) -> str:
    return "\n".join("    " + line for line in escape_controls(text, keep="\n\t").split("\n"))
