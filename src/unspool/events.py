"""The vocabulary: every value that is written down, as msgspec Structs. No I/O.

Wire names, units and the order of keys are the format (docs/format.md). Structs grow by fields with defaults; a field
never changes its type. Readers ignore keys they do not know.

Times are integer nanoseconds: `timestamp` since the agent process was created, `duration` as measured by a monotonic
clock. Token counts are the provider's own; unknown is None, never 0.
"""

from __future__ import annotations

import copy
import time
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeAlias

from msgspec import Struct, field

from unspool.channel import EventChannel, Subscription, emit_event

__all__ = [
    "PID",
    "Body",
    "Context",
    "ContextSnapshotData",
    "CtxID",
    "CtxMessage",
    "ErrorData",
    "EventChannel",
    "HttpRequest",
    "HttpResponse",
    "LLMResponse",
    "LLMResponseData",
    "Part",
    "RecordEvent",
    "RecordEventType",
    "RecordMetadata",
    "RecordStatus",
    "SpanID",
    "StateChangeData",
    "Subscription",
    "SyscallEvent",
    "SyscallEventData",
    "TokenSnapshot",
    "ToolCall",
    "ToolDef",
    "TraceID",
    "Usage",
    "complete_event",
    "emit_event",
    "new_event",
    "record_event_from_syscall",
]

PID: TypeAlias = int
CtxID: TypeAlias = int
TraceID: TypeAlias = str  # 32 lower-case hex characters
SpanID: TypeAlias = str  # 32 lower-case hex characters; the W3C span id is the last 16


# --- what an agent asks of the outside -------------------------------------------------------------------------------


class SyscallEvent(Struct):
    """One call an agent process made, as it is traced live.

    `timestamp` and `duration` are nanoseconds; `timestamp` counts from the creation of the process and marks the
    start of the call. `err` is an exception or a text; None when the call succeeded.
    """

    timestamp: int
    pid: PID
    syscall: str
    args: dict[str, Any]
    result: Any = None
    err: BaseException | str | None = None
    duration: int = 0
    seq_num: int = 0
    trace_id: TraceID | None = None
    span_id: SpanID | None = None


def new_event(pid: PID, created_at: datetime | int, syscall: str, args: Mapping[str, Any] | None) -> SyscallEvent:
    """Start an event: its timestamp is the time since `created_at`; result, error and duration are unset.

    Args:
        pid: the agent process.
        created_at: when that process was created: an aware datetime, or a `time.monotonic_ns()` reading, which
            does not move when the wall clock is set.
        syscall: the name of the call.
        args: copied, so that a later change by the caller does not reach the event.
    """
    if isinstance(created_at, datetime):
        if created_at.tzinfo is None:
            raise ValueError("created_at must be an aware datetime, for example datetime.now(UTC)")
        age = datetime.now(UTC) - created_at
        elapsed = (age.days * 86_400 + age.seconds) * 1_000_000_000 + age.microseconds * 1_000
    else:
        elapsed = time.monotonic_ns() - created_at
    return SyscallEvent(timestamp=max(elapsed, 0), pid=pid, syscall=syscall, args=_copied(args or {}))


def _copied(args: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return copy.deepcopy(dict(args))
    except Exception:  # noqa: BLE001 - a lock, a socket, an object with its own ideas of copying
        return dict(args)


def complete_event(event: SyscallEvent, result: Any, err: BaseException | str | None, duration: int) -> None:
    """Fill in what is known when the call returns; a second call overwrites. `duration` is in nanoseconds."""
    if duration < 0:
        raise ValueError(f"duration must not be negative, got {duration}")
    event.result = result
    event.err = err
    event.duration = duration


# --- what a model sees and says --------------------------------------------------------------------------------------


class ToolCall(Struct, omit_defaults=True):
    """A call the model asked for. `arguments` is the JSON text exactly as the model wrote it."""

    name: str
    arguments: str = ""
    id: str | None = None


class ToolDef(Struct, omit_defaults=True):
    """A tool offered to the model; `schema` is the JSON Schema of its arguments.

    A `deferred` one is shown to the model when it has looked for it.
    """

    name: str
    description: str | None = None
    schema: Any = None
    deferred: bool = False


class Part(Struct, omit_defaults=True):
    """A piece of a message that is not plain text: `kind` is image, audio, file, reasoning or other.

    `data` is the provider's own JSON for it; `text` what can be read of it.
    """

    kind: str
    text: str | None = None
    data: Any = None


class CtxMessage(Struct, omit_defaults=True):
    """One message of a context. `content` is its text; what is not text is in `parts` and `tool_calls`."""

    role: str
    content: str
    tool_call_id: str | None = None
    tool_name: str | None = None
    tool_calls: list[ToolCall] | None = None
    parts: list[Part] | None = None


class Context(Struct, omit_defaults=True):
    """What the model sees in one call, in one form for all providers.

    `partial` says why this is not all the model saw: the request leaned on state the provider keeps.
    """

    messages: list[CtxMessage]
    system_prompt: str | None = None
    tools: list[ToolDef] = []
    params: dict[str, Any] = {}
    model: str | None = None
    provider: str | None = None
    stream: bool = False
    partial: str | None = None


class Usage(Struct, omit_defaults=True):
    """Token counts of one call, as the provider reported them; None is unknown.

    `input_tokens` counts all input, cached or not (providers differ: Anthropic reports the uncached rest);
    `cached_tokens` were read from the provider's prompt cache, `cache_write_tokens` written to it;
    `output_tokens` includes `reasoning_tokens`. `raw` keeps the provider's own object.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    raw: dict[str, Any] | None = None


class ErrorData(Struct, omit_defaults=True):
    """An error: `type` is the provider's code or the dotted name of the exception class.

    `cause` is the exception that a failed request was raised from.
    """

    type: str
    message: str = ""
    args: list[Any] | None = None
    cause: ErrorData | None = None


class LLMResponse(Struct, omit_defaults=True):
    """What the model answered, in one form for all providers. `partial` says why it is not whole."""

    text: str = ""
    tool_calls: list[ToolCall] = []
    reasoning: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    response_id: str | None = None
    error: ErrorData | None = None
    partial: str | None = None


# --- HTTP exchanges --------------------------------------------------------------------------------------------------


_DIGEST_WIRE = 43  # characters of a SHA-256 on disk, where it is base64url


class Body(Struct, omit_defaults=True):
    """Reference to the bytes of a request or response in the recording's pool.

    `sha256` (hex) and `size` are those of the whole, content-decoded body. `rope` lists its pieces in order:
    `=text` is literal, `#key` a piece, `@key` a persistent list, a tuple a template and its values; without a rope the
    pool has the body as one piece under the beginning of its digest. `encoding` is the content-encoding it travelled
    in. `missing` says why there are no bytes.
    """

    size: int = 0
    sha256: str | None = None
    rope: list[str | tuple[str | int, ...]] | None = None
    encoding: str | None = None
    missing: str | None = None

    def __post_init__(self) -> None:
        if self.sha256 is not None and len(self.sha256) == _DIGEST_WIRE:
            try:
                self.sha256 = urlsafe_b64decode(self.sha256 + "=").hex()
            except ValueError:  # damaged: no body has this digest
                return


class HttpRequest(Struct, omit_defaults=True):
    """The sent half of an exchange. On disk method, url, headers and client are in the pool under `head`."""

    method: str | None = None
    url: str | None = None
    headers: list[tuple[str, str]] | None = None
    head: str | None = None
    vary: dict[str, str] | None = None
    body: Body | None = None
    client: str | None = None


class HttpResponse(Struct, omit_defaults=True):
    """The received half of an exchange.

    `chunks` is `[size, µs, size, µs, …]`: how the body arrived, each delay counted from the piece before (the first
    from the start of the request). `complete` is false when the body ended early; `ended` says how.
    """

    status: int = 200
    reason: str | None = None
    headers: list[tuple[str, str]] | None = None
    head: str | None = None
    vary: dict[str, str] | None = None
    body: Body | None = None
    chunks: list[int] | None = None
    complete: bool = True
    ended: str | None = None


# --- events of a recording -------------------------------------------------------------------------------------------


class RecordEventType(StrEnum):
    """The four kinds of event; the values are the wire words."""

    SYSCALL = "syscall"
    CONTEXT_SNAPSHOT = "context_snapshot"
    LLM_RESPONSE = "llm_response"
    STATE_CHANGE = "state_change"


def _always_written() -> int:
    # A factory other than list, dict or set is never taken for a default, so `omit_defaults` keeps the key.
    return 0


class SyscallEventData(Struct, omit_defaults=True):
    """One completed call: `err` is "" when it succeeded; `ttft` is the time to the first byte, both in nanoseconds.

    `result_type` is the dotted class name where the result was not plain JSON, so that it cannot be given back as it
    was; `result_parts` names all such classes in it. `request` and `response` are the exchange of an HTTP request that
    is no model call.
    """

    syscall: str
    args: dict[str, Any] = {}
    result: Any = None
    err: str = ""
    duration: int = field(default_factory=_always_written)
    result_type: str | None = None
    ttft: int | None = None
    request: HttpRequest | None = None
    response: HttpResponse | None = None
    error: ErrorData | None = None
    result_parts: list[str] | None = None


class ContextSnapshotData(Struct, omit_defaults=True):
    """The context at one point. Messages are `CtxMessage`s or the reference's strings `[role] text`.

    Tools may be given as `ToolDef`s, by name, or as the dicts that providers take; they are kept as `ToolDef`s.

    On disk the messages are references: to the request's body where there is one, else `list` names a persistent list
    in the pool. `prev` is the seq_num of the snapshot this one extends and `kept` how many leading messages they share.
    """

    messages: list[CtxMessage | str] | None = None
    system_prompt: str | None = None
    tools: list[ToolDef] | None = None
    params: dict[str, Any] | None = None
    tokens: int | None = None
    provider: str | None = None
    model: str | None = None
    partial: str | None = None
    prev: int | None = None
    kept: int | None = None
    retry: bool = False
    message_list: str | None = field(default=None, name="list")
    request: HttpRequest | None = None

    def __post_init__(self) -> None:
        if self.tools and not all(type(tool) is ToolDef for tool in self.tools):
            self.tools = [_tool_def(tool) for tool in self.tools]


def _tool_def(tool: Any) -> ToolDef:
    if isinstance(tool, ToolDef):
        return tool
    if isinstance(tool, str):
        return ToolDef(tool)
    if not isinstance(tool, Mapping):
        raise TypeError(f"a tool is a ToolDef, a name or a dict, not {type(tool).__name__}")
    inner = tool.get("function")
    fields = inner if isinstance(inner, Mapping) else tool
    schemas = (fields.get(key) for key in ("schema", "parameters", "input_schema"))
    return ToolDef(
        name=str(fields.get("name") or fields.get("type") or ""),
        description=fields.get("description"),
        schema=next((schema for schema in schemas if schema is not None), None),
    )


class LLMResponseData(Struct, omit_defaults=True):
    """What the model answered. Token counts are the provider's; None is unknown.

    On disk text and tool calls are in `response.body`; a reader fills them in.
    """

    model: str | None
    request_tokens: int | None
    response_tokens: int | None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    finish_reason: str | None = None
    response_id: str | None = None
    request_id: str | None = None
    text: str | None = None
    tool_calls: list[ToolCall] | None = None
    reasoning: str | None = None
    partial: str | None = None
    response: HttpResponse | None = None
    error: ErrorData | None = None


class StateChangeData(Struct):
    """A transition of the agent process: created, running, waiting, zombie, dead."""

    from_state: str
    to_state: str
    reason: str


class RecordEvent(Struct, omit_defaults=True):
    """One line of a recording.

    Exactly one payload is set, the one `type` names. `call` is the number of the model call it belongs to, `step` of
    the turn, `task` its place in the tree of tasks and threads (`0`, `0.2`, `0.2.1`), `lane` the conversation, `at` the
    line of the agent's code. All of these count within one PID. `origin` says where an answer came from that is none of
    the ordinary kind: `served` from a recording, `edited` in a fork, or `live` in a rerun or fork.
    """

    type: RecordEventType
    seq_num: int
    timestamp: int
    pid: PID
    syscall: SyscallEventData | None = None
    context: ContextSnapshotData | None = None
    llm: LLMResponseData | None = None
    state: StateChangeData | None = None
    call: int | None = None
    step: int | None = None
    task: str | None = None
    lane: int | None = None
    at: str | None = None
    trace_id: TraceID | None = None
    span_id: SpanID | None = None
    parent_span_id: SpanID | None = None
    origin: str | None = None


def record_event_from_syscall(event: SyscallEvent) -> RecordEvent:
    """The recordable form of a live event; its seq_num is 0 until a recorder gives it one."""
    return RecordEvent(
        type=RecordEventType.SYSCALL,
        seq_num=0,
        timestamp=event.timestamp,
        pid=event.pid,
        syscall=SyscallEventData(
            syscall=event.syscall,
            args=event.args,
            result=event.result,
            err=_error_text(event.err),
            duration=event.duration,
        ),
        trace_id=event.trace_id,
        span_id=event.span_id,
    )


def _error_text(err: BaseException | str | None) -> str:
    if not isinstance(err, BaseException):
        return err or ""
    try:
        return str(err) or type(err).__name__
    except Exception:  # noqa: BLE001 - an exception class may fail to print itself
        return type(err).__name__


class TokenSnapshot(Struct):
    """Tokens in the context at one step; `delta_ms` is milliseconds since the process was created."""

    step: int
    tokens: int
    delta_ms: int = 0


# --- metadata --------------------------------------------------------------------------------------------------------


class RecordStatus(StrEnum):
    """State of a recording. `interrupted`: the writer died without closing it; nothing it wrote is lost."""

    RECORDING = "recording"
    COMPLETED = "completed"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"


class RecordMetadata(Struct):
    """What `metadata.json` says of a recording.

    Times are aware UTC datetimes, None while unset. `role` is `agent`, or `worker` for a child process the agent
    started by itself. `parent` is the record id of the process that started this one, `root` that of the first. Of a
    fork `parent` is the recording it left at event `forked_at`; `rerun_of` names the recording that was run again.
    `launched` is the command that `unspool run` was given in the folder `launched_in`, which started this process.
    """

    record_id: str
    pid: PID
    intent: str
    start_time: datetime | None = None
    end_time: datetime | None = None
    event_count: int = 0
    status: RecordStatus = RecordStatus.RECORDING
    format_version: int = 1
    parent: str | None = None
    parent_pid: PID | None = None
    root: str | None = None
    role: str = "agent"
    trace_id: TraceID | None = None
    span_base: str | None = None
    span_id: SpanID | None = None
    parent_span_id: SpanID | None = None
    command: list[str] | None = None
    cwd: str | None = None
    python: str | None = None
    unspool: str | None = None
    packages: dict[str, str] | None = None
    env: dict[str, str] | None = None
    env_names: list[str] | None = None
    host: str | None = None
    boot_id: str | None = None
    os_pid: int | None = None
    os_start: int | None = None
    exit_code: int | None = None
    lost_events: int = 0
    forked_at: int | None = None
    rerun_of: str | None = None
    launched: list[str] | None = None
    launched_in: str | None = None
    extra: dict[str, Any] = {}
