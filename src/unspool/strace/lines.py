"""Any event of a recording as a line of text or of JSON, in the manner of `format_event`."""

from __future__ import annotations

from unspool.events import ContextSnapshotData, LLMResponseData, RecordEvent, StateChangeData, SyscallEvent
from unspool.strace.format import event_json_keys, format_event, mark_error, time_mark
from unspool.strace.options import Options
from unspool.text import VALUE_LIMIT, dump_json, show_text

__all__ = ["format_record_event", "record_event_json", "syscall_event_of"]


def format_record_event(event: RecordEvent, options: Options, *, pid_prefix: bool = False) -> str:
    """The line of a recorded event: calls as `format_event` writes them, the others in one short form each.

    Follows `options.json` and, for calls, `options.formatter`.

    Args:
        pid_prefix: start with `[pid 3] `, for the lines of several processes in one stream; not in JSON, which has it.
    """
    if options.json:
        return record_event_json(event)
    prefix = f"[pid {event.pid:>3}] " if pid_prefix else ""
    if event.syscall is not None:
        call = syscall_event_of(event)
        line = options.formatter(call) if options.formatter is not None else format_event(call, options)
        return prefix + line
    line = f"{time_mark(event.timestamp)} {_remark(event, options)}"
    failed = event.llm is not None and event.llm.error is not None
    return prefix + (mark_error(line, options) if failed else line)


def record_event_json(event: RecordEvent) -> str:
    """The event as one line of JSON.

    A call has the keys of `format_event_json`; the others have `timestamp_ms pid seq_num type timestamp_ns` and their
    payload under its wire name. `call`, `step` and `task` follow where the event has them.
    """
    if event.syscall is not None:
        document = event_json_keys(syscall_event_of(event))
    else:
        document = {
            "timestamp_ms": event.timestamp // 1_000_000,
            "pid": event.pid,
            "seq_num": event.seq_num,
            "type": str(event.type),
            "timestamp_ns": event.timestamp,
        }
        for name in ("context", "llm", "state"):
            payload = getattr(event, name)
            if payload is not None:
                document[name] = payload
    for name in ("call", "step", "task"):
        if (value := getattr(event, name)) is not None:
            document[name] = value
    return dump_json(document)


def syscall_event_of(event: RecordEvent) -> SyscallEvent:
    """The call a recorded event is about, in the form of a live one.

    Raises:
        ValueError: the event is no syscall.
    """
    data = event.syscall
    if data is None:
        raise ValueError(f"event {event.seq_num} is a {event.type}, not a syscall")
    return SyscallEvent(
        timestamp=event.timestamp,
        pid=event.pid,
        syscall=data.syscall,
        args=data.args,
        result=data.result,
        err=data.err or None,
        duration=data.duration,
        seq_num=event.seq_num,
        trace_id=event.trace_id,
        span_id=event.span_id,
    )


def _remark(event: RecordEvent, options: Options) -> str:
    if event.context is not None:
        return f"context: {_context(event.context, options)}"
    if event.llm is not None:
        return f"llm: {_llm(event.llm, options)}"
    if event.state is not None:
        return f"state: {_state(event.state, options)}"
    return f"{show_text(str(event.type), VALUE_LIMIT)}: (no data)"


def _text(text: str, options: Options) -> str:
    return show_text(text, None if options.verbose else VALUE_LIMIT)


def _context(data: ContextSnapshotData, options: Options) -> str:
    parts = [_counted(len(data.messages or []), "msg")]
    if data.tools:
        parts.append(_counted(len(data.tools), "tool"))
    source = " ".join(_text(name, options) for name in (data.provider, data.model) if name)
    if source:
        parts.append(source)
    if data.retry:
        parts.append("retry")
    if data.partial is not None:
        parts.append(f"partial ({_text(data.partial, options)})")
    return ", ".join(parts)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _llm(data: LLMResponseData, options: Options) -> str:
    parts = [
        _text(data.model or "?", options),
        f"{_tokens(data.request_tokens)}→{_tokens(data.response_tokens)} tok",
    ]
    if data.finish_reason:
        parts.append(_text(data.finish_reason, options))
    if data.error is not None:
        parts.append(f"err({_text(data.error.message or data.error.type, options)})")
    if data.partial is not None:
        parts.append(f"partial ({_text(data.partial, options)})")
    return " ".join(parts)


def _tokens(count: int | None) -> str:
    return "?" if count is None else str(count)


def _state(data: StateChangeData, options: Options) -> str:
    reason = f" ({_text(data.reason, options)})" if data.reason else ""
    return f"{_text(data.from_state, options)} → {_text(data.to_state, options)}{reason}"
