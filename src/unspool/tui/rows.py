"""One event of a recording as a row of the event list: short, and safe to show."""

from __future__ import annotations

from typing import Any, Final

from unspool.durations import format_duration
from unspool.events import (
    ContextSnapshotData,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    StateChangeData,
    SyscallEventData,
)
from unspool.recording.reader import RecordReader
from unspool.replay.session import is_error
from unspool.text import display_value, show_text

__all__ = ["Row", "kind_of", "row_of"]

_VALUE: Final = 60
_TEXT: Final = 160
_DEVICES: Final = ("tool", "mcp", "agent", "proc", "net", "http", "llm")


class Row:
    """What the list says of an event: `kind` (context, llm, answer, tool, …), `text`, and whether it failed."""

    __slots__ = ("failed", "kind", "text", "time")

    def __init__(self, kind: str, text: str, time: str, *, failed: bool) -> None:
        self.kind = kind
        self.text = text
        self.time = time
        self.failed = failed


def row_of(reader: RecordReader, position: int) -> Row:
    """The row of the event at a position; of a context nothing is read but its own line.

    Raises:
        IndexError: there is none any more.
    """
    event = reader.events().bare(position)
    if event.type is not RecordEventType.CONTEXT_SNAPSHOT:
        event = reader.whole(event)
    return Row(kind_of(event), _text(event), _time(event.timestamp), failed=is_error(event))


def kind_of(event: RecordEvent) -> str:
    """A word for what an event is."""
    if event.context is not None:
        return "context"
    if event.llm is not None:
        return "answer"
    if event.state is not None:
        return "state"
    if event.syscall is None:
        return show_text(str(event.type), 8)
    device, _ = _device(event.syscall)
    return device if device in _DEVICES else "call"


def _device(data: SyscallEventData) -> tuple[str, str]:
    """`/dev/tool/search` → `tool`, `search`; what has no device gives "" and its own name."""
    path = data.args.get("path")
    if isinstance(path, str) and path.startswith("/dev/"):
        device, _, name = path.removeprefix("/dev/").partition("/")
        return device, name
    return "", data.syscall


def _time(timestamp: int) -> str:
    return f"{timestamp / 1e9:.3f}"


def _text(event: RecordEvent) -> str:
    if event.syscall is not None:
        return _syscall(event.syscall)
    if event.context is not None:
        return _context(event, event.context)
    if event.llm is not None:
        return _answer(event.llm)
    return _state(event.state) if event.state is not None else "(no data)"


def _syscall(data: SyscallEventData) -> str:
    device, name = _device(data)
    if device == "llm":
        text = show_text(name or "?", _VALUE)
        count = data.args.get("messages")
        if isinstance(count, int):
            text += f" {count} messages"
        if data.args.get("retry"):
            text += " (retry)"
    elif device in ("tool", "mcp"):
        text = f"{show_text(name, _VALUE)}({_arguments(data.args.get('input'))})"
    else:
        rest = {key: value for key, value in data.args.items() if key != "path"}
        text = f"{show_text(data.syscall, _VALUE)} {show_text(name, _VALUE) if device else ''} {_arguments(rest)}"
        text = " ".join(text.split())
    if data.err:
        text += f" → {show_text(data.err, _TEXT)}"
    elif data.result is not None:
        text += f" → {_value(data.result)}"
    return f"{text}  {format_duration(data.duration)}" if data.duration > 0 else text


def _arguments(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(
            f"{show_text(str(key), 20)}={display_value(item, 30)}" for key, item in list(value.items())[:6]
        )
    return "" if value is None else display_value(value, _VALUE)


def _value(value: Any) -> str:
    return show_text(value, _VALUE) if isinstance(value, str) else display_value(value, _VALUE)


def _context(event: RecordEvent, data: ContextSnapshotData) -> str:
    parts = [f"{name} {number}" for name, number in (("step", event.step), ("call", event.call)) if number is not None]
    if data.kept:
        parts.append(f"{data.kept} messages kept")
    if data.retry:
        parts.append("retry")
    if data.model or data.provider:
        parts.append(show_text(data.model or data.provider or "", 40))
    if event.origin:
        parts.append(show_text(event.origin, 12))
    return " · ".join(parts) or "context"


def _answer(data: LLMResponseData) -> str:
    if data.error is not None:
        return show_text(": ".join(filter(None, (data.error.type, data.error.message))), _TEXT)
    said = [show_text(data.text, _TEXT)] if data.text else []
    said += [f"→ {show_text(call.name, 40)}({show_text(call.arguments, _VALUE)})" for call in data.tool_calls or ()]
    counts = f"{_count(data.request_tokens)}+{_count(data.response_tokens)} tok"
    return f"{' '.join(said) or show_text(data.finish_reason or '(nothing said)', 40)}  {counts}"


def _count(tokens: int | None) -> str:
    return "?" if tokens is None else str(tokens)


def _state(data: StateChangeData) -> str:
    reason = f" ({show_text(data.reason, _VALUE)})" if data.reason else ""
    return f"{show_text(data.from_state, 20)} → {show_text(data.to_state, 20)}{reason}"
