"""Imported runs as recordings: what every command reads, with the times of the file and not those of the import."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from msgspec import Struct

from unspool import __version__
from unspool.events import (
    ContextSnapshotData,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    StateChangeData,
    SyscallEventData,
)
from unspool.interop.imported import Item, ModelCall, Process, Run, Step, ToolUse
from unspool.recording.recorder import Recorder
from unspool.store import Store, new_hex_id

__all__ = ["WrittenProcess", "origin_fields", "write_run"]

NOWHERE: Final = {"host": None, "boot_id": None, "os_pid": None, "os_start": None}  # not this machine, not this process
_AGENT: Final = "00000001"


class WrittenProcess(Struct):
    """A recording that was made of one imported process."""

    record_id: str
    pid: int
    intent: str
    parent: str | None
    events: int
    model_calls: int
    tool_calls: int
    missing: list[str]


def origin_fields(source: str, format_name: str, digest: str) -> dict[str, Any]:
    """What the metadata of an imported recording says of where it comes from."""
    return {"source": source, "format": format_name, "sha256": digest}


def write_run(run: Run, store: Store, origin: dict[str, Any], *, trace_id: str | None = None) -> list[WrittenProcess]:
    """Write one recording for each process of a run; gives them in the run's order.

    Args:
        origin: see `origin_fields`.
        trace_id: of the trace they are part of; a new one by default.

    Raises:
        StoreError: the store does not take them.
    """
    store.ensure()
    trace_id = trace_id or new_hex_id()
    done: dict[str, _Writing] = {}
    found = []
    for process in run.processes:
        parent = done.get(process.parent or "")
        writing = _Writing(process, parent, store, origin, trace_id)
        found.append(writing.write())
        done[process.key] = writing
    return found


class _Writing:
    """One process while it is written."""

    def __init__(
        self, process: Process, parent: _Writing | None, store: Store, origin: dict[str, Any], trace_id: str
    ) -> None:
        self._process = process
        first = next((item.started_ns for item in process.items if item.started_ns is not None), None)
        began = process.started_ns if process.started_ns is not None else first
        self._began = began
        # Where in the recording the next item without a time stands; an instant of 0 would be an unset one.
        self._clock = 0 if began is not None else 1
        self.uses: dict[str, str] = {}  # span ids of tools by their key
        self._calls = self._tools = 0
        self._numbers = 1  # of spans
        imported = {**origin, "missing": process.missing, **({"details": process.details} if process.details else {})}
        self._recorder = Recorder(
            store.records,
            store.next_pid(),
            process.intent,
            fields={
                **NOWHERE,
                "start_time": _moment(began),
                "end_time": _moment(process.ended_ns),
                "parent": parent.record_id if parent is not None else None,
                "parent_pid": parent.pid if parent is not None else None,
                "root": parent.root if parent is not None else None,
                "parent_span_id": parent.span_of(process.parent_use) if parent is not None else None,
                "trace_id": trace_id,
                "cwd": process.cwd,
                "unspool": __version__,
                "extra": {"imported": imported},
            },
        )
        self.record_id: str = self._recorder.record_id
        self.pid: int = self._recorder.pid
        self.root: str = (parent.root if parent is not None else None) or self.record_id
        self._base = self._recorder.metadata.span_base or ""
        self._parent = parent

    def span_of(self, use: str | None) -> str:
        """The span that a process hangs under: that of the tool which started it, else the process's own."""
        return self.uses.get(use or "", self._base + _AGENT)

    def write(self) -> WrittenProcess:
        process, recorder = self._process, self._recorder
        with recorder:
            self._state("created", "running", "")
            for item in process.items:
                self._item(item)
            if process.ended_ns is not None and self._began is not None:
                self._clock = max(self._clock, process.ended_ns - self._began)
            self._state("running", "dead", f"exited: {process.failure}" if process.failure else "exited")
        return WrittenProcess(
            record_id=self.record_id,
            pid=self.pid,
            intent=process.intent,
            parent=self._parent.record_id if self._parent is not None else None,
            events=recorder.event_count,
            model_calls=self._calls,
            tool_calls=self._tools,
            missing=process.missing,
        )

    # --- events ------------------------------------------------------------------------------------------------------

    def _event(self, kind: RecordEventType, at: int, item: Item | None = None) -> RecordEvent:
        return RecordEvent(
            type=kind,
            seq_num=0,
            timestamp=at,
            pid=self.pid,
            call=self._calls or None,
            step=self._calls or None,
            task="0",
            parent_span_id=self._above(item) if item is not None else None,
        )

    def _above(self, item: Item) -> str:
        # A recording's own short ids are made whole on reading, ids that came with the file are whole already.
        return item.parent_span or (_AGENT if item.span is None else self._base + _AGENT)

    def _state(self, before: str, after: str, reason: str) -> None:
        event = RecordEvent(
            type=RecordEventType.STATE_CHANGE,
            seq_num=0,
            timestamp=self._clock,
            pid=self.pid,
            state=StateChangeData(before, after, reason),
            span_id=_AGENT,
        )
        self._recorder.write_event(event)

    def _item(self, item: Item) -> None:
        self._numbers += 1
        span = item.span or f"{self._numbers:08x}"
        if item.started_ns is not None and self._began is not None:
            at = max(item.started_ns - self._began, 0)
        elif item.offset is not None:
            at = item.offset
        else:
            at = self._clock  # right behind what came before: only the order is known
        self._clock = max(self._clock, at + (item.duration or 0))
        if isinstance(item, ModelCall):
            self._model_call(item, span, at)
        elif isinstance(item, ToolUse):
            self._tool(item, span, at)
        else:
            self._step(item, span, at)

    def _model_call(self, item: ModelCall, span: str, at: int) -> None:
        self._calls += 1
        answer, usage = item.answer, item.answer.usage
        model = item.model or answer.model
        snapshot = self._event(RecordEventType.CONTEXT_SNAPSHOT, at)
        snapshot.span_id = span
        snapshot.context = ContextSnapshotData(
            messages=list(item.messages),
            system_prompt=item.system_prompt,
            tools=item.tools,
            params=item.params,
            provider=item.provider,
            model=model,
            partial=item.partial,
        )
        self._recorder.write_event(snapshot)
        path = f"/dev/llm/{item.vendor or item.provider or 'unknown'}/{model or 'unknown'}"
        error = answer.error
        err = f"{error.type}: {error.message}".rstrip(": ") if error is not None else ""
        counts = (usage.input_tokens, usage.output_tokens) if usage is not None else (None, None)
        known = "+".join("?" if count is None else str(count) for count in counts) if usage is not None else "?"
        syscall = self._event(RecordEventType.SYSCALL, at, item)
        syscall.span_id = span
        syscall.syscall = SyscallEventData(
            syscall="LLMCall",
            args={"path": path, "messages": len(item.messages)},
            result=None if err else f"{known} tok {answer.finish_reason or ''}".rstrip(),
            err=err,
            duration=item.duration or 0,
            ttft=item.ttft,
            error=error,
        )
        self._recorder.write_event(syscall)
        ended = self._event(RecordEventType.LLM_RESPONSE, at + (item.duration or 0))
        ended.span_id = span
        ended.llm = LLMResponseData(
            model=model,
            request_tokens=counts[0],
            response_tokens=counts[1],
            cached_tokens=usage.cached_tokens if usage is not None else None,
            cache_write_tokens=usage.cache_write_tokens if usage is not None else None,
            reasoning_tokens=usage.reasoning_tokens if usage is not None else None,
            finish_reason=answer.finish_reason,
            response_id=answer.response_id,
            request_id=item.request_id,
            text=answer.text,
            tool_calls=answer.tool_calls or None,
            reasoning=answer.reasoning,
            partial=answer.partial,
            error=error,
        )
        self._recorder.write_event(ended)

    def _tool(self, item: ToolUse, span: str, at: int) -> None:
        self._tools += 1
        given = item.input if isinstance(item.input, dict) else {} if item.input is None else {"input": item.input}
        args = {"path": f"/dev/{'mcp' if item.mcp else 'tool'}/{item.name}", "input": given}
        self._syscall(item, "ToolCall", args, span=span, at=at)
        if item.key is not None:
            self.uses[item.key] = span if len(span) > len(_AGENT) else self._base + span

    def _step(self, item: Step, span: str, at: int) -> None:
        self._syscall(item, item.name, item.args, span=span, at=at)

    def _syscall(self, item: ToolUse | Step, name: str, args: dict[str, Any], *, span: str, at: int) -> None:
        event = self._event(RecordEventType.SYSCALL, at, item)
        event.span_id = span
        event.syscall = SyscallEventData(
            syscall=name, args=args, result=item.result, err=item.err, duration=item.duration or 0
        )
        self._recorder.write_event(event)


def _moment(instant_ns: int | None) -> datetime | None:
    if instant_ns is None:
        return None
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant_ns // 1000)
    except OverflowError:
        return None
