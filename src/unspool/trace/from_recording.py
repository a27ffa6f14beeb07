"""The spans of a recorded run, from its recordings alone: an agent span for each process, and one for each call.

Nothing but the events and the starts is read: no body, no message. What has begun and not ended is a span with the
status `open`, so an agent that hangs or was killed shows where.

Attributes have OpenTelemetry's names (GenAI conventions) where it has one, and begin with `unspool.` otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct, field

from unspool.events import (
    RecordEvent,
    RecordEventType,
    RecordMetadata,
    RecordStatus,
    SpanID,
    StateChangeData,
    SyscallEventData,
    TraceID,
)
from unspool.recording.reader import RecordReader
from unspool.trace import names
from unspool.trace.names import call_name, hex_digest, usage_attributes, value_digest
from unspool.trace.own import SPAN, hang_below_remote, own_attributes, stated_attributes
from unspool.trace.quiet import gc_paused
from unspool.trace.rates import PriceList, cost_of, is_sent
from unspool.trace.relatives import join_processes, lost_trace_ids
from unspool.trace.spans import Span, SpanStatus, instant_ns
from unspool.trace.starts import recorded_starts
from unspool.tracecontext import format_traceparent

__all__ = ["RecordedProcess", "RecordedTrace", "recorded_trace"]

_AGENT: Final = "00000001"  # the short id of a process's own span
_LLM, _TOOL, _MCP, _AGENT_PATH = "/dev/llm/", "/dev/tool/", "/dev/mcp/", "/dev/agent/"
_SHORT = 8


class RecordedProcess(Struct):
    """One process of a run: its own span, those of its model calls by their number, those of its tools, and the
    snapshots of its contexts as they are on disk.
    """

    reader: RecordReader
    agent: Span
    calls: dict[int, Span] = {}
    tools: list[tuple[Span, RecordEvent]] = []
    snapshots: list[RecordEvent] = []


class RecordedTrace(Struct):
    """The spans of a run, the process that began first at the front. `until_ns` is the last instant known of it."""

    spans: list[Span] = field(default_factory=list)
    processes: list[RecordedProcess] = field(default_factory=list)
    until_ns: int = 0


def recorded_trace(
    readers: Sequence[RecordReader], *, prices: PriceList | None = None, now_ns: int = 0
) -> RecordedTrace:
    """The spans of these recordings as one trace.

    The span of a process hangs under the span that started it, else under the process that did; one whose parent is not
    among these recordings has none.

    Args:
        prices: what tokens cost; without it nothing has a cost.
        now_ns: how long what still runs has lasted, ns of the Unix epoch.
    """
    trace = RecordedTrace()
    with gc_paused():
        traces = lost_trace_ids(readers)
        parts = [_OneRecording(reader, prices, traces.get(reader.record_id)) for reader in readers]
        for one in parts:
            one.read()
        lived = _last_signs_of_life(parts)
        for one in parts:
            one.finish(lived.get(one.os_process, 0))
            trace.processes.append(one.process)
            trace.spans += one.spans
            trace.until_ns = max(trace.until_ns, now_ns if one.is_alive else one.end_ns)
        _settle_workers(parts)
        join_processes(trace.processes, {span.span_id for span in trace.spans})
        hang_below_remote(trace.spans)
    trace.processes.sort(key=lambda one: (one.agent.start_time_ns, one.agent.span_id))
    return trace


def _last_signs_of_life(parts: list[_OneRecording]) -> dict[object, int]:
    """The last instant known of each OS process: the agents in one that was killed died together."""
    found: dict[object, int] = {}
    for one in parts:
        if one.os_process is not None:
            found[one.os_process] = max(found.get(one.os_process, 0), one.end_ns)
    return found


def _settle_workers(parts: list[_OneRecording]) -> None:
    """Take the workers that were stopped while they had nothing to do for ended: a pool does that to its own."""
    by_id = {one.reader.record_id: one for one in parts}
    for one in sorted(parts, key=lambda part: part.reader.metadata.pid):  # who started it has the lower number
        metadata = one.reader.metadata
        above = by_id.get(metadata.parent or "")
        if metadata.role == "worker" and above is not None and above.process.agent.status is SpanStatus.OK:
            one.end_idle()


class _OneRecording:
    """The spans of one recording, while its events go by."""

    def __init__(self, reader: RecordReader, prices: PriceList | None, trace_id: TraceID | None) -> None:
        metadata = reader.metadata
        self.reader = reader
        self.is_alive = metadata.status is RecordStatus.RECORDING
        self.spans: list[Span] = []
        self._prices = prices
        self._start = instant_ns(metadata.start_time)
        self._base = metadata.span_base or hex_digest(metadata.record_id.encode("utf-8", "replace"))[:24]
        self._trace_id = (
            metadata.trace_id
            or trace_id
            or hex_digest(b"trace " + (metadata.root or metadata.record_id).encode("utf-8", "replace"))
        )
        self._last = 0  # the latest instant named, in ns since the start
        self._ended: int | None = None
        self._steps: dict[int, int] = {}  # snapshots that still wait for their answer, by call: index
        self._unpaired: Span | None = None  # a model call of a recording that numbers none
        self.process = RecordedProcess(reader, self._agent(metadata), {}, [], [])
        self.spans.append(self.process.agent)

    @property
    def os_process(self) -> object:
        """What tells its OS process from all others; None if it is not known."""
        metadata = self.reader.metadata
        return (metadata.host, metadata.boot_id, metadata.os_pid, metadata.os_start) if metadata.os_pid else None

    @property
    def end_ns(self) -> int:
        """The last instant that is known of the process."""
        return self._start + (self._last if self._ended is None else max(self._ended, self._last))

    def read(self) -> None:
        """Go through the events, and the starts that have no end."""
        handlers: dict[RecordEventType, Callable[[RecordEvent], None]] = {
            RecordEventType.SYSCALL: self._syscall,
            RecordEventType.CONTEXT_SNAPSHOT: self._snapshot,
            RecordEventType.LLM_RESPONSE: self._answer,
            RecordEventType.STATE_CHANGE: self._state,
        }
        for event in self.reader.bare_events():
            self._last = max(self._last, event.timestamp)
            handlers[event.type](event)
        self._still_open()

    def finish(self, lived_until: int) -> None:
        """Give an end to what has none: that of the process, or for one that was killed the last that is known of it.

        Args:
            lived_until: the last instant known of its OS process, ns of the Unix epoch; 0 if it is not known.
        """
        if self.reader.metadata.status is RecordStatus.INTERRUPTED:
            self._last = max(self._last, lived_until - self._start)
        self._end_agent()

    def end_idle(self) -> None:
        """It was stopped from outside, and for that alone it has not ended: no call was open."""
        is_stopped = self.reader.metadata.status is RecordStatus.INTERRUPTED
        if is_stopped and [span for span in self.spans if span.status is SpanStatus.OPEN] == [self.process.agent]:
            self.process.agent.status = SpanStatus.OK

    # --- the process -------------------------------------------------------------------------------------------------

    def _agent(self, metadata: RecordMetadata) -> Span:
        command = metadata.command or []
        name = metadata.intent or (command[0].rpartition("/")[2] if command else "") or f"PID {metadata.pid}"
        attributes: dict[str, Any] = {"gen_ai.operation.name": "invoke_agent", names.RECORD_ID: metadata.record_id}
        if metadata.intent:
            attributes["gen_ai.agent.name"] = metadata.intent
        if metadata.role != "agent":
            attributes["unspool.role"] = metadata.role
        if metadata.parent is None and metadata.parent_span_id:  # begun by another tracer
            remote = format_traceparent(self._trace_id, metadata.parent_span_id)
            if remote is not None:
                attributes[names.REMOTE] = remote
        return Span(
            trace_id=self._trace_id,
            span_id=metadata.span_id or self._base + _AGENT,
            parent_span_id=metadata.parent_span_id or "",
            pid=max(metadata.pid, 0),
            name=name,
            start_time_ns=self._start,
            attributes=attributes,
        )

    def _state(self, event: RecordEvent) -> None:
        data = event.state or StateChangeData("", "", "")
        if data.to_state in ("dead", "zombie"):
            self._ended = event.timestamp
            if ": " in data.reason:  # `exited: ValueError: no index`
                self._fail(self.process.agent, data.reason.partition(": ")[2])

    def _end_agent(self) -> None:
        agent, metadata = self.process.agent, self.reader.metadata
        if self._ended is None and metadata.end_time is not None:
            self._ended = max(instant_ns(metadata.end_time) - self._start, 0)
        if metadata.exit_code and agent.status is SpanStatus.OK:
            code = metadata.exit_code
            self._fail(agent, f"killed by signal {code - 128}" if code > 128 else f"exit code {code}")
        if self.is_alive or metadata.status is RecordStatus.INTERRUPTED:
            agent.status = SpanStatus.OPEN
            agent.attributes["unspool.state"] = str(metadata.status)
        for span in self.spans:
            # What is open in a process that is over lasted until then; in one that is alive, until now.
            if span.status is SpanStatus.OPEN and self.is_alive:
                span.end_time_ns = span.duration = 0
            elif not span.end_time_ns:
                span.end_time_ns = max(self.end_ns, span.start_time_ns)
                span.duration = span.end_time_ns - span.start_time_ns

    # --- calls -------------------------------------------------------------------------------------------------------

    def _span(self, event: RecordEvent, name: str, kind: str, duration: int, attributes: dict[str, Any]) -> Span:
        attributes[names.SEQ] = event.seq_num
        if event.call is not None:
            attributes[names.CALL] = event.call
        if event.step is not None:
            attributes[names.STEP] = event.step
        if event.at is not None:
            attributes[names.WHERE] = event.at
        if event.origin is not None:
            attributes[names.ORIGIN] = event.origin
        duration = max(duration, 0)  # a damaged file may say otherwise
        start = self._start + event.timestamp
        self._last = max(self._last, event.timestamp + duration)
        span = Span(
            trace_id=event.trace_id or self._trace_id,
            span_id=event.span_id or hex_digest(f"{self._base} {event.seq_num}".encode("utf-8", "replace")),
            parent_span_id=event.parent_span_id or self.process.agent.span_id,
            pid=self.process.agent.pid,
            name=name,
            start_time_ns=start,
            end_time_ns=start + duration,
            duration=duration,
            kind=kind,
            attributes=attributes,
        )
        self.spans.append(span)
        return span

    def _syscall(self, event: RecordEvent) -> None:
        data = event.syscall
        if data is None:
            return
        self.process.agent.syscall_count += 1
        path = data.args.get("path")
        path = path if isinstance(path, str) else ""
        if path.startswith(_LLM):
            self._model_call(event, data, path)
            return
        if event.span_id is None and not data.duration and self.reader.metadata.span_base is not None:
            return  # the audit hook's `attempted`: an instant of a call that is recorded elsewhere, or of none
        attributes: dict[str, Any] = {names.PATH: path}
        is_tool = path.startswith((_TOOL, _MCP))
        if is_tool:
            attributes["gen_ai.operation.name"] = "execute_tool"
            attributes[names.TOOL_NAME] = call_name(data.syscall, path)
            attributes[names.ARGS] = value_digest(data.args.get("input", data.args))
            attributes[names.RESULT] = value_digest(data.err or data.result)
        elif data.syscall == SPAN:
            attributes = stated_attributes(self.reader, event) | attributes
        elif data.args:
            attributes[names.ARGS] = value_digest(data.args)
        span = self._span(event, call_name(data.syscall, path, data.args), "tool" if is_tool else "other",
                          data.duration, attributes)  # fmt: skip
        if data.err:
            self._fail(span, data.err, data.error.type if data.error is not None else "")
        if is_tool:
            self.process.tools.append((span, event))

    def _model_call(self, event: RecordEvent, data: SyscallEventData, path: str) -> None:
        vendor, _, model = path.removeprefix(_LLM).partition("/")
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            names.PATH: path,
            names.PROVIDER: vendor,
            names.REQUEST_MODEL: model,
        }
        if data.args.get("retry"):
            attributes[names.RETRY] = True
        if data.ttft is not None:
            attributes["gen_ai.response.time_to_first_chunk"] = data.ttft / 1e9
        span = self._span(event, model or vendor or "model", "llm", data.duration, attributes)
        span.tokens_used = None
        if data.err:
            self._fail(span, data.err, data.error.type if data.error is not None else "")
            span.tokens_used = 0  # until an answer says otherwise
        if event.call is None:
            self._unpaired = span
        else:
            self.process.calls[event.call] = span
            snapshot = self._waiting(event.call)
            if snapshot is not None:
                self._add_snapshot(span, snapshot)

    def _waiting(self, call: int) -> RecordEvent | None:
        index = self._steps.pop(call, None)
        return None if index is None else self.process.snapshots[index]

    def _add_snapshot(self, span: Span, snapshot: RecordEvent) -> None:
        if snapshot.lane is not None:
            span.attributes[names.LANE] = snapshot.lane
        if snapshot.at is not None:
            span.attributes[names.WHERE] = snapshot.at
        request = snapshot.context.request if snapshot.context is not None else None
        if request is not None and request.body is not None and request.body.sha256:
            span.attributes[names.ARGS] = request.body.sha256[:16]

    def _snapshot(self, event: RecordEvent) -> None:
        if event.call is not None:
            self._steps[event.call] = len(self.process.snapshots)
        self.process.snapshots.append(event)

    def _answer(self, event: RecordEvent) -> None:
        data = event.llm
        if data is None:
            return
        span = self.process.calls.get(event.call) if event.call is not None else self._unpaired
        if span is None:  # nobody said when it was asked for
            attributes: dict[str, Any] = {"gen_ai.operation.name": "chat"}
            span = self._span(event, data.model or "model", "llm", 0, attributes)
            span.tokens_used = None
            if event.call is not None:
                self.process.calls[event.call] = span
        self._unpaired = None
        attributes = span.attributes
        attributes.update(usage_attributes(data))
        if data.model:
            attributes[names.MODEL] = data.model
        if data.finish_reason:
            attributes["gen_ai.response.finish_reasons"] = [data.finish_reason]
        if not is_sent(span):
            span.tokens_used = 0
        elif data.request_tokens is not None or data.response_tokens is not None:
            span.tokens_used = max(data.request_tokens or 0, 0) + max(data.response_tokens or 0, 0)
        if data.error is not None and span.status is SpanStatus.OK:
            self._fail(span, f"{data.error.type}: {data.error.message}".rstrip(": "), data.error.type)
        span.cost_usd = None if self._prices is None else cost_of(span, self._prices)

    def _fail(self, span: Span, message: str, error_type: str = "") -> None:
        kind = error_type or message.partition(":")[0]
        timed_out = "timeout" in kind.lower() or kind.startswith("408")
        span.status = SpanStatus.TIMEOUT if timed_out else SpanStatus.ERROR
        span.attributes[names.ERROR_MESSAGE] = message
        if error_type:
            span.attributes["error.type"] = error_type

    # --- what has not ended ------------------------------------------------------------------------------------------

    def _still_open(self) -> None:
        for index in self._steps.values():
            event = self.process.snapshots[index]
            model = (event.context.model if event.context is not None else None) or "model"
            attributes = {"gen_ai.operation.name": "chat", names.REQUEST_MODEL: model}
            span = self._span(event, model, "llm", 0, attributes)
            self._open(span, event)
            if event.call is not None:
                self.process.calls[event.call] = span
        self._steps = {}
        known = {span.span_id for span in self.spans}
        for start in recorded_starts(self.reader):
            span_id = self._whole(start.span_id)
            if not span_id or span_id in known:
                continue
            known.add(span_id)
            event = RecordEvent(
                type=RecordEventType.SYSCALL,
                seq_num=0,
                timestamp=max(start.start, 0),
                pid=self.process.agent.pid,
                call=start.call,
                at=start.at,
                span_id=span_id,
                parent_span_id=self._whole(start.parent_span_id),
            )
            is_tool = start.path.startswith((_TOOL, _MCP))
            attributes, name = {names.PATH: start.path}, call_name(start.name, start.path)
            if is_tool:
                attributes |= {"gen_ai.operation.name": "execute_tool", names.TOOL_NAME: name}
            elif start.name == SPAN:
                attributes = own_attributes(start.attributes, start.traceparent) | attributes
            self._open(self._span(event, name, "tool" if is_tool else "other", 0, attributes), event)

    def _open(self, span: Span, event: RecordEvent) -> None:
        span.status, span.end_time_ns, span.duration = SpanStatus.OPEN, 0, 0
        span.tokens_used = None if span.kind == "llm" else 0
        if not event.seq_num:
            del span.attributes[names.SEQ]  # it has no event
        self._add_snapshot(span, event)

    def _whole(self, span_id: str | None) -> SpanID:
        return self._base + span_id.zfill(_SHORT) if span_id and len(span_id) <= _SHORT else span_id or ""
