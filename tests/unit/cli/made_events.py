"""Events made by hand."""

from __future__ import annotations

from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    StateChangeData,
    SyscallEventData,
)


def state(before: str = "created", after: str = "running", reason: str = "") -> RecordEvent:
    return RecordEvent(
        type=RecordEventType.STATE_CHANGE,
        seq_num=0,
        timestamp=0,
        pid=1,
        state=StateChangeData(from_state=before, to_state=after, reason=reason),
    )


def syscall(
    name: str, path: str, *, at: int = 0, err: str = "", duration: int = 1000, result=None, **more
) -> RecordEvent:
    return RecordEvent(
        type=RecordEventType.SYSCALL,
        seq_num=0,
        timestamp=at,
        pid=1,
        syscall=SyscallEventData(syscall=name, args={"path": path}, err=err, duration=duration, result=result),
        **more,
    )


def tool(name: str = "search", **more) -> RecordEvent:
    return syscall("ToolCall", f"/dev/tool/{name}", **more)


def snapshot(call: int | None = None, *, retry: bool = False, text: str = "hi") -> RecordEvent:
    return RecordEvent(
        type=RecordEventType.CONTEXT_SNAPSHOT,
        seq_num=0,
        timestamp=0,
        pid=1,
        call=call,
        step=call,
        context=ContextSnapshotData(messages=[CtxMessage("user", text)], model="gpt-4.1-mini", retry=retry),
    )


def answer(
    call: int | None = None, read: int | None = 1000, written: int | None = 100, *, model="gpt-4.1-mini", **more
) -> RecordEvent:
    return RecordEvent(
        type=RecordEventType.LLM_RESPONSE,
        seq_num=0,
        timestamp=0,
        pid=1,
        call=call,
        llm=LLMResponseData(model=model, request_tokens=read, response_tokens=written, **more),
    )


def model_call(call: int, *, vendor: str = "openai", model: str = "gpt-4.1-mini", **more) -> list[RecordEvent]:
    """The three events of an answered call."""
    return [
        snapshot(call),
        syscall("LLMCall", f"/dev/llm/{vendor}/{model}", call=call),
        answer(call, model=model, **more),
    ]
