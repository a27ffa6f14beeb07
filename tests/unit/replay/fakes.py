"""A small recording in memory with the reader's interface."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from unspool.errors import NoSnapshot, SeqNotFound
from unspool.events import (
    Body,
    Context,
    ContextSnapshotData,
    CtxMessage,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    RecordMetadata,
    RecordStatus,
    StateChangeData,
    SyscallEventData,
    ToolCall,
)

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TENTH = 100_000_000


class Events(Sequence[RecordEvent]):
    """A lazy sequence that counts what is asked of it and makes a new event each time."""

    def __init__(self, make, count: int) -> None:
        self.make, self.count, self.asked = make, count, 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.count))]
        if not 0 <= index < self.count:
            raise IndexError(index)
        self.asked += 1
        return self.make(index)


class MemoryReader:
    """What replay asks of a recording, over a list of events sorted by seq_num."""

    def __init__(self, events: Sequence[RecordEvent], *, bodies: dict[str, bytes] | None = None, intent="test") -> None:
        self._events = events
        self._bodies = bodies or {}
        self.metadata = RecordMetadata(
            record_id="7-20260102T030405-abcd",
            pid=7,
            intent=intent,
            start_time=START,
            end_time=START + timedelta(seconds=83, milliseconds=900),
            event_count=999,
            status=RecordStatus.COMPLETED,
        )

    @property
    def event_count(self) -> int:
        return len(self._events)

    def event(self, seq_num: int) -> RecordEvent:
        return self._events[self.index_of(seq_num)]

    def events(self) -> Sequence[RecordEvent]:
        return self._events

    def events_in_range(self, first: int, last: int) -> list[RecordEvent]:
        return [event for event in self._events if first <= event.seq_num <= last]

    def index_of(self, seq_num: int) -> int:
        if isinstance(self._events, Events):
            if 1 <= seq_num <= len(self._events):
                return seq_num - 1
        else:
            for index, event in enumerate(self._events):
                if event.seq_num == seq_num:
                    return index
        raise SeqNotFound(self.metadata.record_id, seq_num, len(self._events))

    def context_at(self, seq_num: int) -> Context:
        for event in reversed(self._events[: self.index_of(seq_num) + 1]):
            if event.context is not None:
                data = event.context
                return Context(
                    messages=[m if isinstance(m, CtxMessage) else CtxMessage("user", m) for m in data.messages or []],
                    system_prompt=data.system_prompt,
                    tools=data.tools or [],
                    params=data.params or {},
                    model=data.model,
                    provider=data.provider,
                    partial=data.partial,
                )
        raise NoSnapshot(f"no context snapshot found before SeqNum {seq_num}", seq_num=seq_num)

    def body(self, body: Body) -> bytes | None:
        return self._bodies.get(body.sha256 or "")


def syscall(seq: int, name: str = "Open", args=None, result=None, *, err: str = "", duration: int = 0, **place):
    data = SyscallEventData(name, args or {}, result, err, duration)
    return RecordEvent(RecordEventType.SYSCALL, seq, seq * TENTH, 7, syscall=data, **place)


def snapshot(seq: int, *contents: str, retry: bool = False, kept: int | None = None, **place) -> RecordEvent:
    messages: list[CtxMessage | str] = [CtxMessage("user", content) for content in contents]
    data = ContextSnapshotData(messages=messages, provider="openai_chat", model="gpt-5", retry=retry, kept=kept)
    return RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, seq, seq * TENTH, 7, context=data, **place)


def answer(seq: int, text: str = "", *, tool_calls: list[ToolCall] | None = None, error=None, **place) -> RecordEvent:
    data = LLMResponseData("gpt-5", 1204, 85, text=text, tool_calls=tool_calls, error=error)
    return RecordEvent(RecordEventType.LLM_RESPONSE, seq, seq * TENTH, 7, llm=data, **place)


def state(seq: int, old: str = "created", new: str = "running", reason: str = "") -> RecordEvent:
    data = StateChangeData(old, new, reason)
    return RecordEvent(RecordEventType.STATE_CHANGE, seq, seq * TENTH, 7, state=data)


def agent_run() -> list[RecordEvent]:
    """Two steps: a question, a tool that fails, an answer."""
    return [
        state(1),
        snapshot(2, "find the whale", call=1, step=1, task="0"),
        syscall(3, "Read", {"path": "/dev/llm/openai/gpt-5"}, duration=1_200_000_000, call=1, step=1, task="0"),
        answer(4, "", tool_calls=[ToolCall("search", '{"q": "whale"}', "call_1")], call=1, step=1, task="0"),
        syscall(5, "Tool", {"path": "/dev/tool/search", "q": "Whale"}, err="no such ocean", call=1, step=1, task="0"),
        snapshot(6, "find the whale", "no such ocean", kept=1, call=2, step=2, task="0"),
        syscall(7, "Read", {"path": "/dev/llm/openai/gpt-5"}, duration=5_000_000, call=2, step=2, task="0"),
        answer(8, "It is white.\nAnd large.", call=2, step=2, task="0"),
    ]
