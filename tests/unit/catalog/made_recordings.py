"""Events of made-up runs, and what a search should find in them."""

from __future__ import annotations

from unspool.catalog.texts import TextReader, fold
from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    SyscallEventData,
    ToolCall,
)
from unspool.recording.reader import RecordReader


def model_call(call, text="hello", *, model="gpt-4.1-mini", read=1000, written=100, messages=None):
    """The three events of a model call; its question and its answer hold `text`."""
    at, said = call * 1_000_000_000, [ToolCall("search", f'{{"q": "{call}"}}', f"c{call}")]
    context = ContextSnapshotData(
        messages=messages or [CtxMessage("user", f"{text} asked {call}")], system_prompt="be brief",
        provider="openai_chat", model=model,
    )  # fmt: skip
    asked = SyscallEventData("LLMCall", {"path": f"/dev/llm/openai/{model}"}, None, "", 1000)
    answer = LLMResponseData(model, read, written, text=f"{text} answered {call}", tool_calls=said)
    yield RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, at, 1, context=context, call=call, step=call)
    yield RecordEvent(RecordEventType.SYSCALL, 0, at, 1, syscall=asked, call=call, step=call)
    yield RecordEvent(RecordEventType.LLM_RESPONSE, 0, at + 1000, 1, llm=answer, call=call, step=call)


def tool(text="found", err="", at=1_500_000_000):
    """A tool call that gave, or failed with, a text."""
    data = SyscallEventData("ToolCall", {"path": "/dev/tool/search", "input": {"q": text}}, text, err, 1000)
    return RecordEvent(RecordEventType.SYSCALL, 0, at, 1, syscall=data)


def texts_of(store, name):
    """Every text of a recording, read from its files."""
    with RecordReader(store.records / name, live=True) as reader:
        source = TextReader(reader)
        return [text.text for event in reader.bare_events() for text in source.texts(event)]


def having(store, text):
    """The recordings that hold a text, by reading them all."""
    wanted = fold(text)
    names = [one.name for one in store.records.iterdir()]
    return {name for name in names if any(wanted in fold(text) for text in texts_of(store, name))}
