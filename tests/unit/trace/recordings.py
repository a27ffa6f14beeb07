"""Recordings made by hand for the trace tests, with exact times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    StateChangeData,
    SyscallEventData,
)
from unspool.recording.reader import RecordReader
from unspool.recording.recorder import Recorder
from unspool.trace.rates import Rates

MS = 1_000_000
CHEAP = Rates(input=1e-6, output=4e-6, cached=1e-7, cache_write=2e-6)


def prices(vendor: str, model: str, at_ns: int, input_tokens: int) -> Rates | None:
    """Every model of `acme` costs the same, others are unknown."""
    return CHEAP if vendor == "acme" else None


class Tape:
    """Writes a recording; times are milliseconds since its start."""

    def __init__(self, folder: Path, pid: int = 1, intent: str = "test", **fields: Any) -> None:
        self.recorder = Recorder(folder, pid, intent, fields=fields)
        self.calls = 0
        self._spans = 1

    def write(self, kind: RecordEventType, at: float, **fields: Any) -> None:
        self.recorder.write_event(
            RecordEvent(type=kind, seq_num=0, timestamp=int(at * MS), pid=self.recorder.pid, **fields)
        )

    def span(self) -> str:
        self._spans += 1
        return f"{self._spans:08x}"

    def model(
        self, at: float, took: float = 10, *, messages: list[CtxMessage] | None = None, read: int | None = 100,
        written: int | None = 10, err: str = "", retry: bool = False, vendor: str = "acme", model: str = "big",
        answered: bool = True, step: int | None = None, prev: int | None = None, **counts: Any,
    ) -> str:  # fmt: skip
        """A model call: three events, or the first of them alone."""
        self.calls += 1
        span = self.span()
        common = {"call": self.calls, "step": step or self.calls, "task": "0", "span_id": span}
        said = messages if messages is not None else [CtxMessage("user", "hi")]
        context = ContextSnapshotData(messages=list(said), provider="openai_chat", model=model, retry=retry)
        self.write(RecordEventType.CONTEXT_SNAPSHOT, at, context=context, lane=1, **common)
        if not answered:
            return span
        args: dict[str, Any] = {"path": f"/dev/llm/{vendor}/{model}", "messages": len(said)}
        if retry:
            args["retry"] = True
        call = SyscallEventData("LLMCall", args, None if err else "ok", err, int(took * MS))
        self.write(RecordEventType.SYSCALL, at, syscall=call, parent_span_id="00000001", **common)
        answer = LLMResponseData(model, None if err else read, None if err else written, **counts)
        self.write(RecordEventType.LLM_RESPONSE, at + took, llm=answer, **common)
        return span

    def tool(self, at: float, took: float = 5, *, name: str = "search", args: Any = None, result: Any = "found",
             err: str = "", parent: str = "00000001", call: int | None = None) -> str:  # fmt: skip
        """A tool call; it belongs to the last model call unless `call` says otherwise."""
        span = self.span()
        data = SyscallEventData(
            "ToolCall", {"path": f"/dev/tool/{name}", "input": args or {}}, None if err else result, err, int(took * MS)
        )
        number = call if call is not None else self.calls or None
        self.write(
            RecordEventType.SYSCALL, at, syscall=data, call=number, task="0", span_id=span, parent_span_id=parent
        )
        return span

    def end(self, at: float, reason: str = "exited", **closing: Any) -> None:
        self.write(RecordEventType.STATE_CHANGE, at, state=StateChangeData("running", "dead", reason))
        self.recorder.close(**closing)

    def read(self) -> RecordReader:
        return RecordReader(self.recorder.record_dir, live=True)
