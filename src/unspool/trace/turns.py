"""The steps of a recorded run as something that was said: what models answered, and what people and tools gave them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from unspool.events import CtxMessage, LLMResponseData, RecordEvent, RecordEventType, ToolCall
from unspool.trace.fitted import sent_by
from unspool.trace.from_recording import RecordedProcess, RecordedTrace
from unspool.trace.spans import Span, instant_ns, is_failing
from unspool.trace.suspects import Suspect, Turn, suspects

__all__ = ["suspect_steps", "turns_of"]

_MOST: Final = 5000  # steps that are compared with each other: the last ones of a longer run


def suspect_steps(trace: RecordedTrace) -> list[tuple[Span, Turn, Suspect]]:
    """The model calls of a run, the most suspect first, with why; none where there is nothing to choose from.

    Args:
        trace: with its readers still open: the messages are read from them.
    """
    turns = turns_of(trace)[-_MOST:]
    found = suspects([turn for _, turn in turns])
    return [(*turns[one.step], one) for one in found] if len(found) > 1 else []


def turns_of(trace: RecordedTrace) -> list[tuple[Span, Turn]]:
    """What was said, in the order in which it was known, with the span it belongs to. Each message once."""
    found = [part for process in trace.processes for part in _turns(process)]
    found.sort(key=lambda one: one[0])  # stable: what was sent together stays in its order
    return [(span, turn) for _, span, turn in found]


def _turns(process: RecordedProcess) -> Iterator[tuple[int, Span, Turn]]:
    yield from _given(process)
    for span, event in process.tools:
        yield span.end_time_ns or span.start_time_ns, span, _of_tool(process, span, event)
    for event in process.reader.bare_events():
        if event.type is not RecordEventType.LLM_RESPONSE or event.call is None:
            continue
        asked = process.calls.get(event.call)
        data = process.reader.whole(event).llm
        if asked is not None and data is not None and (text := _answer(data)):
            names = list(dict.fromkeys(call.name for call in data.tool_calls or ()))
            yield asked.end_time_ns or asked.start_time_ns, asked, Turn(process.agent.name, text, asks=names)


def _given(process: RecordedProcess) -> Iterator[tuple[int, Span, Turn]]:
    """What the agent put into prompts that no model said, where it was sent first."""
    reader = process.reader.sent()
    begun = instant_ns(process.reader.metadata.start_time)
    seen: set[tuple[str, str]] = set()
    for snapshot in process.snapshots:
        sent = sent_by(process, reader, snapshot)
        if sent is None:
            continue
        asked = process.calls.get(snapshot.call) if snapshot.call is not None else None
        for message in (part for element in sent.added for part in element.parts):
            key = message.role, message.content
            if key in seen or not _is_given(message, process, follows=sent.prev is not None):
                continue
            seen.add(key)
            # An agent's own turns that it did not get from a recorded model are examples, not decisions.
            yield begun + snapshot.timestamp, asked or process.agent, Turn(message.role, message.content, given=True)


def _is_given(message: CtxMessage, process: RecordedProcess, *, follows: bool) -> bool:
    if message.role == "assistant":
        return not follows
    return message.role != "tool" or not process.tools  # else its run is recorded


def _of_tool(process: RecordedProcess, span: Span, event: RecordEvent) -> Turn:
    whole = process.reader.whole(event).syscall if event.seq_num else None
    text = "" if whole is None else whole.err or _text(whole.result)
    return Turn(span.name, text, given=True, failed=is_failing(span))


def _answer(data: LLMResponseData) -> str:
    return "\n".join(part for part in (data.text or "", *map(_asked, data.tool_calls or ())) if part)


def _asked(call: ToolCall) -> str:
    return f"{call.name} {call.arguments}"


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        return ""
