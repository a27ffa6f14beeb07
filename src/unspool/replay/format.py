"""Events of a recording as text, for replay. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from unspool.durations import format_duration
from unspool.events import (
    ContextSnapshotData,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    RecordMetadata,
    StateChangeData,
    SyscallEventData,
)
from unspool.replay.session import ReplayListItem, is_error
from unspool.text import VALUE_LIMIT, display_value, escape_controls, quote, show_text

__all__ = ["format_replay_event", "format_replay_list", "format_replay_summary"]

RED, BOLD, RESET = "\x1b[91m", "\x1b[1m", "\x1b[0m"


def format_replay_event(event: RecordEvent, verbose: bool = False, color: bool = False) -> str:
    """`[#003 +1.2s] ` and what happened; failed calls are red with `color`.

    Args:
        verbose: for calls, every argument and the result whole, one to a line; the other kinds have no more to show.
    """
    text = f"[#{event.seq_num:03d} +{event.timestamp / 1e9:.1f}s] {_what(event, verbose)}"
    return f"{RED}{text}{RESET}" if color and is_error(event) else text


def format_replay_list(items: Iterable[ReplayListItem], color: bool = False) -> str:
    """One line an event, the cursor's marked with `►`. No final newline; "" for no items."""
    return "\n".join(_list_line(item, color) for item in items)


def format_replay_summary(metadata: RecordMetadata, event_count: int, color: bool = False) -> str:
    """What was recorded, in six lines. No final newline."""
    duration = "N/A"
    start, end = metadata.start_time, metadata.end_time
    # Year 1 is how the reference writes a time that is not set.
    if start is not None and end is not None and start.year > 1 and end.year > 1:
        duration = f"{int((end - start).total_seconds())}s"
    rows = (
        ("Record ID:", escape_controls(metadata.record_id)),
        ("PID:", str(metadata.pid)),
        ("Intent:", escape_controls(metadata.intent)),
        ("Events:", str(event_count)),
        ("Duration:", duration),
        ("Status:", escape_controls(str(metadata.status))),
    )
    return "\n".join(f"{BOLD}{label:<13}{RESET}{value}" if color else f"{label:<13}{value}" for label, value in rows)


def _what(event: RecordEvent, verbose: bool) -> str:
    if event.type not in _SHORT_NAMES:
        return f"{escape_controls(str(event.type))}: (unknown event type)"
    return f"{_SHORT_NAMES[event.type]}: {_payload(event, verbose)}"


def _payload(event: RecordEvent, verbose: bool) -> str:
    """What the payload says that the event's type names."""
    if event.type == RecordEventType.SYSCALL and event.syscall is not None:
        return _verbose_syscall(event.syscall) if verbose else _syscall(event.syscall)
    if event.type == RecordEventType.LLM_RESPONSE and event.llm is not None:
        return _llm(event.llm)
    if event.type == RecordEventType.CONTEXT_SNAPSHOT and event.context is not None:
        return _context(event.context)
    if event.type == RecordEventType.STATE_CHANGE and event.state is not None:
        return f"{_state(event.state)}{f' ({show_text(event.state.reason)})' if event.state.reason else ''}"
    return "(no data)"


_SHORT_NAMES = {
    RecordEventType.SYSCALL: "syscall",
    RecordEventType.LLM_RESPONSE: "llm",
    RecordEventType.CONTEXT_SNAPSHOT: "context",
    RecordEventType.STATE_CHANGE: "state",
}


def _syscall(data: SyscallEventData) -> str:
    inside, args = "", data.args or {}
    if "path" in args:
        inside = _quoted(args["path"])
    elif "intent" in args:
        inside = f"intent={_quoted(args['intent'])}"
    text = f"{escape_controls(data.syscall)}({inside})"
    if data.err:
        text += f" → err={show_text(data.err)}"
    elif data.result is not None:
        text += f" → {_unquoted(data.result, VALUE_LIMIT)}"
    return f"{text} ({format_duration(data.duration)})" if data.duration > 0 else text


def _verbose_syscall(data: SyscallEventData) -> str:
    lines = [escape_controls(data.syscall)]
    lines += [f"  {escape_controls(key)}={_unquoted(value, None)}" for key, value in sorted((data.args or {}).items())]
    if data.result is not None:
        lines.append(f"  result={_unquoted(data.result, None)}")
    if data.err:
        lines.append(f"  err={show_text(data.err)}")
    lines.append(f"  duration={format_duration(data.duration)}")
    return "\n".join(lines)


def _quoted(value: Any) -> str:
    return quote(value, VALUE_LIMIT) if isinstance(value, str) else display_value(value, VALUE_LIMIT)


def _unquoted(value: Any, limit: int | None) -> str:
    return show_text(value, limit) if isinstance(value, str) else display_value(value, limit)


def _llm(data: LLMResponseData) -> str:
    return (
        f"model={show_text(data.model or '?')} req={_tokens(data.request_tokens)} resp={_tokens(data.response_tokens)}"
    )


def _tokens(count: int | None) -> str:
    return f"{'?' if count is None else count}tok"


def _context(data: ContextSnapshotData) -> str:
    return f"msgs={len(data.messages or [])}"


def _state(data: StateChangeData) -> str:
    return f"{show_text(data.from_state)} → {show_text(data.to_state)}"


def _list_line(item: ReplayListItem, color: bool) -> str:
    event = item.event
    kind = escape_controls(str(event.type))
    text = f"[#{event.seq_num:03d}] +{event.timestamp / 1e9:.1f}s  {kind:<8}  {_detail(event)}".rstrip()
    if color and is_error(event):
        text = f"{RED}{text}{RESET}"
    elif color and item.is_cursor:
        text = f"{BOLD}{text}{RESET}"
    return ("► " if item.is_cursor else "  ") + text


def _detail(event: RecordEvent) -> str:
    if event.syscall is not None:
        return escape_controls(event.syscall.syscall)
    if event.llm is not None:
        return show_text(event.llm.model or "?")
    if event.context is not None:
        return _context(event.context)
    return "(no data)" if event.state is None else _state(event.state)
