"""Recordings made by hand for the terminal views."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    ErrorData,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    StateChangeData,
    SyscallEventData,
    ToolCall,
)
from unspool.recording.recorder import Recorder
from unspool.store import Store

MS = 1_000_000


class Run:
    """Writes the events of one agent, a millisecond apart."""

    def __init__(
        self, store: Store, pid: int = 1, intent: str = "a run", *, fields: dict[str, object] | None = None
    ) -> None:
        self.recorder = Recorder(store.ensure().records, pid, intent, fields=fields)
        self.pid = pid
        self.origin: str | None = None
        self.at_ns: int | None = None  # of the events to come; None: a millisecond after the one before
        self.calls = 0
        self.messages = [CtxMessage("system", "be brief")]

    @property
    def record_id(self) -> str:
        return self.recorder.record_id

    def _write(self, kind: RecordEventType, **payload: object) -> None:
        number = self.recorder.metadata.event_count + 1
        at = number * MS if self.at_ns is None else self.at_ns
        payload.setdefault("origin", self.origin)
        self.recorder.write_event(RecordEvent(kind, 0, at, self.pid, **payload))  # type: ignore[arg-type]

    def state(self, before: str, after: str) -> None:
        self._write(RecordEventType.STATE_CHANGE, state=StateChangeData(before, after, ""))

    def ask(self, text: str) -> None:
        """The context of a model call."""
        self.calls += 1
        self.messages = [*self.messages, CtxMessage("user", text)]
        data = ContextSnapshotData(
            messages=list(self.messages), model="gpt-4o", provider="openai", kept=len(self.messages) - 1
        )
        self._write(RecordEventType.CONTEXT_SNAPSHOT, context=data, call=self.calls, step=self.calls)

    def answer(
        self, text: str, *, error: str = "", tokens: int | None = 100, calls: list[ToolCall] | None = None
    ) -> None:
        self._write(
            RecordEventType.SYSCALL,
            syscall=SyscallEventData(
                "LLMCall", {"path": "/dev/llm/openai/gpt-4o", "messages": len(self.messages)}, err=error, duration=MS
            ),
            call=self.calls,
            step=self.calls,
        )
        data = LLMResponseData("gpt-4o", tokens, 10, text=text, tool_calls=calls)
        if error:
            data = LLMResponseData("gpt-4o", None, None, error=ErrorData("http_429", error))
        else:
            self.messages = [*self.messages, CtxMessage("assistant", text, tool_calls=calls)]
        self._write(RecordEventType.LLM_RESPONSE, llm=data, call=self.calls, step=self.calls)

    def tool(self, name: str, given: object, result: object, *, err: str = "") -> None:
        args = {"path": f"/dev/tool/{name}", "input": given}
        data = SyscallEventData("ToolCall", args, result=result, err=err, duration=MS)
        self._write(RecordEventType.SYSCALL, syscall=data, call=self.calls, step=self.calls)

    def close(self) -> None:
        self.recorder.close()


def small(store: Store) -> Run:
    """Two steps with a tool between them that fails and is called again: twelve events."""
    run = Run(store)
    run.state("created", "running")
    run.ask("what is the exchange rate")
    run.answer("I look it up", calls=[ToolCall("rate", '{"pair": "EUR/USD"}', "c1")])
    run.tool("rate", {"pair": "EUR/USD"}, None, err="TimeoutError: no answer")
    run.tool("rate", {"pair": "EUR/USD"}, {"rate": 1.0837, "source": "zanzibar-feed"})
    run.messages = [
        *run.messages,
        CtxMessage("tool", '{"rate": 1.0837, "source": "zanzibar-feed"}', tool_call_id="c1", tool_name="rate"),
    ]
    run.ask("and then")
    run.answer("The rate is 1.0837, says zanzibar-feed")
    run.state("running", "dead")
    run.close()
    return run


def hostile(store: Store) -> Run:
    """Terminal sequences, direction marks, NUL and very long lines wherever a text can be."""
    nasty = "\x1b]0;title\x07\x1b[2J\x1b[31mred\x9b5m\u202eesrever\x00\r\n\t[bold]markup[/bold] $(x)"
    run = Run(store, intent=nasty)
    run.state(nasty, nasty)
    run.messages = [CtxMessage("system", nasty), CtxMessage(nasty, nasty, tool_name=nasty, tool_call_id=nasty)]
    run.ask(nasty + "x" * 5_000_000)
    run.answer(nasty, calls=[ToolCall(nasty, nasty, nasty)])
    run.tool(nasty, {nasty: nasty}, nasty * 1000, err=nasty)
    run.ask(nasty)
    run.answer(nasty, error=nasty)
    run.close()
    return run


def pictured(store: Store) -> tuple[str, str]:
    """A run and a fork of it that are the same each time they are made: ids, times and all; gives both ids."""
    begun = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    names = ("1-20260102T030405-aaaa", "2-20260102T030505-bbbb")
    fork = {"parent": names[0], "forked_at": 6}
    for number, (name, rest) in enumerate(zip(names, ({}, fork), strict=True)):
        start = begun + timedelta(minutes=number)
        fields = {"start_time": start, "end_time": start + timedelta(milliseconds=40), **rest}
        run = Run(store, number + 1, "convert the invoice to dollars", fields=fields)
        run.origin = "served" if number else None
        run.state("created", "running")
        run.ask("The invoice is over 249.00 EUR. What is that in USD?")
        run.answer("I look the rate up.", calls=[ToolCall("rate", '{"pair": "EUR/USD"}', "c1")], tokens=412)
        run.tool("rate", {"pair": "EUR/USD"}, None, err="TimeoutError: rates.example: no answer within 2 s")
        run.origin = "live" if number else None
        found = {"pair": "EUR/USD", "rate": (1.25, 1.08)[number], "as_of": ("2018-02-01", "2026-01-02")[number]}
        run.tool("rate", {"pair": "EUR/USD"}, found)
        result = json.dumps(found)
        run.messages = [*run.messages, CtxMessage("tool", result, tool_call_id="c1", tool_name="rate")]
        run.ask("And rounded to cents?")
        run.answer(("311.25 USD, at the rate of 2018-02-01", "268.92 USD, at the rate of today")[number], tokens=498)
        if not number:
            run.ask("Thank you.")
            run.answer("", error="429 Too Many Requests")
        run.state("running", "dead")
        run.close()
        renamed(store, run.record_id, name)
    return names


def renamed(store: Store, record_id: str, name: str) -> None:
    """Give a recording another id."""
    path = store.records / record_id / "metadata.json"
    path.write_text(path.read_text().replace(record_id, name))
    (store.records / record_id).rename(store.records / name)


def path_of(folder: Path) -> Store:
    """A store in a folder."""
    return Store(folder / "store")
