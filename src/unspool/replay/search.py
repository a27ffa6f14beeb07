"""What an event says, as text to search in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from unspool.events import ContextSnapshotData, CtxMessage, ErrorData, LLMResponseData, RecordEvent, SyscallEventData
from unspool.text import display_value

__all__ = ["mentions"]


def mentions(event: RecordEvent, text: str) -> bool:
    """Whether anything in the event contains `text`, in upper or lower case."""
    wanted = text.casefold()
    return any(wanted in said.casefold() for said in _texts(event))


def _texts(event: RecordEvent) -> Iterator[str]:
    if event.syscall is not None:
        yield from _of_syscall(event.syscall)
    elif event.context is not None:
        yield from _of_context(event.context)
    elif event.llm is not None:
        yield from _of_llm(event.llm)
    elif event.state is not None:
        yield from (event.state.from_state, event.state.to_state, event.state.reason)


def _of_syscall(data: SyscallEventData) -> Iterator[str]:
    yield data.syscall
    yield from _of_value(data.args)
    yield from _of_value(data.result)
    yield data.err
    yield from _of_error(data.error)
    if data.request is not None:
        yield data.request.url or ""


def _of_context(data: ContextSnapshotData) -> Iterator[str]:
    # What was kept from the snapshot before is found there.
    kept = data.kept or 0
    if not kept:
        yield data.system_prompt or ""
    yield from (data.provider or "", data.model or "")
    for message in (data.messages or [])[kept:]:
        yield from _of_message(message)


def _of_message(message: CtxMessage | str) -> Iterator[str]:
    if isinstance(message, str):
        yield message
        return
    yield from (message.content, message.tool_name or "", message.tool_call_id or "")
    for call in message.tool_calls or []:
        yield from (call.name, call.arguments)
    for part in message.parts or []:
        yield part.text or ""


def _of_llm(data: LLMResponseData) -> Iterator[str]:
    yield from (data.model or "", data.text or "", data.reasoning or "", data.finish_reason or "")
    yield from (data.response_id or "", data.request_id or "")
    for call in data.tool_calls or []:
        yield from (call.name, call.arguments, call.id or "")
    yield from _of_error(data.error)


def _of_error(error: ErrorData | None) -> Iterator[str]:
    if error is not None:
        yield from (error.type, error.message)


def _of_value(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _of_value(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _of_value(item)
    elif value is not None:
        yield display_value(value)
