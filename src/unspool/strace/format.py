"""One traced call as a line of text or of JSON. Pure functions; no value makes them fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from unspool.durations import format_seconds
from unspool.events import SyscallEvent
from unspool.strace.options import Options
from unspool.text import (
    VALUE_LIMIT,
    display_value,
    dump_json,
    error_text,
    escape_controls,
    plain_value,
    quote,
    show_text,
    truncate_string,
)

__all__ = ["event_json_keys", "format_event", "format_event_json", "is_llm_call", "mark_error", "time_mark"]

RED, GRAY, RESET = "\x1b[91m", "\x1b[90m", "\x1b[0m"
SLOW_NS = 1_000_000_000  # a call longer than this gets the slow mark
LLM_PREFIX = "/dev/llm/"
SPAN_PREFIX = "/dev/span/"

_ERROR_LIMIT = 500  # an error page of a provider may be long; this much tells what it is
_REASON_LIMIT = 80
_PATH_LIMIT = 50
_SUMMARY_LIMIT = 60


def format_event(event: SyscallEvent, options: Options) -> str:
    """The line of a call: `[  0.012s] Name(args) → result    12ms`, with marks for slow and model calls.

    Arguments and results are cut at 50 code points unless `options.verbose`. A failed call is red, or prefixed `[ERR] `
    without colour. Ignores `options.json` and `options.formatter`, which are `attach`'s.
    """
    name = event.syscall
    form: Callable[[SyscallEvent, Options], str]
    if name == "ConfigResolve":
        form = _config_resolve
    elif name == "ReasonStep":
        form = _reason_step
    elif name == "InternalStep" or name.startswith("Driver"):
        form = _driver_step
    elif name == "Span":
        form = _span
    else:
        form = _call
    line = form(event, options)
    return mark_error(line, options) if error_text(event.err) else line


def format_event_json(event: SyscallEvent) -> str:
    """The event as one line of JSON; milliseconds are whole and truncated, the exact nanoseconds stand beside them.

    `args` is null when there are none and `error` is "" when the call succeeded. A value JSON cannot hold is replaced
    by itself, without touching the rest (see `unspool.text.plain_value`).
    """
    return dump_json(event_json_keys(event))


def event_json_keys(event: SyscallEvent) -> dict[str, Any]:
    """What `format_event_json` writes, in its order."""
    return {
        "timestamp_ms": event.timestamp // 1_000_000,
        "pid": event.pid,
        "syscall": event.syscall,
        "args": plain_value(event.args) if event.args else None,
        "result": plain_value(event.result),
        "error": error_text(event.err),
        "duration_ms": event.duration // 1_000_000,
        "timestamp_ns": event.timestamp,
        "duration_ns": event.duration,
        "seq_num": event.seq_num,
        "trace_id": event.trace_id,
        "span_id": event.span_id,
    }


def time_mark(timestamp: int) -> str:
    """`[  0.012s]`: nanoseconds since the process was created, as seconds."""
    return f"[{timestamp / 1e9:7.3f}s]"


def mark_error(line: str, options: Options) -> str:
    """`line` as that of a failed call."""
    return f"{RED}{line}{RESET}" if options.color else f"[ERR] {line}"


def _gray(text: str, event: SyscallEvent, options: Options) -> str:
    # A failed line is red as a whole; a second colour inside would end the red.
    return f"{GRAY}{text}{RESET}" if options.color and not error_text(event.err) else text


def _limit(options: Options, limit: int = VALUE_LIMIT) -> int | None:
    return None if options.verbose else limit


def _head(event: SyscallEvent, inside: str) -> str:
    return f"{time_mark(event.timestamp)} {escape_controls(event.syscall)}({inside})"


def _slow_mark(event: SyscallEvent, options: Options) -> str:
    return "  " + _gray("← slow op", event, options) if event.duration > SLOW_NS else ""


def _call(event: SyscallEvent, options: Options) -> str:
    limit = _limit(options)
    inside = ", ".join(f"{key}={_argument(value, limit)}" for key, value in _sorted_args(event))
    line = f"{_head(event, inside)} → {_outcome(event, options)}    {format_seconds(event.duration)}"
    return line + _slow_mark(event, options) + ("  ← LLM call" if is_llm_call(event.args) else "")


def _span(event: SyscallEvent, options: Options) -> str:
    """A part of the program that it gave a name: `Span("rank", documents=12)`. It has no result."""
    args, limit = event.args or {}, _limit(options)
    path, attributes = args.get("path"), args.get("attributes", {})
    if not isinstance(path, str) or not isinstance(attributes, dict):
        return _call(event, options)
    parts = [quote(path.removeprefix(SPAN_PREFIX), limit)]
    parts += [f"{escape_controls(str(key))}={_argument(value, limit)}" for key, value in attributes.items()]
    if "traceparent" in args:
        parts.append(f"traceparent={_argument(args['traceparent'], limit)}")
    line = _head(event, ", ".join(parts)) + _failure(event, options)
    return f"{line}    {format_seconds(event.duration)}" + _slow_mark(event, options)


def is_llm_call(args: dict[str, Any] | None) -> bool:
    """Whether a call with these arguments goes to a model."""
    return any(isinstance(value := (args or {}).get(key), str) and LLM_PREFIX in value for key in ("path", "tool"))


def _sorted_args(event: SyscallEvent, *but: str) -> list[tuple[str, Any]]:
    named = [(escape_controls(str(key)), value) for key, value in (event.args or {}).items() if key not in but]
    return sorted(named, key=lambda pair: pair[0])  # by code point, which is the order of the UTF-8 bytes


def _argument(value: Any, limit: int | None) -> str:
    return quote(value, limit) if isinstance(value, str) else display_value(value, limit)


def _unquoted(value: Any, limit: int | None) -> str:
    return show_text(value, limit) if isinstance(value, str) else display_value(value, limit)


def _outcome(event: SyscallEvent, options: Options) -> str:
    if error := error_text(event.err):
        return f"err({show_text(error, _limit(options, _ERROR_LIMIT))})"
    return _result_text(event.result, _limit(options))


def _result_text(result: Any, limit: int | None) -> str:
    if result is None:
        return "<nil>"
    if isinstance(result, BaseException):
        return show_text(error_text(result), limit)
    return _unquoted(result, limit)


def _failure(event: SyscallEvent, options: Options) -> str:
    """What lines without a result show of an error."""
    return f" → {_outcome(event, options)}" if error_text(event.err) else ""


def _config_resolve(event: SyscallEvent, options: Options) -> str:
    """Which provider and model a process uses, and which setting decided it."""
    args, limit = event.args or {}, _limit(options)

    def shown(key: str) -> str:
        value = args.get(key)
        return "" if value is None else _unquoted(value, limit)

    parts = []
    for key in ("provider", "model"):
        source = _gray(f"[{shown(key + '_source')}]", event, options)
        parts.append(f"{key}={shown(key)} {source}")
    if shown("project_default"):
        parts.append(f"project_default={shown('project_default')}")
    line = _head(event, ", ".join(parts)) + _failure(event, options)
    return f"{line}    {format_seconds(event.duration)}"


def _reason_step(event: SyscallEvent, options: Options) -> str:
    """One turn of a reasoning loop; its result is prose, of which the first line is shown."""
    args, limit = event.args or {}, _limit(options)
    parts = []
    if "action" in args:
        parts.append(f"action={quote(_as_text(args['action']), limit)}")
    if "step" in args:
        parts.append(f"step={_whole_number(args['step'], limit)}")
    parts += [f"{key}={_unquoted(value, limit)}" for key, value in _sorted_args(event, "action", "step")]
    outcome = _outcome(event, options) if error_text(event.err) else _first_line(event.result, options)
    line = f"{_head(event, ', '.join(parts))} → {outcome}    {format_seconds(event.duration)}"
    return line + _slow_mark(event, options)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else display_value(value, VALUE_LIMIT)


def _whole_number(value: Any, limit: int | None) -> str:
    # Numbers that came through JSON may be floats; a step is counted in whole ones.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else _unquoted(value, limit)


def _first_line(result: Any, options: Options) -> str:
    if result is None:
        return "<nil>"
    text = result if isinstance(result, str) else _result_text(result, None)
    line = next((stripped for part in text.splitlines() if (stripped := part.strip())), None)
    if line is None:
        return "<nil>"
    return escape_controls(line if options.verbose else truncate_string(line, _REASON_LIMIT))


def _driver_step(event: SyscallEvent, options: Options) -> str:
    """What a model driver reports between calls: a remark, hence grey."""
    args = event.args or {}
    parts = []
    if args.get("tool"):
        parts.append(f"tool={_unquoted(args['tool'], _limit(options))}")
    if args.get("path"):
        path = _as_text(args["path"])
        if len(path) > _PATH_LIMIT and not options.verbose:
            path = "..." + path[-(_PATH_LIMIT - 3) :]  # the end of a path says more than its beginning
        parts.append(f"path={quote(path)}")
    if args.get("subtype"):
        parts.append(_unquoted(args["subtype"], _limit(options)))
    summary = _driver_summary(event)
    if summary and not options.verbose:
        summary = truncate_string(summary, _SUMMARY_LIMIT)
    line = _head(event, ", ".join(parts)) + (f" {quote(summary)}" if summary else "")
    return _gray(line + _failure(event, options), event, options)


def _driver_summary(event: SyscallEvent) -> str:
    args = event.args or {}
    for key in ("description", "command"):
        if args.get(key):
            return _as_text(args[key])
    content = args.get("content")
    if event.syscall == "DriverThinking" and content and content != args.get("subtype"):
        return _as_text(content)
    return ""
