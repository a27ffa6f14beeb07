"""What can be searched in a recording: every text in it, as a person reads it.

Messages (system prompts, what user, model and tools said, the arguments of tool calls), descriptions of tools,
arguments, results and errors of calls, bodies of HTTP requests. Not the JSON around them, nor headers, ids and hashes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    ErrorData,
    HttpRequest,
    HttpResponse,
    LLMResponseData,
    RecordEvent,
    SyscallEventData,
    ToolCall,
    ToolDef,
)
from unspool.providers import PROVIDERS
from unspool.recording.reader import RecordReader

__all__ = ["Text", "TextReader", "fold"]

_DEPTH: Final = 100  # what lies deeper in a value is left out: a hostile file, and no agent, goes there
_CAUSES: Final = 10


class Text(NamedTuple):
    """A text and the number of the first event that has it."""

    seq_num: int
    text: str


def fold(text: str) -> str:
    """The form in which texts are compared: without upper and lower case, and without what SQLite takes for an end."""
    folded = text.casefold().replace("\0", "\ufffd")
    if not folded.isascii():
        # Half a surrogate pair has no UTF-8 form.
        folded = folded.encode("utf-8", "replace").decode("utf-8")
    return folded


class TextReader:
    """Gives the texts of one recording, event by event; what was sent again is not given again."""

    def __init__(self, reader: RecordReader) -> None:
        self._reader = reader
        self._sent = reader.sent()
        self._heads: set[bytes] = set()
        self._given: set[int] = set()

    def texts(self, event: RecordEvent) -> Iterator[Text]:
        """The texts of an event, which is as it stands on disk; those that an event before had may be left out."""
        for text in self._of_event(event):
            if not text or text.isspace():
                continue
            key = hash(text)
            if key not in self._given:  # two texts of one hash: as likely as two equal ids
                self._given.add(key)
                yield Text(event.seq_num, text)

    def _of_event(self, event: RecordEvent) -> Iterator[str]:
        if event.context is not None:
            yield from self._of_context(event, event.context)
            return
        if event.state is not None:
            yield event.state.reason
            return
        self._reader.whole(event)
        if event.llm is not None:
            yield from _of_answer(event.llm)
        elif event.syscall is not None:
            yield from self._of_call(event.syscall)

    # --- contexts ----------------------------------------------------------------------------------------------------

    def _of_context(self, event: RecordEvent, data: ContextSnapshotData) -> Iterator[str]:
        call = self._sent.call(event)
        if call is None:
            context = self._reader.context_of(data)
            yield context.system_prompt or ""
            yield from map(_tool_text, context.tools)
            yield from map(_message_text, context.messages)
            return
        if data.messages is not None or data.message_list is not None:
            yield data.system_prompt or ""
            yield from map(_tool_text, data.tools or ())
        else:
            yield from self._of_head(data)
        for message in call.added:
            yield from map(_message_text, message.parts)

    def _of_head(self, data: ContextSnapshotData) -> Iterator[str]:
        """What stands beside the messages of a request: the same in most calls of a conversation."""
        body = data.request.body if data.request is not None else None
        provider = PROVIDERS.get(data.provider or "")
        emptied = self._reader.emptied_request(data) if body is not None and provider is not None else None
        if emptied is None or provider is None or emptied in self._heads:
            return
        self._heads.add(emptied)
        context = provider.parse_request("", emptied)
        yield context.system_prompt or ""
        yield from map(_tool_text, context.tools)
        yield from map(_message_text, context.messages)

    # --- calls -------------------------------------------------------------------------------------------------------

    def _of_call(self, data: SyscallEventData) -> Iterator[str]:
        path = data.args.get("path")
        where = path if isinstance(path, str) else ""
        if where.startswith("/dev/llm/"):  # its texts are those of its context and its answer
            yield where
        else:
            yield _joined([where, *(_value_text(value) for name, value in data.args.items() if name != "path")])
            yield _value_text(data.result)
        yield data.err
        yield from _of_error(data.error)
        for message in (data.request, data.response):
            if message is not None:
                yield from self._of_http(message)

    def _of_http(self, message: HttpRequest | HttpResponse) -> Iterator[str]:
        if isinstance(message, HttpRequest):
            yield message.url or ""
        body = self._reader.body(message.body) if message.body is not None else None
        if body:
            try:
                yield from _with_insides(body.decode("utf-8"))
            except UnicodeDecodeError:
                return  # a picture, a file: there are no words in it


def _of_answer(data: LLMResponseData) -> Iterator[str]:
    calls = [] if data.tool_calls is None else data.tool_calls
    yield _joined([data.text or "", *_call_texts(calls)])
    yield data.reasoning or ""
    yield from _of_error(data.error)


def _of_error(error: ErrorData | None) -> Iterator[str]:
    for _ in range(_CAUSES):
        if error is None:
            return
        yield f"{error.type}: {error.message}"
        yield _value_text(error.args)
        error = error.cause


def _message_text(message: CtxMessage) -> str:
    parts = [part.text or "" for part in message.parts or ()]
    return _joined([message.content, *_call_texts(message.tool_calls or ()), *parts])


def _call_texts(calls: Iterable[ToolCall]) -> Iterator[str]:
    for call in calls:
        yield call.name
        yield from _with_insides(call.arguments)


def _tool_text(tool: ToolDef) -> str:
    return _joined([tool.name, tool.description or "", _value_text(tool.schema)])


def _with_insides(text: str) -> Iterator[str]:
    """A text; if it is JSON in which something is escaped, what that says too."""
    yield text
    if "\\" in text and text.lstrip()[:1] in ("{", "[", '"'):
        try:
            yield _value_text(json.loads(text))
        except (ValueError, RecursionError):
            return  # it only looks like JSON


def _value_text(value: Any) -> str:
    """All texts in a value, a line each: keys, strings and numbers."""
    return _joined(_leaves(value, 0))


def _leaves(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, bool) or value is None or depth > _DEPTH:
        return
    elif isinstance(value, int):
        yield _int_text(value)
    elif isinstance(value, float):
        yield repr(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(key, str):
                yield key
            yield from _leaves(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item, depth + 1)


def _int_text(value: int) -> str:
    return str(value) if value.bit_length() < 4096 else hex(value)  # decimal has a limit of digits


def _joined(texts: Iterable[str]) -> str:
    return "\n".join(text for text in texts if text)
